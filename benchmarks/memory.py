"""Memory of the three-model composition at the size of Stable Diffusion 1.5: what is held, and the peak while loading.

    python benchmarks/memory.py                 random models of the real sizes (7 GiB of disk, 10 GiB of memory)
    python benchmarks/memory.py --json          one JSON object
    python benchmarks/memory.py --quick         the zoo's miniatures, whose weights are less than what else is held

Files are written in half precision to a temporary folder, with the frozen weights twice: in the base's folder, and again
in InteractDiffusion's original file. Then, in half and in single precision, each in a process of its own:

- unique_over_alone: bytes of all distinct storages of parameters and buffers of the three models loaded together, over
  the sum of the same figure of each loaded alone.
- peak_over_loaded: growth of resident memory at its highest while loading, over its growth once all is loaded. Resident
  memory is the kernel's (VmRSS, and VmHWM for the peak), pages of mapped files included. It grows from what the process
  has after loading and dropping the zoo's three miniatures, so that imports do not count.
- peak_over_weights: the same peak over the bytes of the weights themselves.
- predicted_off: how far what `amdm check` predicts is from what is then measured, as a share.
- cuda_peak_over_loaded, on a GPU: the same of the memory that torch allocates there. host_peak_over_weights is then what
  loading takes of the host's memory beside it.

Figures that end in `together` are of the composition, the others of one model alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, report

TARGETS = {"unique_over_alone": 0.50, "peak_over_loaded": 1.15, "predicted_off": 0.02, "cuda_peak_over_loaded": 1.15}
ZOO_MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "interactdiffusion": {"checkpoint": "zoo://interactdiffusion"},
    "migc": {"checkpoint": "zoo://migc", "base": "zoo://base"},
    "ip_adapter": {"checkpoint": "zoo://ip_adapter", "image_encoder": "zoo://image_encoder", "base": "zoo://base"},
}
STATUS = Path("/proc/self/status")


def main() -> None:
    """Write the models, measure in fresh processes, and print."""
    parser = arguments(__doc__)
    parser.add_argument("--dtypes", nargs="+", help="[float16 float32, with --quick float32]")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    dtypes = options.dtypes or (["float32"] if options.quick else ["float16", "float32"])
    if not STATUS.exists():
        raise SystemExit("memory.py: resident memory is read from /proc, which this system does not have")
    if options.measure:
        print(json.dumps(measure(options.measure, options.device, dtypes[0])))
        return
    figures: dict[str, float] = {}
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="amdm-memory-") as name:
        folder = Path(name)
        members = ZOO_MEMBERS
        if not options.quick:
            # Only here, since it needs what only the tests have.
            from full_size_files import MEMBERS, write_models

            write_models(folder)
            members = MEMBERS
        for dtype in dtypes:
            found = compare(folder, members, options.device, dtype)
            figures |= {f"{figure}.{dtype}": value for figure, value in found.pop("figures").items()}
            details[dtype] = found
    # The targets are about models of real sizes.
    bounds = {} if options.quick else TARGETS
    targets = {name: bounds[figure] for name in figures if (figure := name.partition(".")[0]) in bounds}
    report(options, figures, targets, {"bytes": details})


def compare(
    folder: Path, members: Mapping[str, Mapping[str, Any]], device: str, dtype: str
) -> dict[str, dict[str, Any]]:
    """Measure all members together and each alone, and what `amdm check` says beforehand.

    Args:
        folder: where the members' files are, and compositions are written.
        members: providers by name, with their options.
        device: of the runs.
        dtype: of the runs.

    Returns:
        The figures, and by composition what `measure` returned.
    """
    together = _write_composition(folder, members)
    placed = ["--device", device, "--dtype", dtype]
    code = "import sys; from amdm_framework.cli import main; main(sys.argv[1:])"
    predicted = _run(["-c", code, "check", str(together), *placed, "--json"], folder)["unique_bytes"]
    measured = {}
    compositions = {"together": together}
    compositions |= {name: _write_composition(folder, {name: options}) for name, options in members.items()}
    for name, path in compositions.items():
        measure_it = [__file__, "--measure", str(path), "--device", device, "--dtypes", dtype]
        measured[name] = _run(measure_it, folder)
    whole = measured["together"]
    figures = {
        "unique_over_alone": whole["unique"] / sum(measured[name]["unique"] for name in members),
        "predicted_off": abs(predicted / whole["unique"] - 1),
    }
    for name, one in measured.items():
        if "cuda_peak" in one:
            figures[f"cuda_peak_over_loaded.{name}"] = one["cuda_peak"] / one["cuda_loaded"]
            figures[f"host_peak_over_weights.{name}"] = one["peak"] / one["unique"]
        else:
            figures[f"peak_over_loaded.{name}"] = one["peak"] / one["loaded"]
            figures[f"peak_over_weights.{name}"] = one["peak"] / one["unique"]
    return {"figures": figures, "predicted": predicted, **measured}


def measure(composition: Path, device: str, dtype: str) -> dict[str, int]:
    """Load a composition and return what it took, in bytes.

    Returns:
        `unique`: distinct storages; `loaded`, `peak`: growth of resident memory; `loaded_anonymous`,
        `peak_anonymous`: the part of it that is no file's page; on a GPU `cuda_loaded`, `cuda_peak`.
    """
    from amdm_framework.models.weight_sharing import unique_bytes
    from amdm_framework.pipeline import AMDMPipeline

    # Whatever the first load imports or sets up is there before the measurement begins.
    AMDMPipeline.from_composition(_composition(ZOO_MEMBERS), device, dtype)
    gc.collect()
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    allocated = torch.cuda.memory_allocated(device) if on_gpu else 0
    with contextlib.suppress(OSError):
        # Sets the kernel's highest mark back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    sampler = _Sampler()
    sampler.start()
    pipeline = AMDMPipeline.from_composition(composition, device, dtype)
    highest = sampler.stop()
    gc.collect()
    after = resident()
    result = {
        "unique": unique_bytes(module for one in pipeline.providers for module in one.modules().values()),
        "loaded": after["VmRSS"] - before["VmRSS"],
        "peak": max(highest["VmRSS"], after.get("VmHWM", 0)) - before["VmRSS"],
        "loaded_anonymous": after.get("RssAnon", 0) - before.get("RssAnon", 0),
        "peak_anonymous": highest.get("RssAnon", 0) - before.get("RssAnon", 0),
    }
    if on_gpu:
        result["cuda_loaded"] = torch.cuda.memory_allocated(device) - allocated
        result["cuda_peak"] = torch.cuda.max_memory_allocated(device) - allocated
    return result


def resident() -> dict[str, int]:
    """Return this process's memory in bytes, by the kernel's names: VmRSS, and where they are told VmHWM and RssAnon."""
    entries = (line.split() for line in STATUS.read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 for words in entries if words[0][:-1] in ("VmRSS", "VmHWM", "RssAnon")}


class _Sampler(threading.Thread):
    """Looks at resident memory a hundred times per second: for its anonymous part the kernel keeps no highest mark."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._highest = resident()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            self._look()

    def stop(self) -> dict[str, int]:
        """End, and return the largest value of every entry."""
        self._ended.set()
        self.join()
        self._look()
        return self._highest

    def _look(self) -> None:
        self._highest = {key: max(value, self._highest[key]) for key, value in resident().items()}


def _composition(members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    aggregation: dict[str, Any] = {"strategy": "single"} if len(members) == 1 else {"strategy": "slerp", "steps": 2}
    return {
        "providers": [{"use": name, **options} for name, options in members.items()],
        "aggregation": aggregation,
    }


def _write_composition(folder: Path, members: Mapping[str, Mapping[str, Any]]) -> Path:
    path = folder / f"{'-'.join(members)}.yaml"
    path.write_text(json.dumps(_composition(members)))  # JSON is YAML
    return path


def _run(command: list[str], folder: Path) -> dict[str, Any]:
    # Digests that `amdm check` remembers stay out of the user's cache.
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"memory.py: {' '.join(command)} ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
