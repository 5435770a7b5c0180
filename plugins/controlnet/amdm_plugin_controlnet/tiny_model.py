"""Writes tiny random ControlNets in diffusers' layout, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

TINY_EMBEDDING = (8, 8, 16, 16)
"""Widths of the control picture's embedding: three halvings, as in the published models."""


def build_controlnet(unet: UNet2DConditionModel, seed: int = 0, **config: Any) -> ControlNetModel:
    """Return a random ControlNet in float32 for a UNet, whose convolutions that start at zero are none.

    Args:
        unet: gives the architecture.
        seed: every value derives from it.
        config: further values of diffusers' config.
    """
    torch.manual_seed(3000 + seed)
    own = {name: value for name, value in unet.config.items() if name in ControlNetModel.__init__.__annotations__}
    own |= {"conditioning_embedding_out_channels": TINY_EMBEDDING, **config}
    controlnet = ControlNetModel.from_config(own)
    with torch.no_grad():
        for parameter in controlnet.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif not parameter.any():
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        for name, parameter in controlnet.controlnet_cond_embedding.named_parameters():
            # Large enough for the picture to matter beside the latents.
            if name.endswith(".weight"):
                parameter.normal_(std=2 * parameter[0].numel() ** -0.5)
    return controlnet.eval().requires_grad_(False)


def write_controlnet(folder: Path, controlnet: ControlNetModel) -> Path:
    """Write a ControlNet as the published ones are, `config.json` beside the weights, and return the folder."""
    controlnet.save_pretrained(folder)
    return folder
