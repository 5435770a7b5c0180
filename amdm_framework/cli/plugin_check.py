"""`amdm plugin-check`: does an installed model or strategy keep what the framework expects of it?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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

GENERAL_OF_A_STRATEGY = """
from amdm_framework.plugins import discover
from amdm_framework.testing.strategy_contract import GeneralStrategyContract

class TestContract(GeneralStrategyContract):
    strategy = discover().strategy({name!r})
"""

HOW_TO_ADD_ONE = (
    "no contract: only what needs no model was checked. Write a subclass of amdm_framework.testing.ProviderContract that "
    'makes a tiny model, and name it in the ProviderSpec: contract="module:Class"'
)

HOW_TO_ADD_ONE_TO_A_STRATEGY = (
    "no contract: what only its author can declare was not checked. Write a subclass of "
    'amdm_framework.testing.StrategyContract, and name it in the strategy: contract = "module:Class"'
)

MARKS = {"passed": ("ok  ", "green"), "failed": ("FAIL", "red"), "skipped": ("skip", "yellow")}


@dataclass(frozen=True)
class Report:
    """What came of one contract; printed as JSON under these names.

    Attributes:
        kind: `provider` or `strategy`.
        name: of the model or strategy.
        complete: whether it is its author's contract, not the general one.
        checks: one result per test.
    """

    kind: str
    name: str
    complete: bool
    checks: list[CheckResult]


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
    for (kind, one), contract in contracts.items():
        if not as_json:
            echo_title(f"{kind} {one}")
        results = run_contract(_source(kind, one, contract), partial(_echo_result, silent=as_json))
        report = Report(kind, one, contract is not None, results)
        if not as_json:
            _echo_summary(report)
        reports.append(report)
    if as_json:
        echo_json([asdict(report) for report in reports])
    if any(check.outcome == "failed" for report in reports for check in report.checks):
        ctx.exit(1)


def _contracts_of(registry: PluginRegistry, name: str) -> Mapping[tuple[str, str], str | None]:
    """Return for every model and strategy that a name stands for the contract that it names, if any."""
    contracts: dict[tuple[str, str], str | None] = {}
    for provider in registry.providers.values():
        if name in (provider.name, provider.distribution.name):
            contracts["provider", provider.name] = provider.value.contract
    for strategy in registry.strategies.values():
        if name in (strategy.name, strategy.distribution.name):
            contracts["strategy", strategy.name] = strategy.value.contract
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


def _source(kind: str, name: str, contract: str | None) -> str:
    """Return the source of the test module that runs a contract."""
    if contract is None:
        return (WITHOUT_A_CONTRACT if kind == "provider" else GENERAL_OF_A_STRATEGY).format(name=name)
    module, _, class_name = contract.partition(":")
    return WITH_A_CONTRACT.format(module=module, name=class_name)


def _echo_result(result: CheckResult, silent: bool) -> None:
    if silent:
        return
    mark, colour = MARKS[result.outcome]
    words = result.name.removeprefix("test_").replace("_", " ")
    click.echo(f"  {click.style(mark, fg=colour)}  {words}")
    if result.outcome != "passed":
        meaning = result.meaning if result.outcome == "failed" else ""
        click.echo(textwrap.indent("\n".join(filter(None, (meaning, result.reason))), " " * 8))


def _echo_summary(report: Report) -> None:
    counts = [(sum(check.outcome == outcome for check in report.checks), outcome) for outcome in MARKS]
    click.echo(f"{len(report.checks)} checks: {', '.join(f'{count} {outcome}' for count, outcome in counts if count)}")
    if not report.complete:
        click.echo(HOW_TO_ADD_ONE if report.kind == "provider" else HOW_TO_ADD_ONE_TO_A_STRATEGY)
