"""`amdm ablate`: what every member of a composition is there for."""

from __future__ import annotations

from typing import Any

import click

from ..plugins import PluginRegistry
from .laboratory import carry_out, laboratory_options, read_experiment
from .request import set_option


@click.command(short_help="Leave each model out in turn, and show the difference.")
@laboratory_options
@set_option
@click.pass_obj
def ablate(plugins: PluginRegistry, /, overrides: tuple[str, ...], **options: Any) -> None:
    """Draw a scene with COMPOSITION (a YAML file), then without each of its members, then with each alone.

    Writes a labelled grid, a column for every variant and a row for every seed, and its figures as CSV, with how far
    each picture differs from that of all members; both are named after the scene, and existing files are never
    overwritten. The models are loaded once, and all pictures of a row have the same seed.

    Where the target is left out, the next member becomes it. Options with a value for every member or secondary, such
    as weights and step sizes, lose the value of the one that is left out; what the strategy cannot do without that
    member is left out, with the reason.

    Exit codes: 0 done, 1 some variants failed, 2 the input was wrong or all failed, 130 interrupted.
    """
    from ..laboratory.ablation import ablation_variants
    from ..laboratory.report import Arrangement

    experiment = read_experiment(plugins, options, overrides)
    resolved = experiment.resolved()
    checked = []
    if resolved is not None and experiment.source is not None and experiment.checker is not None:
        with experiment.collecting():
            variants, experiment.left_out = ablation_variants(experiment.source, resolved, experiment.checker)
            experiment.require_consent(len(variants), variants[0])
            checked = experiment.checker.check_all(variants)
    experiment.stop_at_problems()
    carry_out(experiment, "ablate", checked, Arrangement([one.variant.label for one in checked]), compared=True)
