"""Drawing a group of jobs as one batch. Whatever refuses a batch is found by halving it, so that it fails alone."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..composition import read_composition
from ..devices import is_out_of_memory
from ..errors import AMDMError, InputError
from ..metadata import png_info, record_pictures
from ..pipeline import AMDMOutput, AMDMPipeline
from ..plugins import PluginRegistry, discover
from ..record import RunRecord
from ..scene import Scene, read_scene
from .jobs import Job, one_line

# Newer than the oldest torch that is supported.
DEVICE_FAILURES: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()


@dataclass(frozen=True)
class Drawn:
    """What became of one job: plain data, from other processes and machines.

    Attributes:
        name: the job's.
        png: the picture's file, None where there is none.
        error: why there is none, else None.
    """

    name: str
    png: bytes | None = None
    error: str | None = None


class Drawer:
    """A loaded composition that draws groups of jobs.

    Args:
        composition: parsed content, after overrides.
        base_dir: the folder that its paths are relative to.
        device: `auto` takes a GPU where there is one; `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: what networks compute in; `auto` is float16 on a GPU and float32 elsewhere.
        metadata: whether pictures carry their settings.
        plugins: the installed plugins [discovered].

    Attributes:
        pipeline: what draws.

    Raises:
        AMDMError: the composition is wrong, its models cannot be loaded, or do not fit into memory.
    """

    def __init__(
        self,
        composition: dict[str, Any],
        base_dir: str,
        device: str = "auto",
        dtype: str = "auto",
        metadata: bool = True,
        plugins: PluginRegistry | None = None,
    ) -> None:
        self._plugins = discover() if plugins is None else plugins
        self._resolved = read_composition(composition, self._plugins, base_dir=Path(base_dir))
        try:
            self.pipeline = AMDMPipeline.from_composition(self._resolved, device, dtype, self._plugins)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise AMDMError(
                "the device has too little memory to load the models: --dtype float16, --set offload=model or fewer "
                "workers take less"
            ) from error
        self.pipeline.set_progress_bar_config(disable=True)
        self._metadata = metadata

    def draw(self, jobs: Sequence[Job]) -> list[Drawn]:
        """Draw jobs as one batch; return what became of each, in their order.

        A scene that is wrong, or that a member refuses, takes no part. A batch that a model refuses, or that does not
        fit into memory, is drawn in two halves, and so on down to single pictures. The same jobs give the same
        pictures to the byte, where the same batches fit into memory.

        Raises:
            torch.AcceleratorError: the device failed; nothing can be drawn in this process any more.
        """
        drawn: dict[str, Drawn] = {}
        scenes: list[tuple[Job, Scene]] = []
        for job in jobs:
            if job.error:
                drawn[job.name] = Drawn(job.name, error=job.error)
                continue
            try:
                scene = read_scene(job.scene, Path(job.base_dir))
                self._resolved.conditions([scene])
            except InputError as error:
                drawn[job.name] = Drawn(job.name, error=one_line(error))
            else:
                scenes.append((job, scene))
        if scenes:
            drawn |= {one.name: one for one in self._draw_batch(scenes)}
        return [drawn[job.name] for job in jobs]

    def _draw_batch(self, batch: Sequence[tuple[Job, Scene]]) -> list[Drawn]:
        jobs = [job for job, _ in batch]
        scenes = [scene for _, scene in batch]
        try:
            generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
            return self._pictures(jobs, scenes, self.pipeline(scenes, generator=generators))
        except Exception as error:
            if isinstance(error, DEVICE_FAILURES):
                raise
            # Halves are drawn outside of this block: the error's frames hold on to the memory of what failed.
            reason = _reason(error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return [Drawn(jobs[0].name, error=reason)]
        middle = len(batch) // 2
        return [*self._draw_batch(batch[:middle]), *self._draw_batch(batch[middle:])]

    def _pictures(self, jobs: Sequence[Job], scenes: Sequence[Scene], output: AMDMOutput) -> list[Drawn]:
        finite = output.latents.flatten(1).isfinite().all(1).tolist()
        records: Sequence[RunRecord | None] = [None] * len(jobs)
        if self._metadata:
            records = record_pictures(self.pipeline, scenes, output, self._plugins)

        def encode(job: Job, picture: Image.Image, record: RunRecord | None, is_finite: bool) -> Drawn:
            if not is_finite:
                return Drawn(job.name, error=f"the latents are not finite at the end: {self.pipeline.finite_advice}")
            file = io.BytesIO()
            picture.save(file, format="PNG", pnginfo=None if record is None else png_info(record))
            return Drawn(job.name, file.getvalue())

        # Compression releases the interpreter's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(encode, jobs, output.images, records, finite))


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return f"too little memory to draw it: {str(error).partition('.')[0]}"
    if isinstance(error, InputError):
        return one_line(error)
    text = " ".join(str(error).split())
    return text if isinstance(error, AMDMError) else f"{type(error).__name__}: {text}"
