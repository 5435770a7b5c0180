"""`amdm plugins` and `amdm strategies`: what is installed, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import AMDMError
from ..plugins import PluginRegistry
from .results import echo_json, echo_title, json_option

if TYPE_CHECKING:
    from ..descriptions import BenchmarkDescription, OptionDescription, ProviderDescription, StrategyDescription


@click.command(short_help="List what is installed, and what is broken.")
@json_option
@click.pass_obj
def plugins(registry: PluginRegistry, as_json: bool) -> None:
    """List what is installed: models, strategies, benchmarks and weights, where they come from, and the options they take."""
    installed = registry.describe()
    if as_json:
        echo_json(asdict(installed))
        return
    echo_title("plugins")
    for plugin in installed.plugins:
        click.echo(f"  {plugin.entry_point}  ({plugin.distribution} {plugin.version})  {plugin.status}")
        _echo_reason(plugin.reason)
    for title, described in (("providers", installed.providers), ("strategies", installed.strategies)):
        click.echo()
        echo_title(title)
        for one in described:
            _echo_described(one)
    if installed.benchmarks:
        click.echo()
        echo_title("benchmarks")
        for benchmark in installed.benchmarks:
            _echo_benchmark(benchmark)
    if installed.checkpoint_sources:
        click.echo()
        echo_title("checkpoint sources")
        for source in installed.checkpoint_sources:
            click.echo(f"  {source.name}://  ({source.distribution} {source.version})  {source.status}")
            _echo_reason(source.reason)


@click.command(short_help="List the rules of aggregation, or explain one.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def strategies(registry: PluginRegistry, name: str | None, as_json: bool) -> None:
    """List the aggregation strategies, or explain the one called NAME."""
    installed = registry.describe().strategies
    if name is not None:
        registry.strategy(name)
        installed = tuple(one for one in installed if one.name == name)
    costs = {one.name: _cost(registry, one.name) for one in installed if one.status == "ok"}
    if as_json:
        rows = [{**asdict(one), "cost": costs.get(one.name, "")} for one in installed]
        echo_json(rows if name is None else rows[0])
        return
    width = max((len(one.name) for one in installed), default=0)
    for one in installed:
        if name is None:
            click.echo(f"{click.style(one.name.ljust(width), bold=True)}  {one.summary or one.status}")
            _echo_reason(one.reason)
        else:
            _echo_strategy(one, costs[one.name])


def _cost(registry: PluginRegistry, name: str) -> str:
    from pydantic import ValidationError

    strategy_class = registry.strategy(name)
    counts = []
    for count in (2, 3):
        try:
            strategy = strategy_class(strategy_class.options())
            strategy.begin(count, 50)
        except (AMDMError, ValidationError):
            continue
        evaluations = sum(len(strategy.evaluated(index)) for index in range(50))
        counts.append(f"{evaluations} with {count} models")
    if not counts:
        return "depends on its options"
    return f"network evaluations for 50 steps at its defaults: {', '.join(counts)} (the target alone: 50)"


def _echo_strategy(one: StrategyDescription, cost: str) -> None:
    echo_title(one.name)
    click.echo(f"  {one.summary}\n")
    target = "the first model is privileged" if one.privileged_target else "all models alike"
    regions = "; acts on the scene's boxes" if one.needs_regions else ""
    click.echo(f"  formula  {one.formula}")
    click.echo(f"  mixes    {one.space}")
    click.echo(f"  target   {target}{regions}")
    click.echo(f"  cost     {cost}")
    click.echo(f"  source   {one.source}")
    click.echo(f"  from     {one.distribution} {one.version}")
    if one.options:
        click.echo()
        _echo_options(one.options)


def _echo_described(one: ProviderDescription) -> None:
    click.echo(f"  {click.style(one.name, bold=True)}  ({one.distribution} {one.version})  {one.summary or one.status}")
    _echo_reason(one.reason)
    _echo_options(one.options)


def _echo_benchmark(one: BenchmarkDescription) -> None:
    click.echo(f"  {click.style(one.name, bold=True)}  ({one.distribution} {one.version})  {one.summary or one.status}")
    _echo_reason(one.reason)
    width = max(map(len, one.figures), default=0)
    for name, meaning in one.figures.items():
        click.echo(f"      {name.ljust(width)}  {meaning}{' (the objective)' if name == one.objective else ''}")


def _echo_options(options: Sequence[OptionDescription]) -> None:
    width = max((len(option.name) for option in options), default=0)
    for option in options:
        default = "required" if option.required else f"default {_shown(option.default)}"
        click.echo(f"      {option.name.ljust(width)}  {option.type}, {default}")
        if option.description:
            click.echo(f"      {''.ljust(width)}  {option.description}")


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _echo_reason(reason: str) -> None:
    if reason:
        click.echo(f"      {reason}")
