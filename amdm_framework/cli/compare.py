"""`amdm compare`: one composition under several strategies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import AMDMError, InputError, Problem
from ..plugins import PluginRegistry
from .laboratory import Experiment, carry_out, laboratory_options, read_experiment
from .request import set_option

if TYPE_CHECKING:
    from ..laboratory.variants import CheckedVariant, Source, VariantChecker


@click.command(short_help="Draw a scene with several strategies, side by side.")
@laboratory_options
@click.option(
    "--strategies",
    required=True,
    help="Names of strategies, separated by commas: the columns of the grid; or `all`, the composition's own first and "
    "every other one that can run (`amdm strategies` lists them).",
)
@click.option("--alone", is_flag=True, help="Show every member without the others, in the first columns.")
@set_option
@click.pass_obj
def compare(
    plugins: PluginRegistry, /, strategies: str, alone: bool, overrides: tuple[str, ...], **options: Any
) -> None:
    """Draw a scene with the models of COMPOSITION (a YAML file) under several strategies, side by side.

    Writes a labelled grid, a column for every strategy and a row for every seed, and its figures as CSV; both are named
    after the scene, and existing files are never overwritten. The models are loaded once.

    The composition's options of aggregation belong to its own strategy, and are not looked at where that is no column.
    Every other one runs with its defaults; to give it options, let `amdm sweep` vary the whole block:
    --set "aggregation={strategy: amdm, steps: 5},{strategy: slerp, weights: [0.3]}".

    Exit codes: 0 done, 1 some variants failed, 2 the input was wrong or all failed, 130 interrupted.
    """
    from ..laboratory.report import Arrangement
    from ..laboratory.strategy_variants import alone_variants, own_strategy, strategy_variants, with_window

    experiment = read_experiment(plugins, options, overrides)
    source, checker = experiment.source, experiment.checker
    names: list[str] = []
    with experiment.collecting():
        names = _names(strategies, plugins)
    checked: list[CheckedVariant] = []
    if source is not None and checker is not None:
        own = own_strategy(source)
        everything = names == ["all"]
        if names and not everything and own not in names:
            experiment.problems += _without_effect(overrides, own, names[0])
        # What is written about the composition's own strategy matters only where that is a column.
        if everything and not experiment.problems:
            checked = _that_can_run(experiment, checker, source, plugins)
        else:
            with experiment.collecting():
                variants = strategy_variants(source, own, names if names and not everything else [own])
                checked = checker.check_all(variants)
        _name_the_strategy(experiment.problems, own)
        checked = [with_window(one, own) for one in checked]
        if alone and checked:
            with experiment.collecting():
                checked = [*checker.check_all(alone_variants(source, checked[0].resolved)), *checked]
    experiment.stop_at_problems()
    experiment.require_consent(len(checked), checked[-1].variant)
    # A line for the strategy, and one for its options.
    labels = [one.variant.label.replace(" (", "\n(") for one in checked]
    carry_out(experiment, "compare", checked, Arrangement(labels))


def _names(text: str, plugins: PluginRegistry) -> list[str]:
    """Read the names of --strategies.

    Raises:
        InputError: with every mistake.
    """
    names = [name.strip() for name in text.split(",")]
    if not any(names):
        raise InputError([Problem("no name given: `all`, or names separated by commas", "--strategies")])
    if names == ["all"]:
        return names
    problems = []
    for name, count in Counter(names).items():
        if not name:
            problems.append(Problem(f"a name is empty in {text!r}", "--strategies"))
        elif name == "all":
            problems.append(Problem("'all' stands alone", "--strategies"))
        elif count > 1:
            problems.append(Problem(f"{name} is given twice", "--strategies"))
        else:
            try:
                plugins.strategy(name)
            except AMDMError as error:
                problems.append(Problem(str(error), "--strategies"))
    if problems:
        raise InputError(problems)
    return names


def _that_can_run(
    experiment: Experiment, checker: VariantChecker, source: Source, plugins: PluginRegistry
) -> list[CheckedVariant]:
    from ..laboratory.strategy_variants import own_strategy, strategy_variants

    own = own_strategy(source)
    checked: list[CheckedVariant] = []
    first: AMDMError | None = None
    for variant in strategy_variants(source, own, [own, *(name for name in plugins.strategies if name != own)]):
        try:
            checked.append(checker.check(variant))
        except AMDMError as error:
            first = first or error
            experiment.left_out[variant.label] = "; ".join(str(error).splitlines())
    if not checked and first is not None:
        # Where none can run it is not for the strategy.
        experiment.problems += first.problems if isinstance(first, InputError) else [Problem(str(first))]
    return checked


def _without_effect(overrides: Sequence[str], own: str, other: str) -> list[Problem]:
    return [
        Problem(
            f"{override} belongs to {own} (the composition's strategy), which is not among the columns. "
            f'To give options to {other}: --set "aggregation={{strategy: {other}{_as_option(override)}}}"',
            "--set",
        )
        for override in overrides
        if override.partition("=")[0].split(".")[0] == "aggregation"
    ]


def _as_option(override: str) -> str:
    key, _, value = override.partition("=")
    option = key.removeprefix("aggregation.")
    return "" if option in (key, "strategy") or "." in option else f", {option}: {value}"


def _name_the_strategy(problems: list[Problem], own: str) -> None:
    """Say whose keys are meant, where a key of the composition's own strategy is not known."""
    for position, problem in enumerate(problems):
        if problem.key.startswith("aggregation.") and "Known keys:" in problem.message:
            message = problem.message.replace("Known keys:", f"Known keys of {own} (the composition's strategy):")
            problems[position] = replace(problem, message=message)
