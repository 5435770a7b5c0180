"""`amdm bench coco-mig prepare`: check a benchmark, or sample a new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from amdm_framework.cli.request import SeedType
from amdm_framework.cli.results import echo_json, json_option
from amdm_framework.errors import InputError, Problem

if TYPE_CHECKING:
    from amdm_framework.batch.coco_mig import Entry


@click.command(short_help="Check a benchmark, or sample one.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    metavar="INSTANCES_JSON",
    help="Sample BENCHMARK anew from these annotations of COCO (instances_val2014.json).",
)
@click.option("--seed", type=SeedType(), default=0, show_default=True, help="Of the sampling.")
@click.option(
    "--per-level",
    type=click.IntRange(min=1),
    default=160,
    show_default=True,
    help="Entries of each of the five levels; fewer for a trial, whose figures do not compare with published ones.",
)
@json_option
def prepare(benchmark: Path, annotations: Path | None, seed: int, per_level: int, as_json: bool) -> None:
    """Check the file BENCHMARK, or write a new one sampled from COCO.

    Every rule of the benchmark is checked and every mistake reported with its key. Sampled benchmarks obey the same
    rules; equal annotations and seeds give equal bytes.
    """
    from amdm_bench_coco_mig.benchmark_file import read_benchmark, write_benchmark
    from amdm_framework.picture_files import check_folder, prepare_folder

    if annotations is not None:
        from amdm_bench_coco_mig.coco_annotations import read_annotations
        from amdm_bench_coco_mig.sampling import sample_benchmark

        if benchmark.exists():
            message = "exists already, and pictures may have been drawn from it: choose another name, or remove it"
            raise InputError([Problem(message, file=str(benchmark))])
        check_folder(benchmark.parent)
        sampled = sample_benchmark(read_annotations(annotations), seed, per_level)
        prepare_folder(benchmark.parent)
        write_benchmark(sampled, benchmark)
    summary = _summary(list(read_benchmark(benchmark, per_level).values()))
    if as_json:
        echo_json({"file": str(benchmark), "sampled": annotations is not None, **summary})
        return
    done = "sampled" if annotations is not None else "correct"
    click.echo(
        f"{done}: {summary['entries']} pictures with {summary['instances']} instances, {per_level} of each level"
    )
    click.echo("colours: " + ", ".join(f"{color} {count}" for color, count in summary["colors"].items()))
    click.echo(f"objects: {len(summary['objects'])} kinds, most often " + _most(summary["objects"]))
    click.echo(str(benchmark))


def _summary(entries: Sequence[Entry]) -> dict[str, Any]:
    segments = [segment for entry in entries for segment in entry.segment]
    return {
        "entries": len(entries),
        "instances": len(segments),
        "levels": dict(sorted(Counter(f"L{entry.level}" for entry in entries).items())),
        "colors": dict(sorted(Counter(segment.color for segment in segments).items())),
        "objects": dict(sorted(Counter(segment.thing for segment in segments).items(), key=lambda pair: -pair[1])),
    }


def _most(objects: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(objects.items())[:5])
