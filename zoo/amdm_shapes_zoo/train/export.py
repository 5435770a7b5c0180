"""Writes trained models in the formats that real ones come in, in half precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from amdm_plugin_migc.layer_names import ldm_layers
from amdm_shapes_zoo.architecture import build_scheduler
from amdm_shapes_zoo.tokenizer import save_tokenizer
from amdm_shapes_zoo.train.base import TextToImage
from amdm_shapes_zoo.train.embedded import Base
from amdm_shapes_zoo.train.interactdiffusion import InteractDiffusionNetworks
from amdm_shapes_zoo.train.ip_adapter import IPAdapterNetworks
from amdm_shapes_zoo.train.migc import MIGCNetworks


def export_base(model: TextToImage, vae: AutoencoderKL, folder: Path) -> None:
    """Writes `model_index.json` and the components, as `StableDiffusionPipeline.from_pretrained` reads them.

    Args:
        model: text encoder and noise predictor.
        vae: autoencoder with its `scaling_factor` set.
        folder: where to write; existing files are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.unet.to(torch.float16).save_pretrained(folder / "unet")
    model.text_encoder.to(torch.float16).save_pretrained(folder / "text_encoder")
    vae.to(torch.float16).save_pretrained(folder / "vae")
    build_scheduler().save_pretrained(folder / "scheduler")
    save_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write_json(folder / "model_index.json", index)


def export_interactdiffusion(networks: InteractDiffusionNetworks, base: Base, folder: Path) -> None:
    """Write a diffusers folder: the UNet with fusers and position net, everything else as in the base model's.

    Args:
        networks: the trained UNet and position net.
        base: lends autoencoder, text encoder, tokenizer and scheduler.
        folder: where to write; existing files are replaced.
    """
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(base.folder / part, folder / part, dirs_exist_ok=True)
    position_net = networks.grounding_tokenizer.state_dict()
    weights = networks.unet.state_dict() | {f"position_net.{name}": value for name, value in position_net.items()}
    (folder / "unet").mkdir(exist_ok=True)
    _save(weights, folder / "unet" / "diffusion_pytorch_model.safetensors")
    config = json.loads((base.folder / "unet" / "config.json").read_text(encoding="utf-8"))
    config |= {"_class_name": "InteractDiffusionUNet2DConditionModel", "attention_type": "gated"}
    _write_json(folder / "unet" / "config.json", config)
    index = json.loads((base.folder / "model_index.json").read_text(encoding="utf-8"))
    _write_json(folder / "model_index.json", index | {"_class_name": "StableDiffusionInteractDiffusionPipeline"})


def export_migc(networks: MIGCNetworks, base: Base, path: Path) -> None:
    """Write MIGC's blocks into one file, under the names of the published one."""
    blocks = networks.by_layer()
    weights = {
        f"model.diffusion_model.{old}.1.transformer_blocks.0.attn2.migc.{name}": value
        for old, layer in ldm_layers(base.unet.config).items()
        for name, value in blocks[layer].state_dict().items()
    }
    _save(weights, path)


def export_ip_adapter(
    networks: IPAdapterNetworks, image_encoder: CLIPVisionModelWithProjection, path: Path, encoder_folder: Path
) -> None:
    """Write the adapter into one flat file, and the image encoder it was trained with into a folder."""
    _save(networks.tensors(), path)
    image_encoder.to(torch.float16).save_pretrained(encoder_folder)


def _save(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().to(torch.float16).contiguous() for name, value in weights.items()}, path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
