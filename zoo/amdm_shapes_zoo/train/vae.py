"""Trains the autoencoder between pictures and latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from amdm_shapes_zoo.architecture import build_vae
from amdm_shapes_zoo.renderer import PIXEL_COLOURS
from amdm_shapes_zoo.segmentation import is_background
from amdm_shapes_zoo.train.common import load_checkpoint, to_pictures, to_tensor, write_sheet
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.pool import Pool


@dataclass(frozen=True)
class VaeSettings(TrainingSettings):
    """Settings of the autoencoder's training."""

    steps: int = 7000
    batch: int = 8
    rate: float = 2e-3
    weight_decay: float = 0.0
    divergence_weight: float = 5e-4
    """Weight of the divergence from the standard normal distribution, per latent value."""
    foreground_weight: float = 3.0
    """Weight of pixels of instances and marks, which cover less than the background and have more colours."""


def reconstruction_loss(pictures: torch.Tensor, decoded: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of absolute plus squared error.

    Args:
        pictures: (N, 3, size, size) in [-1, 1].
        decoded: the same, as the autoencoder made them.
        weights: (N, 1, size, size) weight of each pixel.
    """
    error = decoded - pictures
    return (weights * (error.abs() + error.square())).mean() / weights.mean()


def train_vae(settings: VaeSettings, pool: Pool, checkpoints: Path, device: torch.device) -> dict[str, Any]:
    """Trains to the end, going on from the last checkpoint; returns the facts for the card.

    The averaged weights stay in the checkpoint; `load_trained_vae` reads them.
    """
    torch.manual_seed(settings.seed)
    vae = build_vae().to(device)

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(len(pool.classes), size=settings.batch)
        pictures = to_tensor(pool.pictures(indices)).to(device)
        background = torch.from_numpy(is_background(pool.classes[indices])).to(device)
        weights = torch.where(background[:, None], 1.0, settings.foreground_weight)
        posterior = vae.encode(pictures).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        reconstruction = reconstruction_loss(pictures, decoded, weights)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        return reconstruction + settings.divergence_weight * divergence, {"divergence": divergence}

    def sheet(path: Path) -> None:
        write_vae_sheet(vae, pool, path)

    return train("vae", vae, settings, losses_of, sheet, checkpoints, device)


def load_trained_vae(checkpoints: Path, device: torch.device) -> AutoencoderKL:
    """The averaged autoencoder of the last checkpoint."""
    state = load_checkpoint(checkpoints / "vae.pt")
    if state is None:
        raise FileNotFoundError(f"no trained autoencoder in {checkpoints}: run the subcommand vae first")
    vae = build_vae().to(device).eval().requires_grad_(False)
    vae.load_state_dict(state["average"]["values"])
    return vae


@torch.no_grad()
def write_vae_sheet(vae: AutoencoderKL, pool: Pool, path: Path, count: int = 24) -> float:
    """Writes pictures above their reconstructions; returns the share of pixels read as before."""
    device = next(vae.parameters()).device
    truth = pool.pictures(np.arange(count))
    decoded = to_pictures(vae.decode(vae.encode(to_tensor(truth).to(device)).latent_dist.mean).sample)
    columns = 12
    rows = [part[start : start + columns] for start in range(0, count, columns) for part in (truth, decoded)]
    write_sheet(path, np.concatenate(rows), columns)
    distance = np.square(decoded[..., None, :].astype(float) - PIXEL_COLOURS.astype(float)).sum(axis=-1)
    return float((distance.argmin(axis=-1) == pool.classes[:count]).mean())
