"""Writes random MIGC weights in the layouts people have, for a base of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from amdm_framework.models.context import LoadContext
from amdm_plugin_migc.options import MIGCOptions
from amdm_plugin_migc.provider import MIGCProvider, load
from amdm_plugin_migc.tiny_model import TINY_LAYERS


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
