"""Scores of the miniatures, each drawn alone from its exported files by the framework's own pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from amdm_framework.pipeline import AMDMPipeline
from amdm_shapes_zoo.judge import judge
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.scenes import scene_of
from amdm_shapes_zoo.world import HELD_OUT_SEED, MAX_INSTANCES, Layouts, sample_layouts

_STEPS = 20
_GUIDANCE = 3.0
_BATCH = 32
_CANDIDATES_EACH = 20


def scenes_by_level(each: int) -> Layouts:
    """`each` pictures of every level that no training has seen; level k has k instances."""
    candidates = sample_layouts(_CANDIDATES_EACH * each, HELD_OUT_SEED)
    counts = candidates.counts()
    return candidates[np.concatenate([np.flatnonzero(counts == k + 1)[:each] for k in range(MAX_INSTANCES)])]


def score_miniature(member: dict[str, Any], weights: Path, each: int, device: torch.device) -> dict[str, Any]:
    """Judge pictures that one model draws alone, of the scenes' instances, actions and reference styles.

    Args:
        member: its entry in a composition, with paths relative to `weights`.
        weights: folder of all exported models.
        each: scenes of every level.
        device: where to draw.

    Returns:
        Shares of right colours, shapes, actions and styles, and the mean overlap of boxes; all and by level. Styles are
        right where the background's palette and texture are those of the reference.
    """
    pipeline = AMDMPipeline.from_composition(
        {"providers": [_with_paths(member, weights)], "sampler": {"steps": _STEPS, "guidance_scale": _GUIDANCE}},
        device=str(device),
        dtype="float32",
    )
    pipeline.set_progress_bar_config(disable=True)
    layouts = scenes_by_level(each)
    references = sample_layouts(len(layouts), HELD_OUT_SEED + 1)
    wanted = layouts.replace(palette=references.palette, texture=references.texture)
    scenes = [scene_of(layouts, index, Image.fromarray(picture)) for index, picture in enumerate(render(references))]
    images: list[Image.Image] = []
    for start in range(0, len(scenes), _BATCH):
        part = scenes[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
        images += pipeline(part, generator=seeds).images
    pictures = np.stack([np.asarray(image) for image in images])
    scores: dict[str, Any] = {"guidance": _GUIDANCE, "steps": _STEPS, "scenes_per_level": each}
    parts = {"all": np.ones(len(wanted), dtype=bool)}
    parts |= {f"level_{k + 1}": wanted.counts() == k + 1 for k in range(MAX_INSTANCES)}
    for name, chosen in parts.items():
        means = judge(pictures[chosen], wanted[chosen]).means()
        scores[name] = {part: round(mean, 4) for part, mean in means.items() if np.isfinite(mean)}
    return scores


def _with_paths(member: dict[str, Any], weights: Path) -> dict[str, Any]:
    keys = ("checkpoint", "base", "image_encoder")
    return {key: str((weights / value).resolve()) if key in keys else value for key, value in member.items()}
