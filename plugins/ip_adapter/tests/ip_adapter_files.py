"""Writes random tiny models in the layouts that people have on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def write_adapter(path: Path, tensors: Tensors, dtype: torch.dtype = torch.float32) -> Path:
    """Write an adapter as the flat `.safetensors` or the `.bin` of two dictionaries, as the suffix says."""
    tensors = {name: value.to(dtype) for name, value in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        nested: dict[str, Tensors] = {"image_proj": {}, "ip_adapter": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            nested[part][rest] = value
        torch.save(nested, path)
    return path


def picture(seed: int, width: int = 80, height: int = 60) -> Image.Image:
    """Return a smooth random picture."""
    pixels = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    pixels = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic").clamp(0, 1)
    return Image.fromarray((255 * pixels[0].permute(1, 2, 0)).byte().numpy())
