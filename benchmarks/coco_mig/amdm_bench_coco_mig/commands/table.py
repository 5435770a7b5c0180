"""`amdm bench coco-mig table`: everything that leads to a table like the paper's, in one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from amdm_bench_coco_mig.commands.options import judge_options, scene_options
from amdm_bench_coco_mig.commands.results import give_report
from amdm_framework.cli.batch import (
    check_engine_options,
    device_here,
    drawing_options,
    echo_failures,
    prepare_engine,
    summary_line,
)
from amdm_framework.errors import AMDMError, InputError, Problem
from amdm_framework.plugins import PluginRegistry

if TYPE_CHECKING:
    from amdm_bench_coco_mig.rows import Row
    from amdm_framework.batch.coco_mig import Entry
    from amdm_framework.batch.engine import Engine
    from amdm_framework.batch.jobs import Job
    from amdm_framework.batch.ledger import Header

    Batch = tuple[Row, Header, Engine]


@click.command(short_help="Draw and judge everything, for the paper's table.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@click.argument("compositions", metavar="COMPOSITION...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Folder for the pictures, scores and table."
)
@click.option("--force", is_flag=True, help="Go on even with another composition, other settings or changed scenes.")
@scene_options
@judge_options
@drawing_options
def table(
    ctx: click.Context,
    benchmark: Path,
    compositions: tuple[Path, ...],
    output: Path,
    force: bool,
    negative: str,
    style: Path | None,
    detector: str,
    segmenter: str,
    partial: bool,
    base_seed: int,
    overrides: tuple[str, ...],
    no_progress: bool,
    as_json: bool,
    **drawing: Any,
) -> None:
    """Draw the pictures of the file BENCHMARK with each COMPOSITION (a YAML file) and judge them, all in one table.

    Each target is drawn alone first, once for all compositions that share it. Every row has a folder below --output,
    with its ledger and its scores; the table is written there as table.json, too. Benchmark, compositions, judges and
    folders are checked before anything is drawn; judges that are not here are fetched then.

    After an interruption the same command goes on: nothing is drawn or judged twice.

    Exit codes: 0 done, 1 some pictures failed, 2 the input was wrong or the disk or device failed, 130 interrupted.
    """
    import torch

    from amdm_bench_coco_mig.benchmark_file import read_benchmark
    from amdm_bench_coco_mig.drawing_times import TimedEngine
    from amdm_bench_coco_mig.evaluation import examine_folder, judge_folders
    from amdm_bench_coco_mig.judges import Judges
    from amdm_bench_coco_mig.report import make_report
    from amdm_bench_coco_mig.rows import TABLE_NAME, plan_rows
    from amdm_bench_coco_mig.scenes import make_jobs
    from amdm_framework.batch.run import check_batch
    from amdm_framework.devices import choose_device
    from amdm_framework.models.context import LoadContext
    from amdm_framework.picture_files import check_folder
    from amdm_framework.scene import read_scene

    plugins = ctx.find_object(PluginRegistry)
    assert plugins is not None
    check_engine_options(drawing)
    device = choose_device(device_here(drawing["engine"], drawing["device"]))
    judges = Judges(detector, segmenter, LoadContext(device, torch.float32, Path(), plugins.checkpoint_sources))
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    jobs: list[Job] = []
    rows: list[Row] = []
    try:
        entries = read_benchmark(benchmark)
        jobs = make_jobs(entries, benchmark.parent, negative, style, base_seed)
    except InputError as error:
        problems += error.problems
    try:
        rows = plan_rows(compositions, overrides, output, plugins)
    except InputError as error:
        problems += error.problems
    try:
        check_folder(output)
    except InputError as error:
        problems += error.problems
    # Where a part is enough, a scene may fail alone.
    scenes = [] if partial else [read_scene(job.scene, Path(job.base_dir)) for job in jobs]
    batches: list[Batch] = []
    for row in rows:
        try:
            header, engine = prepare_engine(row.resolved, scenes, plugins, **drawing)
            check_batch(jobs, row.folder, header, resume=True, force=force)
            batches.append((row, header, TimedEngine(engine, row.folder)))
        except InputError as error:
            problems += [replace(problem, file=problem.file or str(row.file)) for problem in error.problems]
        except AMDMError as error:
            problems.append(Problem(str(error), file=str(row.file)))
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    # Last, because this may fetch some gigabytes.
    judges.find()
    try:
        failed = _draw(batches, jobs, force, not no_progress)
        if failed and not partial:
            click.echo(f"{failed} pictures failed: the same command tries them again, --partial does without", err=True)
            ctx.exit(1)
        folders = [examine_folder(row.folder, entries, partial) for row in rows]
        scored = judge_folders(folders, entries, judges, not no_progress, keep=True)
    except KeyboardInterrupt:
        click.echo("what is drawn and judged is kept; the same command goes on", err=True)
        raise
    report = make_report(scored, entries, str(benchmark), {"detector": detector, "segmenter": segmenter})
    give_report(report, output / TABLE_NAME, as_json)
    if failed:
        ctx.exit(1)


def _draw(batches: Sequence[Batch], jobs: Sequence[Job], force: bool, progress: bool) -> int:
    from amdm_framework.batch.run import run_batch

    failed = 0
    for number, (row, header, engine) in enumerate(batches, 1):
        click.echo(f"{row.folder} ({number} of {len(batches)}): {row.label}", err=True)
        summary = run_batch(jobs, engine, row.folder, header, resume=True, force=force, progress=progress)
        echo_failures(summary)
        click.echo(summary_line(summary), err=True)
        failed += len(summary.failed)
    return failed
