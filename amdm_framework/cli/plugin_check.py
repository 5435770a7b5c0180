"""`amdm plugin-check`: does an installed model or strategy keep what the framework expects of it?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError, PluginError, did_you_mean
from ..plugins import PluginRegistry
from .results import echo_json, echo_title, json_option

if TYPE_CHECKING:
    from ..testing.contract_run import CheckResult

WITH_A_CONTRACT = """
from {module} import {name} as TestContract
"""

WITHOUT_A_CONTRACT = """
from amdm_framework.plugins import discover
from amdm_framework.testing.spec_checks import SpecChecks

class TestContract(SpecChecks):
    spec = discover().provider({name!r})
"""

# Two tests need what only its author's own subclass says: whether the rule keeps what all members agree on, and which
# options give everything to the target.
OF_A_STRATEGY = """
from amdm_framework.plugins import discover
from amdm_framework.testing import StrategyContract

class TestContract(StrategyContract):
    strategy = discover().strategy({name!r})
    test_members_that_agree_draw_the_targets_picture = None
    test_all_weight_on_the_target_is_the_target_alone = None
"""

HOW_TO_ADD_ONE = (
    "no contract: only what needs no model was checked. Write a subclass of amdm_framework.testing.ProviderContract that "
    'makes a tiny model, and name it in the ProviderSpec: contract="module:Class"'
)

MARKS = {"passed": ("ok  ", "green"), "failed": ("FAIL", "red"), "skipped": ("skip", "yellow")}


@click.command("plugin-check", short_help="Run the contract tests of an installed plugin.")
@click.argument("name")
@json_option
@click.pass_context
def plugin_check(ctx: click.Context, name: str, as_json: bool) -> None:
    """Run the contract of NAME: an installed model, strategy, or distribution with all that it registers.

    Exit code 1 where a check fails. Needs the extra `testing`.
    """
    registry = ctx.find_object(PluginRegistry)
    assert registry is not None
    contracts = _contracts_of(registry, name)
    try:
        from ..testing.contract_run import run_contract
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise InputError("plugin-check needs pytest: pip install 'amdm-framework[testing]'") from None
    reports = []
    for (kind, one), source in contracts.items():
        if not as_json:
            echo_title(f"{kind} {one}")
        results = run_contract(source, partial(_echo_result, silent=as_json))
        complete = kind == "strategy" or registry.provider(one).contract is not None
        if not as_json:
            _echo_summary(results, complete)
        reports.append({"kind": kind, "name": one, "complete": complete, "checks": [asdict(each) for each in results]})
    if as_json:
        echo_json(reports)
    if any(check["outcome"] == "failed" for report in reports for check in report["checks"]):  # type: ignore[attr-defined]
        ctx.exit(1)


def _contracts_of(registry: PluginRegistry, name: str) -> Mapping[tuple[str, str], str]:
    """Return for every model and strategy that a name stands for the source of its test module."""
    contracts = {}
    for provider in registry.providers.values():
        if name in (provider.name, provider.distribution.name):
            source = WITHOUT_A_CONTRACT.format(name=provider.name)
            if provider.value.contract is not None:
                module, _, contract = provider.value.contract.partition(":")
                source = WITH_A_CONTRACT.format(module=module, name=contract)
            contracts["provider", provider.name] = source
    for strategy in registry.strategies.values():
        if name in (strategy.name, strategy.distribution.name):
            contracts["strategy", strategy.name] = OF_A_STRATEGY.format(name=strategy.name)
    broken = [f for f in registry.failures if name in (f.name, f.plugin.entry_point, f.plugin.distribution.name)]
    if broken:
        raise PluginError(f"{name} is broken: {'; '.join(map(str, broken))}")
    if not contracts:
        offers: list[Any] = [*registry.providers.values(), *registry.strategies.values()]
        known = {word for offer in offers for word in (offer.name, offer.distribution.name)}
        raise PluginError(
            f"there is no provider, strategy or distribution '{name}'.{did_you_mean(name, known)} `amdm plugins` lists "
            "what is installed"
        )
    return contracts


def _echo_result(result: CheckResult, silent: bool) -> None:
    if silent:
        return
    mark, colour = MARKS[result.outcome]
    words = result.name.removeprefix("test_").replace("_", " ")
    click.echo(f"  {click.style(mark, fg=colour)}  {words}")
    if result.outcome != "passed":
        meaning = result.meaning if result.outcome == "failed" else ""
        click.echo(textwrap.indent("\n".join(filter(None, (meaning, result.reason))), " " * 8))


def _echo_summary(results: list[CheckResult], complete: bool) -> None:
    counts = [(sum(result.outcome == outcome for result in results), outcome) for outcome in MARKS]
    click.echo(f"{len(results)} checks: {', '.join(f'{count} {outcome}' for count, outcome in counts if count)}")
    if not complete:
        click.echo(HOW_TO_ADD_ONE)
