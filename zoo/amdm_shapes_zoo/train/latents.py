"""Encodes the pool once, so that training the noise predictor needs no autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from amdm_shapes_zoo.train.common import load_checkpoint, save_checkpoint, to_tensor
from amdm_shapes_zoo.train.pool import Pool

_BATCH = 128


@torch.no_grad()
def encode_pool(vae: AutoencoderKL, pool: Pool, cache: Path) -> torch.Tensor:
    """(N, channels, height, width) unscaled mean latents of all pictures, kept in the file `cache`."""
    saved = load_checkpoint(cache)
    if saved is not None and len(saved["latents"]) == len(pool.classes):
        return saved["latents"]
    device = next(vae.parameters()).device
    parts = []
    for start in tqdm(range(0, len(pool.classes), _BATCH), desc="encoding", mininterval=2):
        indices = np.arange(start, min(start + _BATCH, len(pool.classes)))
        pictures = to_tensor(pool.pictures(indices)).to(device)
        parts.append(vae.encode(pictures).latent_dist.mean.cpu())
    latents = torch.cat(parts)
    save_checkpoint(cache, {"latents": latents})
    return latents


def scaling_factor(latents: torch.Tensor) -> float:
    """The factor that gives latents unit standard deviation over all channels."""
    return round(1 / float(latents.square().mean().sqrt()), 5)
