"""`amdm compare`: one composition under several strategies."""

from __future__ import annotations

from typing import Any

import click

from ..errors import AMDMError
from ..plugins import PluginRegistry
from .laboratory import carry_out, laboratory_options, read_experiment
from .request import set_option


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

    The composition's options of aggregation belong to its own strategy. Every other one runs with its defaults; to give
    it options, let `amdm sweep` vary the whole block:
    --set "aggregation={strategy: amdm, steps: 5},{strategy: slerp, weights: [0.3]}".

    Exit codes: 0 done, 1 some variants failed, 2 the input was wrong or all failed, 130 interrupted.
    """
    from ..laboratory.report import Arrangement
    from ..laboratory.strategy_variants import alone_variants, strategy_variants

    experiment = read_experiment(plugins, options, overrides)
    resolved = experiment.resolved()
    checked = []
    if resolved is not None and experiment.source is not None and experiment.checker is not None:
        own = resolved.strategy.name
        everything = strategies.strip() == "all"
        names = [own] if everything else list(dict.fromkeys(name.strip() for name in strategies.split(",")))
        variants = strategy_variants(experiment.source, own, names)
        if alone:
            variants = [*alone_variants(experiment.source, resolved), *variants]
        with experiment.collecting():
            checked = experiment.checker.check_all(variants)
        # Where the composition can be drawn as it is written, what is wrong with another strategy is the strategy's.
        others = [name for name in plugins.strategies if name != own] if everything and not experiment.problems else []
        for variant in strategy_variants(experiment.source, own, others):
            try:
                checked.append(experiment.checker.check(variant))
            except AMDMError as error:
                experiment.left_out[variant.label] = str(error)
    experiment.stop_at_problems()
    carry_out(experiment, "compare", checked, Arrangement([one.variant.label for one in checked]))
