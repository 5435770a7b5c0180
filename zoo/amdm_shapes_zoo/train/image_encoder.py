"""Trains the tiny CLIP vision model: to tell the styles of backgrounds apart, whatever stands before them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from amdm_shapes_zoo.architecture import TEXT_WIDTH, build_image_encoder
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.world import PALETTES, TEXTURES, Layouts

_BATCH = 256


@dataclass(frozen=True)
class ImageEncoderSettings(TrainingSettings):
    """Settings of the vision model's training."""

    steps: int = 1500
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.99


def styles_of(layouts: Layouts) -> NDArray[np.int64]:
    """(N,) the style of each picture: palette and texture as one number."""
    return layouts.palette * len(TEXTURES) + layouts.texture


def normalised_pixels(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """(N, size, size, 3) pictures to the (N, 3, size, size) pixels that CLIP's preprocessing makes of them."""
    scaled = torch.from_numpy(pictures).float() / 255
    return ((scaled - torch.tensor(OPENAI_CLIP_MEAN)) / torch.tensor(OPENAI_CLIP_STD)).permute(0, 3, 1, 2)


def train_image_encoder(
    settings: ImageEncoderSettings, pool: Pool, checkpoints: Path, device: torch.device
) -> tuple[CLIPVisionModelWithProjection, dict[str, Any]]:
    """Train to the end, going on from the last checkpoint; returns the averaged encoder and card facts."""
    torch.manual_seed(settings.seed)
    # The head is only needed to say which style an embedding means.
    networks = nn.ModuleDict(
        {"encoder": build_image_encoder(), "head": nn.Linear(TEXT_WIDTH, len(PALETTES) * len(TEXTURES))}
    ).to(device)
    styles = torch.from_numpy(styles_of(pool.layouts))

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(len(pool.classes), size=settings.batch)
        pixels = normalised_pixels(pool.pictures(indices)).to(device)
        logits = networks["head"](networks["encoder"](pixels).image_embeds)
        loss = nn.functional.cross_entropy(logits, styles[torch.from_numpy(indices)].to(device))
        right = (logits.argmax(dim=1).cpu() == styles[torch.from_numpy(indices)]).float().mean()
        return loss, {"right": right}

    facts = train("image_encoder", networks, settings, losses_of, None, checkpoints, device)
    encoder: CLIPVisionModelWithProjection = networks["encoder"]
    return encoder, facts


@torch.no_grad()
def embed_pool(encoder: CLIPVisionModelWithProjection, pool: Pool, device: torch.device) -> torch.Tensor:
    """(N, TEXT_WIDTH) image embeddings of all pictures."""
    parts = []
    for start in range(0, len(pool.classes), _BATCH):
        indices = np.arange(start, min(start + _BATCH, len(pool.classes)))
        parts.append(encoder(normalised_pixels(pool.pictures(indices)).to(device)).image_embeds)
    return torch.cat(parts)
