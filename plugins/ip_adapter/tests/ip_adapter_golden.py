"""Reads the golden cases and builds the tiny networks they were recorded with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm_framework.models.context import LoadContext
from amdm_plugin_ip_adapter.checkpoint import Adapter, attach_adapter, check_adapter

GOLDEN = Path(__file__).parent / "golden"


def case(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name / "case.json").read_text())


def tensors(name: str, file: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / name / f"{file}.safetensors")


def float32_context() -> LoadContext:
    return LoadContext(torch.device("cpu"), torch.float32)


def golden_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**case("unet_tiny")["unet_config"])
    unet.load_state_dict({key: value.float() for key, value in tensors("unet_tiny", "unet").items()})
    return unet.eval().requires_grad_(False)


def golden_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(**case("unet_tiny")["image_encoder_config"])
    encoder = CLIPVisionModelWithProjection(config)
    encoder.load_state_dict(tensors("unet_tiny", "image_encoder"))
    return encoder.eval().requires_grad_(False)


def golden_adapter(unet: UNet2DConditionModel, kind: str) -> Adapter:
    weights = tensors("unet_tiny", f"ip_adapter_{kind}")
    config = CLIPVisionConfig(**case("unet_tiny")["image_encoder_config"])
    assert check_adapter(weights, kind, unet, config) == kind
    return attach_adapter(unet, weights, kind, float32_context())
