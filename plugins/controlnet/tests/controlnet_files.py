"""Writes random tiny ControlNets in the layouts that people have on disk, and control pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from amdm_framework.models.ldm_keys import ldm_unet_modules, rename_keys


def original_tensors(controlnet: ControlNetModel, prefix: str = "control_model.") -> dict[str, torch.Tensor]:
    """Return the weights of a ControlNet under their original names."""
    levels = ["Up".join(kind.split("Down")) for kind in reversed(controlnet.config.down_block_types)]
    modules = ldm_unet_modules({**controlnet.config, "up_block_types": levels})
    modules = {new: old for old, new in modules.items()}
    modules |= {
        f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(len(controlnet.controlnet_down_blocks))
    }
    modules["controlnet_mid_block"] = "middle_block_out.0"
    layers = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    modules |= {f"controlnet_cond_embedding.{layer}": f"input_hint_block.{2 * i}" for i, layer in enumerate(layers)}
    weights = controlnet.state_dict()
    return {f"{prefix}{new}": weights[old].clone() for old, new in rename_keys(weights, modules).items()}


def write_original(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a single file, as `.safetensors` or as a pickle."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path)
    return path


def edges(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """Return white lines on black."""
    picture = Image.new("RGB", (width, height))
    points = torch.rand(8, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([width, height])
    ImageDraw.Draw(picture).line([tuple(point) for point in points.tolist()], "white", 3)
    return picture
