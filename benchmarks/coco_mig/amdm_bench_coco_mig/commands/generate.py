"""`amdm bench coco-mig generate`: draw the benchmark's pictures as `amdm batch` draws scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from amdm_bench_coco_mig.commands.options import scene_options
from amdm_framework.cli.batch import batch_options, draw_scenes

if TYPE_CHECKING:
    from amdm_framework.batch.jobs import Job


@click.command(short_help="Draw the pictures, with resuming.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@scene_options
@batch_options
def generate(ctx: click.Context, benchmark: Path, negative: str, style: Path | None, **options: Any) -> None:
    """Draw the pictures of the file BENCHMARK with the models of COMPOSITION (a YAML file), named as `evaluate` wants.

    Everything is as in `amdm batch`: the ledger, --resume after an interruption, workers and clusters. Each model gets
    the caption and the instances in the order of the file.

    Exit codes: 0 all pictures are drawn, 1 some failed, 2 the input was wrong or the disk or device failed, 130
    interrupted.
    """
    from amdm_bench_coco_mig.benchmark_file import read_benchmark
    from amdm_bench_coco_mig.scenes import make_jobs

    def read(base_seed: int) -> list[Job]:
        return make_jobs(read_benchmark(benchmark), benchmark.parent, negative, style, base_seed)

    draw_scenes(ctx, read, **options)
