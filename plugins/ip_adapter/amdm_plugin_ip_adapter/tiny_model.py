"""Random adapters, and a tiny image encoder, for the tiny Stable Diffusion of the contract kit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

Tensors = dict[str, torch.Tensor]

TINY_ENCODER: Mapping[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "projection_dim": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
    "hidden_act": "gelu",
}


def adapter_tensors(
    unet: UNet2DConditionModel, kind: str, encoder: Mapping[str, Any] = TINY_ENCODER, seed: int = 0
) -> Tensors:
    """Return random weights of an adapter under its original names."""
    generator = torch.Generator().manual_seed(seed)
    width = unet.config.cross_attention_dim

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * shape[-1] ** -0.5

    def norm(name: str, size: int) -> Tensors:
        return {f"{name}.weight": 1 + 0.1 * matrix(size), f"{name}.bias": 0.1 * matrix(size)}

    if kind == "base":
        tensors = {
            "image_proj.proj.weight": matrix(4 * width, encoder["projection_dim"]),
            "image_proj.proj.bias": matrix(4 * width),
            **norm("image_proj.norm", width),
        }
    else:
        inner, heads = 24, 64
        tensors = {
            "image_proj.latents": matrix(1, 16, inner),
            "image_proj.proj_in.weight": matrix(inner, encoder["hidden_size"]),
            "image_proj.proj_in.bias": matrix(inner),
            "image_proj.proj_out.weight": matrix(width, inner),
            "image_proj.proj_out.bias": matrix(width),
            **norm("image_proj.norm_out", width),
        }
        for block in range(4):
            name = f"image_proj.layers.{block}"
            tensors |= norm(f"{name}.0.norm1", inner) | norm(f"{name}.0.norm2", inner) | norm(f"{name}.1.0", inner)
            tensors |= {
                f"{name}.0.to_q.weight": matrix(heads, inner),
                f"{name}.0.to_kv.weight": matrix(2 * heads, inner),
                f"{name}.0.to_out.weight": matrix(inner, heads),
                f"{name}.1.1.weight": matrix(4 * inner, inner),
                f"{name}.1.3.weight": matrix(inner, 4 * inner),
            }
    layers = [name for name in unet.attn_processors if "attn2" in name]
    for number, layer in zip(range(1, 2 * len(layers), 2), layers, strict=True):
        channels = unet.get_submodule(layer.removesuffix(".processor")).to_q.out_features
        # Large enough for the pictures to matter beside the text.
        tensors[f"ip_adapter.{number}.to_k_ip.weight"] = 2 * matrix(channels, width)
        tensors[f"ip_adapter.{number}.to_v_ip.weight"] = 2 * matrix(channels, width)
    return tensors


def write_encoder(folder: Path, seed: int = 0, config: Mapping[str, Any] = TINY_ENCODER) -> Path:
    """Write an image encoder as transformers does, plus the position buffer that the published file holds."""
    torch.manual_seed(seed)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    folder.mkdir(parents=True)
    positions = torch.arange((config["image_size"] // config["patch_size"]) ** 2 + 1)[None]
    tensors = encoder.state_dict() | {"vision_model.embeddings.position_ids": positions}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(encoder.config.to_dict()))
    return folder
