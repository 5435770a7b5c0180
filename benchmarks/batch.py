"""Pictures per second of a batch, against one run per scene.

    python benchmarks/batch.py            the shapes zoo's three models, 16 scenes
    python benchmarks/batch.py --json     one JSON object
    python benchmarks/batch.py --quick    four scenes, batch sizes 1 and 4

`single` calls the loaded pipeline once per scene and writes the picture with its settings, as `amdm run` does. `batch_N`
is what `amdm batch --batch-size N` does with the loaded pipeline: groups, PNG files, ledger, all flushed to the disk.
`time_ratio.batch_N` is its time over that of `single`. `share_outside.batch_N` is the share of its time outside the
pipeline: reading scenes, records, PNG compression, files and ledger. Models are loaded before.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, ratio, report, side_by_side

from amdm_framework.batch.drawing import Drawer
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.batch.local import LocalEngine
from amdm_framework.batch.run import make_header, run_batch
from amdm_framework.composition import read_composition
from amdm_framework.metadata import png_info, record_run
from amdm_framework.picture_files import save_new
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.scene import read_scene
from amdm_framework.yaml_files import read_yaml

EXAMPLES = Path(__file__).parents[1] / "examples"
MAX_SHARE_OUTSIDE = 0.05
MAX_RATIO_BATCH_1 = 1.05
BATCH_SIZES, SCENES, REPEATS = (1, 4, 16), 16, 5
QUICK_BATCH_SIZES, QUICK_SCENES, QUICK_REPEATS = (1, 4), 4, 1


class Clocked:
    """A pipeline that adds up the time inside its calls."""

    def __init__(self, pipeline: AMDMPipeline) -> None:
        self.pipeline = pipeline
        self.seconds = 0.0

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        began = time.perf_counter()
        output = self.pipeline(*arguments, **settings)
        self.seconds += time.perf_counter() - began
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)


def main() -> None:
    options = arguments(__doc__).parse_args()
    sizes = QUICK_BATCH_SIZES if options.quick else BATCH_SIZES
    count = QUICK_SCENES if options.quick else SCENES
    repeats = QUICK_REPEATS if options.quick else REPEATS
    device = torch.device(options.device)

    plugins = discover()
    resolved = read_composition(EXAMPLES / "shapes.yaml", plugins)
    content = resolved.composition.model_dump(mode="json", exclude_unset=True)
    drawer = Drawer(content, str(EXAMPLES), options.device, "auto", plugins=plugins)
    clocked = Clocked(drawer.pipeline)
    drawer.pipeline = clocked  # type: ignore[assignment]
    scene = read_yaml(EXAMPLES / "shapes_scene.yaml")
    jobs = [make_job(f"scene-{number}", scene, EXAMPLES) for number in range(count)]

    shares: dict[str, list[float]] = {f"batch_{size}": [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def batch(size: int) -> None:
            header = make_header(resolved, options.device, "auto", size, plugins)
            target = Path(folder, str(next(numbers)))
            clocked.seconds = 0.0
            began = time.perf_counter()
            summary = run_batch(jobs, LocalEngine([lambda: drawer]), target, header, progress=False)
            assert len(summary.files) == count, summary.failed
            shares[f"batch_{size}"].append(1 - clocked.seconds / (time.perf_counter() - began))

        def single() -> None:
            target = Path(folder, str(next(numbers)))
            target.mkdir()
            for job in jobs:
                draw_alone(clocked.pipeline, job, plugins, target)

        candidates: dict[str, Callable[[], None]] = {"single": single}
        candidates |= {f"batch_{size}": partial(batch, size) for size in sizes}
        seconds = side_by_side(candidates, repeats, device)

    figures = {f"pictures_per_second.{name}": count / statistics.median(times) for name, times in seconds.items()}
    figures |= {f"time_ratio.{name}": ratio(seconds, name, "single") for name in shares}
    # The first share of each is that of the run that warmed up.
    figures |= {f"share_outside.{name}": statistics.median(values[1:]) for name, values in shares.items()}
    targets = {f"share_outside.{name}": MAX_SHARE_OUTSIDE for name in shares}
    targets["time_ratio.batch_1"] = MAX_RATIO_BATCH_1
    report(options, figures, targets, {"scenes": count, "repeats": repeats, "seconds": seconds})


def draw_alone(pipeline: AMDMPipeline, job: Job, plugins: PluginRegistry, folder: Path) -> None:
    """Draw one scene and write its picture, as `amdm run` does."""
    scene = read_scene(job.scene, Path(job.base_dir))
    output = pipeline(scene, generator=torch.Generator().manual_seed(job.seed))
    (record,) = record_run(pipeline, scene, output, plugins)
    save_new(folder, job.name, ".png", partial(output.images[0].save, format="PNG", pnginfo=png_info(record)))


if __name__ == "__main__":
    main()
