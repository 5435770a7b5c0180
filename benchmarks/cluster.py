"""What a driver takes in from Ray workers, and what a second worker brings.

    python benchmarks/cluster.py            a cluster of its own on this machine; set OMP_NUM_THREADS=1 on few cores
    python benchmarks/cluster.py --json     one JSON object
    python benchmarks/cluster.py --quick    fewer pictures

`driver` figures are of workers that answer at once with a file of the size of a 512x512 picture, so that nothing is timed
but handing out, receiving, writing and the ledger: the most that one driver can keep up with, over Ray and, for
comparison, without it. `drawing` figures are of the shapes zoo's text-to-image model. Rates are those of the second half
of the pictures, when all workers have loaded their models; `seconds_to_first_group` is from the start of the engine, the
connection to the cluster not included.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from measuring import arguments, report

from amdm_framework.batch.drawing import Drawer, Drawn
from amdm_framework.batch.engine import Engine, Results
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.batch.ledger import Header
from amdm_framework.batch.local import LocalEngine
from amdm_framework.batch.ray_engine import RayEngine
from amdm_framework.batch.run import run_batch

BATCH_SIZE = 4
DRIVER_PICTURES, DRAWN_PICTURES = 800, 160
QUICK_DRIVER_PICTURES, QUICK_DRAWN_PICTURES = 80, 16
PICTURE_BYTES = 450_000
COMPOSITION: dict[str, Any] = {
    "providers": [{"use": "stable_diffusion", "checkpoint": "zoo://base"}],
    "aggregation": {"strategy": "single"},
    "sampler": {"steps": 10},
}


class InstantDrawer:
    """Answers at once."""

    def __init__(self) -> None:
        self.png = os.urandom(PICTURE_BYTES)

    def draw(self, group: Sequence[Job]) -> list[Drawn]:
        """Return the same bytes for every job."""
        return [Drawn(job.name, self.png) for job in group]


class Timed:
    """Notes when an engine starts and when each group comes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.began = 0.0
        self.times: list[float] = []

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        """See `Engine.run`."""
        self.began = time.perf_counter()
        for result in self.engine.run(groups):
            self.times.append(time.perf_counter())
            yield result

    def rate(self) -> float:
        """Pictures per second in the second half."""
        middle = len(self.times) // 2
        return BATCH_SIZE * (len(self.times) - 1 - middle) / (self.times[-1] - self.times[middle])


def main() -> None:
    """Measure, and print."""
    options = arguments(__doc__).parse_args()
    on_gpu = torch.device(options.device).type == "cuda"
    instant, drawn = (DRIVER_PICTURES, DRAWN_PICTURES)
    if options.quick:
        instant, drawn = QUICK_DRIVER_PICTURES, QUICK_DRAWN_PICTURES
    # Two workers share one GPU.
    gpus = 0.5 if on_gpu else 0
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    local = run(LocalEngine([InstantDrawer]), instant)  # type: ignore[list-item]
    over_ray = run(RayEngine(InstantDrawer, 2, gpus_per_worker=0), instant)  # type: ignore[arg-type]
    make_drawer: Callable[[], Drawer] = partial(Drawer, COMPOSITION, str(Path.cwd()), options.device)
    one, two = (run(RayEngine(make_drawer, workers, gpus_per_worker=gpus), drawn) for workers in (1, 2))
    ray.shutdown()
    figures = {
        "driver.local_pictures_per_second": local.rate(),
        "driver.ray_pictures_per_second": over_ray.rate(),
        "driver.ray_seconds_per_picture": 1 / over_ray.rate(),
        "drawing.one_worker_pictures_per_second": one.rate(),
        "drawing.two_workers_pictures_per_second": two.rate(),
        "drawing.two_workers_over_one": two.rate() / one.rate(),
        "drawing.seconds_to_first_group": one.times[0] - one.began,
    }
    model = f"the shapes zoo's base, 64x64, 10 steps, groups of {BATCH_SIZE}; files of {PICTURE_BYTES} bytes"
    report(options, figures, {}, {"model": model, "ray": ray.__version__})


def run(engine: Engine, pictures: int) -> Timed:
    """Run a batch into a folder that is removed, and return when its groups came."""
    timed = Timed(engine)
    header = Header(composition="0" * 64, device="cpu", dtype="float32", batch_size=BATCH_SIZE, versions={})
    with tempfile.TemporaryDirectory() as folder:
        scene = {"caption": "a red circle on the left and a blue square on the right"}
        jobs = [make_job(f"{number:06}", scene, Path(folder)) for number in range(pictures)]
        summary = run_batch(jobs, timed, Path(folder) / "out", header, progress=False)
    assert len(summary.files) == pictures, summary.failed
    return timed


if __name__ == "__main__":
    main()
