"""Where instances lie on the latent grid: one soft mask per box."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .scene import Scene


def instance_masks(scenes: Sequence[Scene], height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return how much of every latent cell every instance's box covers.

    Args:
        scenes: B scenes; instances keep their order, scenes with fewer get empty masks.
        height: latent rows.
        width: latent columns.
        device: where the masks shall live.

    Returns:
        (B, K, height, width) float32 in [0, 1], K the largest number of instances.
    """
    largest = max((len(scene.instances) for scene in scenes), default=0)
    masks = torch.zeros(len(scenes), largest, height, width)
    for image, scene in enumerate(scenes):
        for position, instance in enumerate(scene.instances.values()):
            left, top, right, bottom = instance.box
            masks[image, position] = torch.outer(_coverage(top, bottom, height), _coverage(left, right, width))
    return masks.to(device)


def _coverage(start: float, stop: float, cells: int) -> torch.Tensor:
    edges = torch.arange(cells + 1, dtype=torch.float64)
    covered = torch.minimum(edges[1:], torch.tensor(stop * cells)) - torch.maximum(
        edges[:-1], torch.tensor(start * cells)
    )
    return covered.clamp(0, 1).float()
