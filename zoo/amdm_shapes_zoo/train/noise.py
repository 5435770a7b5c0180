"""The loss of all noise predictors, and which pictures they see how often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray

from amdm_shapes_zoo.architecture import LATENT_SIZE
from amdm_shapes_zoo.judge import box_masks
from amdm_shapes_zoo.world import Layouts

WEIGHT_LIMIT = 5.0
"""Steps count with the inverse root of their signal-to-noise ratio, at most this much: where things are and what they
are is decided at high noise, where the plain error of the noise is small."""


def noise_loss(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    generator: torch.Generator,
    cell_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weighted mean squared error of the predicted noise.

    Args:
        predict: noisy latents and (N,) timesteps to predicted noise.
        scheduler: its schedule.
        latents: (N, channels, height, width), scaled.
        generator: of noise and timesteps, on the CPU.
        cell_weights: (N, 1, height, width), how much every cell counts; None for all the same.
    """
    device, count = latents.device, len(latents)
    # Evenly spread timesteps vary the loss less than independent ones.
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    timesteps = (spread * scheduler.config["num_train_timesteps"]).long().to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    error = (predict(scheduler.add_noise(latents, noise, timesteps), timesteps) - noise).square()
    if cell_weights is not None:
        error = error * cell_weights
    kept = scheduler.alphas_cumprod.to(device)[timesteps]
    ratio = kept / (1 - kept)
    return (error.mean(dim=(1, 2, 3)) * ratio.rsqrt().clamp(max=WEIGHT_LIMIT)).mean()


def shares_of_groups(groups: NDArray[np.int64], shares: tuple[float, ...]) -> NDArray[np.float64]:
    """(N,) probability of drawing each picture, so that the groups (N,) they belong to have the given shares."""
    result = np.array(shares)[groups] / np.bincount(groups, minlength=len(shares))[groups]
    return result / result.sum()


def inside_weights(layouts: Layouts, weight: float) -> torch.Tensor:
    """(N, 1, LATENT_SIZE, LATENT_SIZE) weights of latent cells: `weight` inside the instances' boxes, 1 elsewhere."""
    inside = (box_masks(layouts.boxes, LATENT_SIZE) & layouts.present[..., None, None]).any(axis=1)
    return torch.from_numpy(1 + (weight - 1) * inside[:, None]).float()
