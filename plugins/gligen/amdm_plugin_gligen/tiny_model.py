"""A tiny GLIGEN with random weights, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder


def write_tiny_gligen(folder: Path, seed: int = 0) -> Path:
    """Write a diffusers folder of GLIGEN and return it; its frozen weights are those of `write_diffusers_folder(seed)`.

    Its own weights are drawn larger than they are initialized: gates and null features start at zero, and small weights
    would make all boxes and phrases look alike.
    """
    write_diffusers_folder(folder, seed=seed)
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    generator = torch.Generator().manual_seed(7000 + seed)
    for name, value in build_unet({**TINY_UNET, "attention_type": "gated"}).state_dict().items():
        if name not in weights:
            spread = 1.5 / value.shape[-1] ** 0.5 if value.ndim > 1 else 0.4
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weights[name] = centre + spread * torch.randn(value.shape, generator=generator)
    save_file(weights, folder / "unet" / "diffusion_pytorch_model.safetensors")
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"attention_type": "gated"}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    return folder
