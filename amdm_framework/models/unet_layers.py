"""What the name of a UNet's layer says: where it is, hence how large its feature map is.

Names are those of diffusers, e.g. `up_blocks.1.attentions.0.transformer_blocks.0.attn2`.
"""

from __future__ import annotations

import re

Size = tuple[int, int]
"""Rows and columns."""


def layer_level(layer: str, levels: int) -> int:
    """Return the level of a layer in a UNet of so many levels; 0 is the level of the latents."""
    if layer.startswith("mid_block"):
        return levels - 1
    block = layer_numbers(layer)[0]
    return block if layer.startswith("down_blocks") else levels - 1 - block


def layer_size(layer: str, latent_size: Size, levels: int) -> Size:
    """Return h, w of a layer's feature map: every level halves both sides, rounding up."""
    height, width = (-(-side // 2 ** layer_level(layer, levels)) for side in latent_size)
    return height, width


def layer_numbers(layer: str) -> list[int]:
    """Return the numbers in a layer's name."""
    return [int(number) for number in re.findall(r"\.(\d+)", layer)]
