"""`amdm bench coco-mig generate`: draw the benchmark's pictures as `amdm batch` draws scenes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from amdm_framework.cli.batch import batch_options, draw_scenes
from amdm_framework.errors import InputError, Problem

if TYPE_CHECKING:
    from amdm_framework.batch.jobs import Job

NEGATIVE_PROMPT = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)
"""What the paper's published code gives to all models."""


@click.command(short_help="Draw the pictures, with resuming.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@click.option(
    "--negative",
    default=NEGATIVE_PROMPT,
    show_default="that of the paper's code",
    help="Negative prompt of all pictures; a composition's own goes before it.",
)
@click.option(
    "--style",
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    help="Reference picture of all pictures, of role `style`, for compositions with a model that draws after one.",
)
@batch_options
def generate(ctx: click.Context, benchmark: Path, negative: str, style: Path | None, **options: Any) -> None:
    """Draw the pictures of the file BENCHMARK with the models of COMPOSITION (a YAML file), named as `evaluate` wants.

    Everything is as in `amdm batch`: the ledger, --resume after an interruption, workers and clusters. Each model gets
    the caption and the instances in the order of the file.

    Exit codes: 0 all pictures are drawn, 1 some failed, 2 the input was wrong or the disk or device failed, 130
    interrupted.
    """
    draw_scenes(ctx, partial(_read_jobs, benchmark, negative, style), **options)


def _read_jobs(benchmark: Path, negative: str, style: Path | None, base_seed: int) -> list[Job]:
    from amdm_bench_coco_mig.benchmark_file import read_benchmark
    from amdm_framework.batch.coco_mig import read_coco_mig
    from amdm_framework.batch.jobs import make_job

    read_benchmark(benchmark)
    added: dict[str, Any] = {"negative": negative}
    if style is not None:
        if not style.is_file():
            raise InputError([Problem("no such picture", "--style", str(style))])
        added["references"] = [{"role": "style", "image": str(style.absolute())}]
    return [
        make_job(entry.name, {**entry.scene, **added}, benchmark.parent, None, base_seed)
        for entry in read_coco_mig(benchmark)
    ]
