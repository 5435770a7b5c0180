"""Drawing a job: all members together, then each alone where that is asked for, with the models of the job before."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..composition import ResolvedComposition, read_composition
from ..devices import memory_explained
from ..errors import AMDMError
from ..laboratory.drawing import Laboratory
from ..laboratory.strategy_variants import alone_variants
from ..laboratory.variants import Source
from ..metadata import png_info, record_run
from ..picture_files import prepare_folder, require_space, save_new
from ..pipeline import AMDMOutput, AMDMPipeline
from ..plugins import PluginRegistry
from .jobs import Job, View
from .messages import message_of
from .previews import Previewer

ALONE = "alone"
"""Folder, in that of the pictures, for those of single members."""


class JobDrawer:
    """Draws one job after the other; members that the next job has as well stay loaded.

    Args:
        plugins: the installed plugins.
        device: of members that do not name their own.
        dtype: what networks compute in.
        folder: where pictures go; it is made.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, plugins: PluginRegistry, device: str, dtype: str, folder: Path) -> None:
        prepare_folder(folder)
        self._plugins = plugins
        self._laboratory = Laboratory(plugins, device, dtype)
        self._folder = folder

    def __call__(self, job: Job) -> None:
        """Draw a job.

        Raises:
            Cancelled: it is not wanted any more.
            AMDMError: the models cannot be loaded, the scene cannot be drawn with them, or the disk is full.
        """
        request = job.request
        runs: list[tuple[str, ResolvedComposition]] = [("", request.resolved)]
        if request.alone and len(request.resolved.members) > 1:
            runs += _alone(request.resolved, self._plugins)
        job.update(steps=sum(resolved.composition.sampler.steps for _, resolved in runs), stage="loading the models")
        # Before anything new is loaded, so that two sets of models never have to fit.
        self._laboratory.keep([resolved for _, resolved in runs])
        for name, resolved in runs:
            before = job.step
            try:
                self._draw(job, name, resolved)
            except AMDMError as error:
                if not name:
                    raise
                # A model that cannot draw alone has still drawn with the others.
                job.update(
                    error=f"{job.error}{name} alone: {message_of(error)}\n",
                    step=before + resolved.composition.sampler.steps,
                )

    def _draw(self, job: Job, name: str, resolved: ResolvedComposition) -> None:
        request = job.request
        pipeline = self._laboratory.pipeline(resolved)
        folder = self._folder / ALONE if name else self._folder
        prepare_folder(folder)
        sampler, (height, width) = pipeline.sampler, pipeline.providers[0].default_size
        require_space(folder, len(request.seeds), sampler.height or height, sampler.width or width)
        previewer = Previewer(pipeline.names, pipeline.providers[0])
        before = job.step
        job.update(stage=f"drawing with {name} alone" if name else "drawing")
        if name:
            # Only what is being drawn now.
            job.update(previews={})

        def on_step_end(_pipeline: AMDMPipeline, index: int, _timestep: int, values: dict[str, Any]) -> None:
            previews = {preview.name: preview for preview in previewer.previews_of(values["report"])}
            job.update(step=before + index + 1, previews={**job.previews, **previews})

        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        with memory_explained(f"draw {len(generators)} picture(s) at once"):
            output = pipeline([request.scene] * len(generators), generator=generators, callback_on_step_end=on_step_end)
        job.update(stage="saving")
        files = self._save(job, folder, name, pipeline, output)
        job.add_view(View(name, files, output.warnings, output.trace.evaluations, output.trace))

    def _save(self, job: Job, folder: Path, name: str, pipeline: AMDMPipeline, output: AMDMOutput) -> list[str]:
        files = []
        records = record_run(pipeline, job.request.scene, output, self._plugins)
        for seed, picture, record in zip(output.seeds, output.images, records, strict=True):
            words = [_slug(job.request.scene.caption) or "picture", *([_slug(name)] if name else []), str(seed)]
            path = save_new(
                folder, "-".join(words), ".png", partial(picture.save, format="PNG", pnginfo=png_info(record))
            )
            files.append(str(path.relative_to(self._folder)))
        return files


def _alone(resolved: ResolvedComposition, plugins: PluginRegistry) -> list[tuple[str, ResolvedComposition]]:
    content = resolved.composition.model_dump(mode="json", exclude_unset=True)
    variants = alone_variants(Source(content, "", resolved.base_dir), resolved)
    return [
        (member.name, read_composition(variant.content, plugins, base_dir=resolved.base_dir))
        for member, variant in zip(resolved.members, variants, strict=True)
    ]


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:48].strip("-")
