"""Writes random MIGC weights in the layouts people have, for a base of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import TEXT_WIDTH
from amdm_plugin_migc.modules import BlockSizes, MIGCBlock
from amdm_plugin_migc.options import MIGCOptions
from amdm_plugin_migc.provider import MIGCProvider, load

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


def converted_tensors(tensors: Mapping[str, torch.Tensor], level: str = "") -> dict[str, torch.Tensor]:
    """Return the same weights under diffusers' names; `level` is an optional level such as `processor.`."""
    converted = {}
    for ldm, (layer, _) in TINY_LAYERS.items():
        prefix = f"model.diffusion_model.{ldm}.transformer_blocks.0.attn2."
        for name in tensors:
            if name.startswith(prefix):
                converted[f"{layer}.transformer_blocks.0.attn2.{level}{name.removeprefix(prefix)}"] = tensors[name]
    return converted


def write(path: Path, tensors: Mapping[str, torch.Tensor], others: Sequence[str] = ()) -> Path:
    """Write a `.safetensors` file, or a pickle with `state_dict` and other top-level entries."""
    if path.suffix == ".safetensors":
        save_file({name: value.clone().contiguous() for name, value in tensors.items()}, path)
    else:
        torch.save({"state_dict": dict(tensors), **dict.fromkeys(others, 1)}, path)
    return path


@dataclass(frozen=True)
class MIGCFiles:
    """A folder with a base model `sd` and weights `MIGC_SD14.ckpt`."""

    folder: Path

    def context(self, dtype: torch.dtype = torch.float32) -> LoadContext:
        """Return a context of its own, whose relative paths start at the folder."""
        return LoadContext(torch.device("cpu"), dtype, base_dir=self.folder)

    def load(self, context: LoadContext | None = None, **options: Any) -> MIGCProvider:
        """Load the provider through the real path."""
        given = {"checkpoint": "MIGC_SD14.ckpt", "base": "sd"} | options
        return load(MIGCOptions(**given), context or self.context())
