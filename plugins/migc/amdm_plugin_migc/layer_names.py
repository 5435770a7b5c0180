"""What the name of a cross-attention layer says: which block of the original it is, and when it runs.

Names are those of diffusers, e.g. `up_blocks.1.attentions.0.transformer_blocks.0.attn2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amdm_framework.models.ldm_keys import ldm_unet_modules
from amdm_framework.models.unet_layers import layer_numbers


def ldm_layers(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {LDM block: layer} of all blocks with cross-attention, for the diffusers config of a UNet."""
    return {
        old.rpartition(".")[0]: f"{new}.transformer_blocks.0.attn2"
        for old, new in ldm_unet_modules(config).items()
        if ".attentions." in new
    }


def running_order(layer: str) -> tuple[int, list[int]]:
    """Return a key that sorts layers in the order in which they run."""
    return ("down_blocks", "mid_block", "up_blocks").index(layer.partition(".")[0]), layer_numbers(layer)
