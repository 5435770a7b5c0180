"""A tiny InteractDiffusion with random weights: the tiny Stable Diffusion of the contract kit, and its grounding."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from amdm_framework.testing.tiny_models import TEXT_WIDTH, TINY_UNET, build_unet, write_diffusers_folder

from .fuser import install_fusers
from .grounding_tokens import GroundingTokenizer

SLOTS = 30


def write_folder(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Write a diffusers folder whose frozen weights are those of `write_diffusers_folder` with the same seed."""
    write_diffusers_folder(folder, seed=seed, dtype=dtype)
    unet = build_unet(TINY_UNET, seed)
    install_fusers(unet, TEXT_WIDTH)
    tokenizer = GroundingTokenizer(TEXT_WIDTH, TEXT_WIDTH, SLOTS, hidden_width=48)
    generator = torch.Generator().manual_seed(5000 + seed)
    weights = unet.state_dict() | {f"position_net.{name}": value for name, value in tokenizer.state_dict().items()}
    for name, value in weights.items():
        if "fuser" in name or name.startswith("position_net."):
            # No value keeps its initial constant: gates, norms and null features would hide mistakes.
            spread = 0.4 if value.ndim < 2 else 1.5 / value.shape[-1] ** 0.5
            weights[name] = value.new_empty(value.shape).normal_(generator=generator) * spread + (
                1.0 if "norm" in name and name.endswith("weight") else 0.0
            )
    save_file(
        {name: value.to(dtype).contiguous() for name, value in weights.items()},
        folder / "unet" / "diffusion_pytorch_model.safetensors",
    )
    config = json.loads((folder / "unet" / "config.json").read_text())
    config |= {"_class_name": "InteractDiffusionUNet2DConditionModel", "attention_type": "gated"}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    return folder
