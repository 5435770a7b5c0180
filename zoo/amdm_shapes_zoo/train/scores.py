"""Scores of the trained base model, by the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from amdm_shapes_zoo.architecture import build_scheduler
from amdm_shapes_zoo.captions import Description, partial_description
from amdm_shapes_zoo.judge import judge
from amdm_shapes_zoo.prompt_judge import judge_prompts
from amdm_shapes_zoo.renderer import render, render_classes
from amdm_shapes_zoo.sampling import draw
from amdm_shapes_zoo.segmentation import segment
from amdm_shapes_zoo.tokenizer import build_tokenizer
from amdm_shapes_zoo.train.base import TextToImage
from amdm_shapes_zoo.train.common import to_pictures, to_tensor
from amdm_shapes_zoo.world import HELD_OUT_SEED, MAX_INSTANCES, sample_layouts

_CANDIDATES_EACH = 40


def prompts_by_level(each: int, seed: int = HELD_OUT_SEED) -> list[list[Description]]:
    """For each level (1 to 4 instances) `each` partial prompts of pictures that no training has seen."""
    layouts = sample_layouts(_CANDIDATES_EACH * each, seed)
    rng = np.random.default_rng(seed)
    levels: list[list[Description]] = [[] for _ in range(MAX_INSTANCES)]
    for index, count in enumerate(layouts.counts()):
        if len(levels[count - 1]) < each:
            description = partial_description(layouts, index, rng)
            if description.instances:
                levels[count - 1].append(description)
    return levels


def score_base(
    model: TextToImage, vae: AutoencoderKL, each: int, guidance: float = 4.0, steps: int = 20
) -> dict[str, Any]:
    """Share of right claims per level and part, over `each` prompts a level."""
    levels = prompts_by_level(each)
    pictures = draw(
        build_tokenizer(),
        model.text_encoder,
        model.unet,
        vae,
        build_scheduler(),
        [description.text() for descriptions in levels for description in descriptions],
        guidance,
        steps,
        seed=HELD_OUT_SEED,
    )
    result: dict[str, Any] = {"guidance": guidance, "steps": steps, "prompts_per_level": each}
    for level, descriptions in enumerate(levels):
        own = pictures[level * each : (level + 1) * each]
        result[f"level_{level + 1}"] = judge_prompts(own, descriptions)
    return result


@torch.no_grad()
def score_vae(vae: AutoencoderKL, count: int) -> dict[str, float]:
    """Judge's scores of reconstructions of unseen pictures, and the share of pixels read as before."""
    layouts = sample_layouts(count, HELD_OUT_SEED)
    device = next(vae.parameters()).device
    tensor = to_tensor(render(layouts)).to(device)
    decoded = to_pictures(vae.decode(vae.encode(tensor).latent_dist.mean).sample)
    right = float((segment(decoded) == render_classes(layouts)).mean())
    means = judge(decoded, layouts).means()
    return {"pixels": round(right, 4), **{name: round(mean, 4) for name, mean in means.items()}}
