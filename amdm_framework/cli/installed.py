"""`amdm plugins` and `amdm strategies`: what is installed, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import AMDMError, PluginError, did_you_mean
from ..plugins import PluginRegistry
from .results import echo_json, echo_title, json_option

if TYPE_CHECKING:
    from ..descriptions import (
        BenchmarkDescription,
        CheckpointSourceDescription,
        ExampleDescription,
        InstalledDescription,
        OptionDescription,
        PluginDescription,
        ProviderDescription,
        StrategyDescription,
    )


@click.command(short_help="List what is installed, and what is broken.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def plugins(registry: PluginRegistry, name: str | None, as_json: bool) -> None:
    """List what is installed: models, strategies, benchmarks, examples and weights, and where they come from.

    With NAME, that of one of them or of a package: this alone, with the options that it takes.
    """
    installed = registry.describe()
    if name is not None:
        installed = _called(name, installed)
    if as_json:
        echo_json(asdict(installed))
        return
    parts: list[tuple[str, list[Callable[[], None]]]] = [
        ("plugins", [partial(_echo_row, one, one.entry_point, one.status) for one in installed.plugins]),
        ("providers", [partial(_echo_described, one, name is not None) for one in installed.providers]),
        ("strategies", [partial(_echo_described, one, name is not None) for one in installed.strategies]),
        ("benchmarks", [partial(_echo_benchmark, one, name is not None) for one in installed.benchmarks]),
        ("examples", [partial(_echo_example, one, name is not None) for one in installed.examples]),
        (
            "checkpoint sources",
            [partial(_echo_row, one, f"{one.name}://", one.status) for one in installed.checkpoint_sources],
        ),
    ]
    for title, rows in parts:
        if rows:
            echo_title(title)
            for echo_row in rows:
                echo_row()
            click.echo()
    if name is None:
        click.echo("`amdm plugins NAME` shows the options of one.")


def _called(name: str, installed: InstalledDescription) -> InstalledDescription:
    known: set[str] = set()
    chosen: dict[str, Any] = {}
    for part in fields(installed):
        rows = getattr(installed, part.name)
        names = [{one.distribution, getattr(one, "name", one.distribution)} for one in rows]
        chosen[part.name] = tuple(one for one, called in zip(rows, names, strict=True) if name in called)
        known.update(*names)
    if not any(chosen.values()):
        raise PluginError(f"nothing installed is called '{name}'.{did_you_mean(name, known)} `amdm plugins` lists all.")
    return replace(installed, **chosen)


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


def _echo_row(
    one: PluginDescription
    | ProviderDescription
    | BenchmarkDescription
    | ExampleDescription
    | CheckpointSourceDescription,
    name: str,
    text: str,
) -> None:
    click.echo(f"  {click.style(name, bold=True)}  ({one.distribution} {one.version})  {text}")
    _echo_reason(one.reason)


def _echo_described(one: ProviderDescription, with_options: bool) -> None:
    _echo_row(one, one.name, one.summary or one.status)
    if with_options:
        _echo_options(one.options)


def _echo_benchmark(one: BenchmarkDescription, with_figures: bool) -> None:
    _echo_row(one, one.name, one.summary or one.status)
    if not with_figures:
        return
    width = max(map(len, one.figures), default=0)
    for name, meaning in one.figures.items():
        click.echo(f"      {name.ljust(width)}  {meaning}{' (the objective)' if name == one.objective else ''}")


def _echo_example(one: ExampleDescription, with_files: bool) -> None:
    _echo_row(one, one.name, one.summary or one.status)
    if with_files and one.status == "ok":
        click.echo(f"      composition  {one.composition}")
        click.echo(f"      scene        {one.scene}")


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
