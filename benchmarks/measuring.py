"""What every benchmark script shares: its arguments, side-by-side timing, the machine, and the one object it prints.

    python benchmarks/overhead.py            a table for people
    python benchmarks/overhead.py --json     {"figures": {...}, "targets": {...}, "machine": {...}, ...}
    python benchmarks/overhead.py --quick    smaller and fewer, to see that it works

The object goes into `benchmarks/results`, from where `write_page.py` makes docs/performance.md:

    python benchmarks/overhead.py --json > benchmarks/results/overhead_cpu.json
    python benchmarks/overhead.py --json > benchmarks/results/overhead_gpu.json
    python benchmarks/write_page.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every script; a script may add its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer repeats: shows that it works, no more")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="[%(default)s]")
    return parser


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def side_by_side(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several functions in turns, so that whatever else the machine does meets all of them alike.

    The order turns round from one repeat to the next.

    Args:
        candidates: by name.
        repeats: how often each is timed.
        device: is waited for before a clock is read.
        warm_up: calls of each that are not timed.
        clock: seconds so far: of the wall, or `time.process_time` on a CPU that does other work beside.

    Returns:
        Seconds of every repeat, by name.
    """
    for _ in range(warm_up):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(repeats):
        for name in order:
            synchronize(device)
            began = clock()
            candidates[name]()
            synchronize(device)
            seconds[name].append(clock() - began)
        order.reverse()
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], name: str, over: str) -> float:
    """Return the median over the repeats of the ratio of two candidates, both from the same repeat."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[over], strict=True))


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine and what ran on it."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": accelerator,
        "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "diffusers", "transformers", "amdm-framework")},
    }


def report(
    options: argparse.Namespace,
    figures: Mapping[str, float],
    targets: Mapping[str, float],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Print what was measured: a table, or the one JSON object.

    Args:
        options: of `arguments`.
        figures: what was measured, by name.
        targets: for some of them the largest value they should have.
        details: further facts for the JSON object, such as every repeat's seconds.
    """
    if options.json:
        content = {
            "figures": {name: round(value, 5) for name, value in figures.items()},
            "targets": dict(targets),
            "machine": machine(torch.device(options.device)),
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "quick": options.quick,
            **(details or {}),
        }
        print(json.dumps(content, indent=1))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        bound = targets.get(name)
        verdict = "" if bound is None else f"  target <= {bound:g}: {'met' if value <= bound else 'missed'}"
        print(f"{name:{width}}  {value:10.4f}{verdict}")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
