"""Stable Diffusion models of random weights, made in memory: for benchmarks whose figures do not depend on the weights."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from amdm_framework.latents import LatentSpace, NoiseSchedule
from amdm_framework.models.stable_diffusion import StableDiffusionProvider
from amdm_shapes_zoo import architecture
from amdm_shapes_zoo.tokenizer import build_tokenizer

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from full_size_files import TEXT_ENCODER, UNET, VAE

from amdm_framework.testing.tiny_models import write_tokenizer

PROMPT = "a red circle and a blue square"


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Attributes:
        description: for people.
        picture: side of its pictures in pixels.
        unet: configuration of the UNet, over that of Stable Diffusion 1.5; None for the networks of the shapes zoo.
        vae: configuration of the autoencoder, likewise.
    """

    description: str
    picture: int
    unet: Mapping[str, Any] | None = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)


TINY = Size("the shapes zoo's networks, 64x64 pixels", 64, None)
HALF = Size(
    "Stable Diffusion 1.5 with half the channels, 128x128 pixels",
    128,
    {"block_out_channels": (160, 320, 640, 640), "sample_size": 16},
    {"block_out_channels": (64, 128, 256, 256)},
)
QUARTER_PICTURE = Size("Stable Diffusion 1.5, 256x256 pixels", 256, {"sample_size": 32})
FULL = Size("Stable Diffusion 1.5, 512x512 pixels", 512)


def random_providers(size: Size, count: int, device: torch.device, dtype: torch.dtype) -> list[StableDiffusionProvider]:
    """Return providers whose UNets have weights of their own; text encoder and autoencoder are common to all."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(size)
    with torch.device(device):
        vae = _ready(_vae(size), dtype)
        text_encoder = _ready(_text_encoder(size, tokenizer), dtype)
        unets = [_ready(_unet(size), dtype) for _ in range(count)]
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    space = LatentSpace(vae.config.latent_channels, scale, vae.config.scaling_factor)
    schedule = NoiseSchedule.from_scheduler_config(architecture.build_scheduler().config)
    return [StableDiffusionProvider(unet, vae, tokenizer, text_encoder, space, schedule) for unet in unets]


def _unet(size: Size) -> UNet2DConditionModel:
    return architecture.build_unet() if size.unet is None else UNet2DConditionModel(**{**UNET, **size.unet})


def _vae(size: Size) -> AutoencoderKL:
    return architecture.build_vae() if size.unet is None else AutoencoderKL(**{**VAE, **size.vae})


def _text_encoder(size: Size, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    if size.unet is None:
        return architecture.build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    return CLIPTextModel(CLIPTextConfig(vocab_size=49408, **TEXT_ENCODER))


def _tokenizer(size: Size) -> CLIPTokenizer:
    if size.unet is None:
        return build_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        return CLIPTokenizer.from_pretrained(write_tokenizer(Path(folder) / "tokenizer"))


def _ready(module: torch.nn.Module, dtype: torch.dtype) -> Any:
    # Past diffusers' own `to`, which warns of casts.
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)
