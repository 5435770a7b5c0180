"""`amdm bench shapes`. Importing it loads nothing heavy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import click

from amdm_framework.errors import InputError, Problem, did_you_mean
from amdm_framework.plugins import PluginRegistry
from amdm_shapes_zoo.bench.rows import (
    AGGREGATES,
    RULES,
    Window,
    rows_aggregated,
    rows_alone,
    windows_at_all_positions,
)


@click.command()
@click.option(
    "--scenes",
    type=click.IntRange(4, 1000),
    default=120,
    show_default=True,
    help="Number of scenes, as many of each level (1 to 4 instances).",
)
@click.option(
    "--strategies",
    metavar="A,B,..|all",
    help=f"Rules by which models are aggregated: {', '.join(RULES)} "
    f"[{','.join(name for name, rule in RULES.items() if rule.default)}].",
)
@click.option(
    "--models",
    metavar="A,B,..|all",
    help=f"What is added to InteractDiffusion: {', '.join(AGGREGATES)} [all; migc with --positions].",
)
@click.option(
    "--windows", default="3", show_default=True, metavar="S,S,..", help="Numbers of aggregated steps to measure."
)
@click.option(
    "--positions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PNG",
    help="Aggregate at every position of the run, not only from its first step on, and draw a plot of it.",
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Number of sampling steps T.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of scenes and noise.")
@click.option("--held-out", is_flag=True, help="Measure on the scenes that are kept for evaluation alone.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, mps or auto.")
@click.option(
    "--processes", type=click.IntRange(1), help="How many share the work [on the CPU one per core, elsewhere 1]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file, too, as JSON."
)
@click.pass_obj
def shapes(
    plugins: PluginRegistry,
    scenes: int,
    strategies: str | None,
    models: str | None,
    windows: str,
    positions: Path | None,
    steps: int,
    seed: int,
    held_out: bool,
    device: str,
    processes: int | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure the embedded models on scenes of the world of shapes, alone and aggregated, as in the paper's Table 1.

    A judge reads every picture: the share of instances with the right colour (ISR), how well they fill their boxes
    (mIoU, 0 where the colour is wrong), the right shape, interaction (action) and background (style, that of the
    reference picture). The same seed gives the same figures.
    """
    problems: list[Problem] = []
    installed = [name for name, rule in RULES.items() if rule.strategy in plugins.strategies]
    usual_rules = [name for name in installed if RULES[name].default]
    rules = _chosen(strategies, installed, usual_rules, "--strategies", problems)
    added = _chosen(models, AGGREGATES, ["migc"] if positions else list(AGGREGATES), "--models", problems)
    lengths = _lengths(windows, steps, problems)
    if scenes % 4:
        problems.append(Problem(f"found {scenes}, expected a multiple of 4: as many scenes of each level", "--scenes"))
    if problems:
        raise InputError(problems)

    from amdm_framework.picture_files import check_folder, replace_file
    from amdm_shapes_zoo.bench.measure import COMPOSITION, Job, rows_that_fit
    from amdm_shapes_zoo.bench.plot import plot_positions, require_matplotlib
    from amdm_shapes_zoo.bench.report import as_text, measure_report
    from amdm_shapes_zoo.bench.table import table

    if positions is not None:
        require_matplotlib()
    for path in (positions, output):
        if path is not None:
            check_folder(path.parent)
    chosen_windows: Sequence[Window] = windows_at_all_positions(lengths, steps) if positions else lengths
    command = ["amdm", "bench", "shapes", "--scenes", str(scenes), "--strategies", ",".join(rules)]
    command += ["--models", ",".join(added), "--windows", ",".join(map(str, lengths)), "--steps", str(steps)]
    command += ["--seed", str(seed), "--device", device]
    command += ["--held-out"] if held_out else []
    command += ["--positions", positions.name] if positions else []
    fitting, left_out = rows_that_fit(rows_aggregated(added, rules, chosen_windows), steps, COMPOSITION, plugins)
    for reason in left_out:
        click.echo(f"left out: {reason}", err=True)
    rows = (*rows_alone(added, rules), *fitting)
    job = Job(rows, scenes, seed, held_out, steps, device, COMPOSITION)
    report = measure_report(job, processes, shlex.join(command), left_out, plugins)
    if output is not None:
        replace_file(output, lambda file: file.write(as_text(report).encode()))
    if positions is not None:
        replace_file(positions, partial(plot_positions, report))
    click.echo(as_text(report) if as_json else table(report), nl=not as_json)


def _chosen(
    given: str | None, known: Iterable[str], usual: list[str], option: str, problems: list[Problem]
) -> list[str]:
    if given is None:
        return usual
    known = list(known)
    if given == "all":
        return known
    names = list(dict.fromkeys(name.strip() for name in given.split(",")))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            problems.append(Problem(f"there is no {name!r}.{hint} Known: all, {', '.join(known)}", option))
    return names


def _lengths(given: str, steps: int, problems: list[Problem]) -> list[int]:
    lengths = []
    for word in dict.fromkeys(word.strip() for word in given.split(",")):
        if not word.isdecimal() or not 1 <= int(word) <= steps:
            problems.append(Problem(f"found {word!r}, expected numbers from 1 to {steps} (--steps)", "--windows"))
        else:
            lengths.append(int(word))
    return lengths
