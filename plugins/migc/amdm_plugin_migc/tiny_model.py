"""Random MIGC weights for the tiny Stable Diffusion of the contract kit."""

from __future__ import annotations

import torch

from amdm_framework.testing.tiny_models import TEXT_WIDTH

from .modules import BlockSizes, MIGCBlock

TINY_LAYERS = {
    "middle_block.1": ("mid_block.attentions.0", 64),
    "output_blocks.2.1": ("up_blocks.1.attentions.0", 32),
    "output_blocks.3.1": ("up_blocks.1.attentions.1", 32),
}
"""Layers of the tiny UNet by their original names: diffusers' name and channels."""


def sizes_of(channels: int, width: int = TEXT_WIDTH, box_hidden: int = 24) -> BlockSizes:
    """Return the sizes of a block as the published file relates them."""
    return BlockSizes(channels, width, 64, box_hidden, channels // 16, 30, 30, (7, 7))


def block_tensors(sizes: BlockSizes, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights of one block; no norm or bias is at its initial constant."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in MIGCBlock(sizes).state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        fan_in = value[0].numel() if value.ndim > 1 else 1
        tensors[name] = noise / fan_in**0.5 if value.ndim > 1 else float(name == "norm.weight") + 0.3 * noise
    return tensors


def original_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights for the tiny UNet under the published file's names."""
    return {
        f"model.diffusion_model.{ldm}.transformer_blocks.0.attn2.migc.{name}": value
        for position, (ldm, (_, channels)) in enumerate(TINY_LAYERS.items())
        for name, value in block_tensors(sizes_of(channels), 10 * seed + position).items()
    }
