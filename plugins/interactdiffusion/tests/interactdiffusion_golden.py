"""Reads the recorded inputs and outputs of the original implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from amdm_framework.models.ldm_keys import ldm_unet_key_map
from amdm_plugin_interactdiffusion.fuser import install_fusers
from amdm_plugin_interactdiffusion.grounding_tokens import GroundingTokenizer

GOLDEN = Path(__file__).parent / "golden"
TOKENIZER_INPUTS = (
    "subject_boxes",
    "object_boxes",
    "masks",
    "subject_positive_embeddings",
    "object_positive_embeddings",
    "action_positive_embeddings",
)


def read_case(name: str) -> dict[str, Any]:
    """Return a case's description."""
    case: dict[str, Any] = json.loads((GOLDEN / name / "case.json").read_text())
    return case


def read_tensors(name: str, file: str = "io") -> dict[str, torch.Tensor]:
    """Return a case's tensors in float32; weights are stored in a narrow type."""
    return {key: value.float() for key, value in load_file(GOLDEN / name / f"{file}.safetensors").items()}


def tokenizer_of(weights: dict[str, torch.Tensor]) -> GroundingTokenizer:
    """Return the grounding tokenizer among a UNet's weights."""
    prefix = "position_net."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    tokenizer = GroundingTokenizer.for_shapes({key: tuple(value.shape) for key, value in own.items()})
    tokenizer.load_state_dict(own)
    return tokenizer.eval()


def tiny_unet() -> tuple[UNet2DConditionModel, GroundingTokenizer]:
    """Return the recorded UNet with fusers, and its grounding tokenizer."""
    config = read_case("unet_tiny")["config_diffusers"]
    weights = read_tensors("unet_tiny", "weights")
    unet = UNet2DConditionModel(**{key: value for key, value in config.items() if key != "attention_type"})
    install_fusers(unet, token_width=config["cross_attention_dim"])
    names = ldm_unet_key_map(unet.config, (key for key in weights if not key.startswith("position_net.")))
    unet.load_state_dict({new: weights[old] for old, new in names.items()})
    return unet.eval(), tokenizer_of(weights)
