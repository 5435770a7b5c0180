"""The report of a benchmark: measures a job, and puts figures and circumstances together."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from amdm_framework.composition import ResolvedComposition
from amdm_framework.devices import choose_device
from amdm_framework.plugins import PluginRegistry
from amdm_shapes_zoo.bench.figures import figures
from amdm_shapes_zoo.bench.measure import Drawn, Job, check_models, count_evaluations, measure, resolve_row
from amdm_shapes_zoo.bench.rows import Row
from amdm_shapes_zoo.bench.scenes import first_seed, sample_bench_scenes


def measure_report(
    job: Job, processes: int | None, command: str, left_out: Sequence[str], plugins: PluginRegistry
) -> dict[str, Any]:
    """Measure a job.

    Args:
        job: what to measure.
        processes: how many share the work; None for one per core on the CPU, and one on another device.
        command: what was asked for, in words of the command line.
        left_out: rows that could not be measured, and why.
        plugins: the installed plugins.

    Returns:
        Plain data, ready to be written as JSON. All but `elapsed`, `seconds` and `machine` depends on the job alone.

    Raises:
        InputError: a seed that is too large, missing weights, no such device.
    """
    first = first_seed(job.seed, job.held_out)
    check_models(job, plugins)
    if processes is None:
        processes = _cores() if choose_device(job.device).type == "cpu" else 1
    began = time.perf_counter()
    drawn = measure(job, processes)
    elapsed = time.perf_counter() - began
    levels = sample_bench_scenes(job.scenes, job.seed, job.held_out).layouts.counts()
    rows = []
    for row, of_row in zip(job.rows, drawn, strict=True):
        resolved = resolve_row(row, job.steps, job.composition, plugins)
        rows.append(_facts(row, resolved, of_row, job.scenes) | figures(of_row.scores, levels))
    return {
        "benchmark": "shapes",
        "command": command,
        "scenes": job.scenes,
        "seed": job.seed,
        "held_out": job.held_out,
        "noise_seeds": [first, first + job.scenes - 1],
        "steps": job.steps,
        "rows": rows,
        "left_out": list(left_out),
        "elapsed": round(elapsed, 1),
        "machine": _machine(job.device, processes),
    }


def as_text(report: Mapping[str, Any]) -> str:
    """The report as JSON."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _facts(row: Row, resolved: ResolvedComposition, drawn: Drawn, scenes: int) -> dict[str, Any]:
    options = {name: value for name, value in row.aggregation.items() if name != "strategy"}
    return {
        "label": row.label,
        "rule": row.rule,
        "window": row.window,
        "providers": [member.spec.name for member in resolved.members],
        "strategy": row.aggregation["strategy"],
        "options": options,
        "sampler": resolved.composition.sampler.model_dump(exclude_none=True),
        "evaluations": count_evaluations(resolved),
        "seconds": round(drawn.seconds / scenes, 4),
        "warnings": list(drawn.warnings),
    }


def _machine(device: str, processes: int) -> dict[str, Any]:
    chosen = choose_device(device)
    return {
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type,
        "platform": platform.platform(),
        "cores": _cores(),
        "processes": processes,
        "threads_per_process": 1 if processes > 1 else torch.get_num_threads(),
        "dtype": "float32",
        "torch": torch.__version__,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
