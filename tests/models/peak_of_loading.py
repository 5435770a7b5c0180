"""Loads a file twice and prints how far resident memory grew on the way: a program of its own, with nothing in its heap.

python peak_of_loading.py FILE DTYPE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import amdm_framework.models.checkpoints as checkpoints
from amdm_framework.models.checkpoints import build_on_meta, load_strict, read_tensors
from amdm_framework.models.context import LoadContext
from amdm_framework.models.weight_sharing import unique_bytes

LAYERS, INPUTS, OUTPUTS = 64, 1024, 512


def build() -> torch.nn.Module:
    """Return a module of 128 MiB in float32."""
    return torch.nn.Sequential(*(torch.nn.Linear(INPUTS, OUTPUTS, bias=False) for _ in range(LAYERS)))


def resident(key: str) -> int:
    """Return an entry of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def main() -> None:
    """Load as the arguments say and print the figures."""
    context = LoadContext(torch.device("cpu"), getattr(torch, sys.argv[2]))
    # In proportion to the file: what a real file's gigabytes are to the usual stretch.
    checkpoints._RELEASE_BYTES = 4 * 2**20
    # What the first load sets up is no weight.
    load_strict(build_on_meta(lambda: torch.nn.Linear(1, 1)), torch.nn.Linear(1, 1).state_dict(), context)
    before = resident("VmRSS")
    modules = [load_strict(build_on_meta(build), read_tensors(Path(sys.argv[1])), context) for _ in range(2)]
    peak = resident("VmHWM") - before
    print(json.dumps({"peak": peak, "loaded": resident("VmRSS") - before, "weights": unique_bytes(modules)}))


if __name__ == "__main__":
    main()
