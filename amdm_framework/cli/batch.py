"""`amdm batch`: draw many scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..plugins import PluginRegistry
from .request import Decorator, SeedType, device_option, dtype_option, read_request, set_option
from .results import echo_json, json_option, printable

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..batch.jobs import Job
    from ..batch.ledger import Header
    from ..batch.run import BatchSummary
    from ..composition import ResolvedComposition
    from ..scene import Scene

_SHOWN_FAILURES = 20

_BATCH_OPTIONS: tuple[Decorator, ...] = (
    click.argument("composition", type=click.Path(path_type=Path)),
    click.option(
        "--output", type=click.Path(path_type=Path), required=True, help="Folder for the pictures and the ledger."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Stop after so many scenes of the list."),
    click.option("--resume", is_flag=True, help="Go on with the batch in the folder: draw what is missing or failed."),
    click.option(
        "--force",
        is_flag=True,
        help="With --resume: go on even with another composition, other settings or changed scenes.",
    ),
)
_DRAWING_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--batch-size",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Scenes that are drawn at once.",
    ),
    click.option(
        "--seed",
        "base_seed",
        type=SeedType(),
        default=0,
        show_default=True,
        help="What the seeds of scenes that name none are derived from, together with their names.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where to draw: on this machine, or on a Ray cluster.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 4096),
        default=1,
        show_default=True,
        help="Processes that hold the models and draw.",
    ),
    click.option(
        "--address",
        show_default="a cluster of its own on this machine",
        help="Of the Ray cluster: auto (the one that this machine belongs to), HOST:PORT or ray://HOST:PORT.",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(0, 64),
        show_default="1 where the Ray cluster has GPUs, else 0",
        help="What a worker of the Ray cluster takes, beside one CPU.",
    ),
    set_option,
    device_option,
    dtype_option,
    click.option("--no-metadata", is_flag=True, help="Keep the settings out of the pictures."),
    click.option("--no-progress", is_flag=True, help="No progress bar."),
    json_option,
    click.pass_context,
)


def batch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what `amdm batch` takes beside its scenes, for a command that brings scenes of its own."""
    for option in reversed(_BATCH_OPTIONS + _DRAWING_OPTIONS):
        command = option(command)
    return command


