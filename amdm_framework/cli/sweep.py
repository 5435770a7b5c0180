"""`amdm sweep`: one composition under every combination of some settings."""

from __future__ import annotations

import math
from typing import Any

import click

from ..plugins import PluginRegistry
from .laboratory import carry_out, laboratory_options, read_experiment


@click.command(short_help="Draw a scene under every combination of settings.")
@laboratory_options
@click.option(
    "--set",
    "settings",
    metavar="KEY=V1,V2,...",
    multiple=True,
    help="Values of a key of the composition, e.g. aggregation.steps=0,1,3 or providers.1.scale=0.5,1. Repeatable: "
    "every combination is drawn. A comma inside brackets or quotes belongs to the value: aggregation.weights=[0.3],[0.5]. "
    "A key with one value has it in all pictures.",
)
@click.pass_obj
def sweep(plugins: PluginRegistry, /, settings: tuple[str, ...], **options: Any) -> None:
    """Draw a scene with COMPOSITION (a YAML file) under every combination of some settings.

    Writes a labelled grid and its figures as CSV, one line per combination and seed; both are named after the scene,
    and existing files are never overwritten. The values of the last key that varies are the columns, those of the
    others and the seeds are the rows. Models are loaded once, and again only where one of their own options varies.

    With --benchmark every combination is scored, too: the scores are means over the benchmark's own cases. Without
    --scene the grid shows the first of these.

    Exit codes: 0 done, 1 some combinations failed, 2 the input was wrong or all failed, 130 interrupted.
    """
    from ..laboratory.report import Arrangement
    from ..laboratory.sweep import Setting, arrange, member_names, parse_settings, sweep_variants

    experiment = read_experiment(plugins, options)
    parsed = None
    with experiment.collecting():
        parsed = parse_settings(settings)
    checked = []
    arrangement = Arrangement([])
    if parsed is not None and experiment.source is not None and experiment.checker is not None:
        members = member_names(experiment.source)
        with experiment.collecting():
            first = sweep_variants(experiment.source, [Setting(one.key, one.values[:1]) for one in parsed], members)[0]
            experiment.require_consent(math.prod(len(one.values) for one in parsed), first)
            arrangement = arrange(parsed, members)
            checked = experiment.checker.check_all(sweep_variants(experiment.source, parsed, members))
    experiment.stop_at_problems()
    carry_out(experiment, "sweep", checked, arrangement)
