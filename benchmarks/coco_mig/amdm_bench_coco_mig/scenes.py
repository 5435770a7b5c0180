"""The entries of a benchmark as jobs of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amdm_bench_coco_mig.benchmark_file import read_benchmark
from amdm_framework.batch.coco_mig import read_coco_mig
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.errors import InputError, Problem


def read_scenes(benchmark: Path, negative: str, style: Path | None, base_seed: int) -> list[Job]:
    """Return what is to be drawn of each entry, in the order of the file.

    Args:
        benchmark: the file.
        negative: negative prompt of all pictures.
        style: reference picture of all pictures, of role `style`.
        base_seed: what the seeds depend on beside the names.

    Raises:
        InputError: with every mistake of the file, or there is no such picture.
    """
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