def drawing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what of these says how scenes are drawn, for a command that draws several batches."""
    for option in reversed(_DRAWING_OPTIONS):
        command = option(command)
    return command


@click.command(short_help="Draw many scenes, with resuming.")
@click.option(
    "--scenes",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="A .jsonl file with a scene per line, a folder of scene YAML files, or a COCO-MIG .json file.",
)
@batch_options
def batch(ctx: click.Context, source: Path, **options: Any) -> None:
    """Draw many scenes with the models of COMPOSITION (a YAML file), one picture per scene.

    A line of a .jsonl file is a scene as in YAML, with a `name` for the picture and a `seed` where wanted. A scene that
    cannot be drawn fails alone. The file ledger.jsonl in the folder says what became of every scene; after an
    interruption --resume draws exactly what is missing, and the pictures are those of an uninterrupted run.

    Exit codes: 0 all scenes are drawn, 1 some failed, 2 the input was wrong or the disk or device failed, 130
    interrupted.
    """
    from ..batch.jobs import read_jobs

    draw_scenes(ctx, partial(read_jobs, source), **options)


def draw_scenes(
    ctx: click.Context,
    read: Callable[[int], list[Job]],
    *,
    composition: Path,
    output: Path,
    base_seed: int,
    limit: int | None,
    resume: bool,
    force: bool,
    overrides: tuple[str, ...],
    no_progress: bool,
    as_json: bool,
    **drawing: Any,
) -> None:
    """Draw scenes as `amdm batch` does, and say what came of it.

    Args:
        ctx: of the command; it ends with exit code 1 where scenes failed.
        read: returns the jobs, given the base of seeds that are not named.
        composition: and all that follows: what `batch_options` has read; `drawing` is what `prepare_engine` takes.

    Raises:
        InputError: with every mistake of composition and scenes.
        AMDMError: the models cannot be loaded.
    """
    from ..batch.run import run_batch
    from ..picture_files import check_folder

    plugins = ctx.find_object(PluginRegistry)
    assert plugins is not None
    if force and not resume:
        raise InputError("--force goes with --resume")
    check_engine_options(drawing)
    problems = []
    resolved = jobs = None
    try:
        resolved, _ = read_request(composition, None, overrides, plugins)
    except InputError as error:
        problems += error.problems
    try:
        jobs = read(base_seed)
    except InputError as error:
        problems += error.problems
    if resolved is None or jobs is None:
        raise InputError(problems)
    check_folder(output)
    header, drawers = prepare_engine(resolved, (), plugins, **drawing)
    try:
        summary = run_batch(
            jobs, drawers, output, header, resume=resume, force=force, limit=limit, progress=not no_progress
        )
    except KeyboardInterrupt:
        click.echo("what is drawn is in the ledger; the same command with --resume goes on", err=True)
        raise
    _echo(summary, output, as_json)
    if summary.failed:
        ctx.exit(1)


def check_engine_options(drawing: Mapping[str, Any]) -> None:
    """Check that options of a cluster are given for a cluster.

    Args:
        drawing: what `drawing_options` has read.

    Raises:
        InputError: they are not.
    """
    if drawing["engine"] != "ray":
        if drawing["address"] is not None:
            raise InputError("--address goes with --engine ray")
        if drawing["gpus_per_worker"] is not None:
            raise InputError("--gpus-per-worker goes with --engine ray")


def device_here(engine: str, device: str) -> str:
    """Return the device to check against: the machines of a cluster may have some that this one has not."""
    return "auto" if engine == "ray" else device


def prepare_engine(
    resolved: ResolvedComposition,
    scenes: Sequence[Scene],
    plugins: PluginRegistry,
    *,
    batch_size: int,
    engine: str,
    workers: int,
    address: str | None,
    gpus_per_worker: float | None,
    device: str,
    dtype: str,
    no_metadata: bool,
) -> tuple[Header, Engine]:
    """Check that a composition can be drawn, and return what its ledger says and what draws it. Nothing is loaded.

    Args:
        resolved: the composition.
        scenes: that it must be able to draw; none where each may fail alone.
        plugins: the installed plugins.
        batch_size: and all that follows: what `drawing_options` has read.

    Raises:
        InputError: a condition, file, option or device that does not fit.
        IncompatibleProvidersError: the models cannot be aggregated.
    """
    from ..batch.run import make_header
    from ..cost import examine_scenes

    here = device_here(engine, device)
    examine_scenes(resolved, scenes, plugins, here, dtype)
    header = make_header(resolved, here, dtype, batch_size, plugins)
    # What a cluster computes in is decided here; on this machine each member's device decides, as in `amdm run`.
    drawn_in = header.dtype if engine == "ray" else dtype
    return header, _make_engine(
        engine, workers, address, gpus_per_worker, resolved, device, drawn_in, not no_metadata, plugins
    )


def _make_engine(
    name: str,
    workers: int,
    address: str | None,
    gpus_per_worker: float | None,
    resolved: ResolvedComposition,
    device: str,
    dtype: str,
    metadata: bool,
    plugins: PluginRegistry,
) -> Engine:
    from ..batch.drawing import Drawer
    from ..batch.local import LocalEngine

    composition = resolved.composition.model_dump(mode="json", exclude_unset=True)
    base_dir = str(resolved.base_dir.absolute())
    if name == "ray":
        from ..batch.ray_engine import RayEngine

        make_drawer = partial(Drawer, composition, base_dir, device, dtype, metadata)
        return RayEngine(make_drawer, workers, address, gpus_per_worker)
    if workers == 1:
        return LocalEngine([partial(Drawer, composition, base_dir, device, dtype, metadata, plugins)])
    devices = _devices(device, workers)
    return LocalEngine([partial(Drawer, composition, base_dir, each, dtype, metadata) for each in devices])


def _devices(device: str, workers: int) -> list[str]:
    # Workers take turns at the GPUs, unless one is named.
    import torch

    count = torch.cuda.device_count()
    if device not in ("auto", "cuda") or count < 2:
        return [device] * workers
    return [f"cuda:{worker % count}" for worker in range(workers)]


def _echo(summary: BatchSummary, output: Path, as_json: bool) -> None:
    drawn = len(summary.files)
    if as_json:
        echo_json(
            {
                "drawn": drawn,
                "skipped": summary.skipped,
                "left": summary.left,
                "failed": [{"name": name, "error": error} for name, error in summary.failed.items()],
                "files": [str(path) for path in summary.files],
                "ledger": str(output / "ledger.jsonl"),
                "seconds": round(summary.seconds, 3),
                "images_per_second": round(drawn / summary.seconds, 4),
            }
        )
        return
    echo_failures(summary)
    click.echo(summary_line(summary))
    click.echo(str(output / "ledger.jsonl"))


def echo_failures(summary: BatchSummary) -> None:
    """Name the scenes that failed, with the reasons."""
    for name, error in list(summary.failed.items())[:_SHOWN_FAILURES]:
        click.echo(f"{click.style('failed:', fg='red', bold=True)} {name}: {printable(error)}", err=True)
    if len(summary.failed) > _SHOWN_FAILURES:
        click.echo(f"... and {len(summary.failed) - _SHOWN_FAILURES} more, see the ledger", err=True)


def summary_line(summary: BatchSummary) -> str:
    """Return how many pictures were drawn, and how fast."""
    drawn = len(summary.files)
    counts = [f"{drawn} drawn"]
    counts += [f"{summary.skipped} done before"] if summary.skipped else []
    counts += [f"{len(summary.failed)} failed"] if summary.failed else []
    counts += [f"{summary.left} beyond --limit"] if summary.left else []
    return f"{', '.join(counts)}; {summary.seconds:.1f} s, {drawn / summary.seconds:.3g} pictures/s"
