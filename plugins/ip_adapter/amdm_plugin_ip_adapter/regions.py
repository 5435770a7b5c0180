"""Where reference pictures act: one mask per picture, at the size of the drawn picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers.image_processor import IPAdapterMaskProcessor

from amdm_framework.errors import InputError

from .condition import ReferencePicture


def region_masks(references: Sequence[ReferencePicture], height: int, width: int) -> torch.Tensor | None:
    """Return (N, height, width) float32 masks of zeros and ones, or None where all pictures act everywhere.

    A pixel belongs to a box if its centre lies inside. Mask pictures are scaled to the drawn picture and count from
    half grey on.
    """
    if all(reference.box is None and reference.mask is None for reference in references):
        return None
    masks = torch.ones(len(references), height, width)
    for index, reference in enumerate(references):
        if reference.box is not None:
            left, top, right, bottom = reference.box
            masks[index] = torch.outer(_inside(top, bottom, height), _inside(left, right, width))
        elif reference.mask is not None:
            masks[index] = IPAdapterMaskProcessor().preprocess(reference.mask.open(), height, width)[0, 0]
    return masks


def check_size(height: int, width: int, scale: int, levels: int) -> None:
    """Refuse picture sizes at which diffusers' attention processors would lay a mask askew over an attention grid.

    They work out a grid's rows and columns from its number of cells and the mask's aspect ratio, which goes wrong where
    a level of the network does not divide evenly, and for a few sizes by rounding.

    Args:
        height: picture height in pixels.
        width: picture width in pixels.
        scale: pixels per latent cell.
        levels: levels of the UNet, each half the size of the one before.

    Raises:
        InputError: naming the sizes that would do.
    """
    rows, columns = height // scale, width // scale
    for _ in range(levels):
        # As in diffusers' IPAdapterMaskProcessor.downsample.
        assumed = int(math.sqrt(rows * columns / (width / height)))
        assumed += int(rows * columns % max(assumed, 1) != 0)
        if assumed != rows:
            raise InputError(
                f"the regions of reference pictures cannot be placed on a picture of {width} x {height} pixels with "
                f"this model: choose another width and height, multiples of {scale * 2 ** (levels - 1)}"
            )
        rows, columns = -(-rows // 2), -(-columns // 2)


def _inside(start: float, stop: float, cells: int) -> torch.Tensor:
    centres = (torch.arange(cells) + 0.5) / cells
    return ((centres >= start) & (centres < stop)).float()
