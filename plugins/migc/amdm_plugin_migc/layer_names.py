"""What the name of a cross-attention layer says: where it is in the UNet, hence when it runs and how large its map is.

Names are those of diffusers, e.g. `up_blocks.1.attentions.0.transformer_blocks.0.attn2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amdm_framework.models.ldm_keys import ldm_unet_modules

from .masks import Size


def ldm_layers(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {LDM block: layer} of all blocks with cross-attention, for the diffusers config of a UNet."""
    return {
        old.rpartition(".")[0]: f"{new}.transformer_blocks.0.attn2"
        for old, new in ldm_unet_modules(config).items()
        if ".attentions." in new
    }


def layer_level(layer: str, levels: int) -> int:
    """Return the level of a layer in a UNet of so many levels; 0 is the level of the latents."""
    if layer.startswith("mid_block"):
        return levels - 1
    block = _numbers(layer)[0]
    return block if layer.startswith("down_blocks") else levels - 1 - block


def layer_size(layer: str, latent_size: Size, levels: int) -> Size:
    """Return h, w of a layer's feature map: every level halves both sides, rounding up."""
    height, width = (-(-side // 2 ** layer_level(layer, levels)) for side in latent_size)
    return height, width


def running_order(layer: str) -> tuple[int, list[int]]:
    """Return a key that sorts layers in the order in which they run."""
    return ("down_blocks", "mid_block", "up_blocks").index(layer.partition(".")[0]), _numbers(layer)


def _numbers(layer: str) -> list[int]:
    return [int(number) for number in re.findall(r"\.(\d+)", layer)]
