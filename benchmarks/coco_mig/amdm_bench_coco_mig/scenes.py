"""The entries of a benchmark as jobs of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amdm_framework.batch.coco_mig import Entry, named_scene
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.errors import InputError, Problem


def make_jobs(
    entries: Mapping[str, Entry], folder: Path, negative: str, style: Path | None, base_seed: int
) -> list[Job]:
    """Return what is to be drawn of each entry, in the order of the file.

    Args:
        entries: of the benchmark.
        folder: of its file.
        negative: negative prompt of all pictures.
        style: reference picture of all pictures, of role `style`.
        base_seed: what the seeds depend on beside the names.

    Raises:
        InputError: there is no such picture.
    """
    added: dict[str, Any] = {"negative": negative}
    if style is not None:
        if not style.is_file():
            raise InputError([Problem("no such picture", "--style", str(style))])
        added["references"] = [{"role": "style", "image": str(style.absolute())}]
    scenes = [named_scene(key, entry) for key, entry in entries.items()]
    return [make_job(one.name, {**one.scene, **added}, folder, None, base_seed) for one in scenes]
