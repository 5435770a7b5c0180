"""Boxes as masks: at picture size, at latent size, and at the size of every attention layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from amdm_framework.models.unet_layers import Size


def draw_masks(boxes: Sequence[Sequence[float]], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw every box as a filled rectangle, and what no box covers as the background.

    Edges are truncated to whole pixels. The products are taken in Python's double precision: in float32 an edge can
    land on the neighbouring pixel.

    Args:
        boxes: n boxes (left, top, right, bottom) as fractions of the picture. What exceeds 1 is cut off.
        height: rows of the picture in pixels.
        width: columns of the picture in pixels.

    Returns:
        Instance masks (n, height, width) and the background (1, height, width), float32, each 0 or 1.
    """
    masks = torch.zeros(len(boxes), height, width)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(height * top) : int(height * bottom), int(width * left) : int(width * right)] = 1
    return masks, 1 - masks.sum(0, keepdim=True).clamp(max=1)


def resize_masks(masks: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize masks (n, H, W) bilinearly, without antialiasing, to (n, *size).

    The background is resized like any other mask: computed anew from resized instance masks it would differ wherever
    boxes meet or overlap.
    """
    if masks.shape[0] == 0:
        return masks.new_zeros(0, *size)
    return functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]


def layout_permissions(masks: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Say which cells may attend to each other: those that some region, instance or background, contains both.

    A cell belongs to a region where its mask is above 0, however little. Every cell belongs to at least one.

    Args:
        masks: (n, h, w) instance masks of one picture.
        background: (1, h, w).

    Returns:
        (h * w, h * w) bool, symmetric, true on the diagonal.
    """
    member = (torch.cat([masks, background]) > 0).flatten(1).float()
    return member.T @ member > 0
