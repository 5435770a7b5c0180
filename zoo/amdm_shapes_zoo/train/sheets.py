"""Sample sheets of the miniatures: what was given above what a model makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from amdm_shapes_zoo.architecture import LATENT_CHANNELS, LATENT_SIZE
from amdm_shapes_zoo.train.embedded import Base

_STEPS = 20
_GUIDANCE = 3.0


@torch.no_grad()
def sample_guided(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], base: Base, count: int
) -> torch.Tensor:
    """(count, channels, height, width) scaled latents by guided deterministic DDIM.

    Args:
        predict: (2 count, ...) latents, the unconditional half first, and a timestep to predicted noise.
        base: gives the schedule.
        count: number of pictures.
    """
    shape = (count, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(base.device)
    base.scheduler.set_timesteps(_STEPS)
    for timestep in base.scheduler.timesteps:
        without, conditional = predict(torch.cat([latents, latents]), timestep).chunk(2)
        prediction = without + _GUIDANCE * (conditional - without)
        latents = base.scheduler.step(prediction, timestep, latents, eta=0.0).prev_sample
    return latents


def interleave(given: NDArray[np.uint8], drawn: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Rows of the pictures that were given, each followed by the row of what was drawn for them."""
    rows = [part[start : start + columns] for start in range(0, len(drawn), columns) for part in (given, drawn)]
    return np.concatenate(rows)
