"""The model's own network, and the input it reads.

Change: everything. Where the names of its state dict are those of your published file, `load_strict` compares names and
shapes for you. Build it from sizes, never from weights: it is built without memory first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from amdm_framework.scene import Instance

HIDDEN = 32


class LayoutNetwork(torch.nn.Module):
    """Turns a layout into one residual for every level of a UNet's way down.

    There are no biases, so that an empty layout gives zeros: pictures without instances are the base model's own.

    Args:
        text_width: D, width of the base's text states.
        channels: of the UNet's levels, finest first.
    """

    def __init__(self, text_width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.enter = torch.nn.Conv2d(text_width, HIDDEN, 3, padding=1, bias=False)
        self.levels = torch.nn.ModuleList(
            torch.nn.Conv2d(HIDDEN, level_channels, 1, bias=False) for level_channels in channels
        )

    def forward(self, layout: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, D, h, w) to (B, C_l, h / 2^l, w / 2^l) for every level l, sizes rounded up as the UNet does."""
        hidden = torch.nn.functional.silu(self.enter(layout))
        residuals = []
        for level in self.levels:
            residuals.append(level(hidden))
            hidden = torch.nn.functional.avg_pool2d(hidden, 2, ceil_mode=True)
        return residuals


def paint_layout(instances: Sequence[Instance], features: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Paint the (n, D) features of n instances into their boxes on the latent grid; where boxes overlap, they add up.

    Returns:
        (D, height, width); a cell that a box covers in part gets that part of the feature.
    """
    layout = features.new_zeros(features.shape[1], height, width)
    for instance, feature in zip(instances, features, strict=True):
        left, top, right, bottom = instance.box
        mask = torch.outer(_covered(top, bottom, height), _covered(left, right, width)).to(features)
        layout += feature[:, None, None] * mask
    return layout


def _covered(start: float, stop: float, cells: int) -> torch.Tensor:
    # The part of every cell between two fractions of the whole length.
    edges = torch.arange(cells + 1, dtype=torch.float64)
    return (edges[1:].clamp(max=stop * cells) - edges[:-1].clamp(min=start * cells)).clamp(min=0)
