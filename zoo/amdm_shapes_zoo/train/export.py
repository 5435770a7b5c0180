"""Writes the trained base model as a diffusers folder in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL

from amdm_shapes_zoo.architecture import build_scheduler
from amdm_shapes_zoo.tokenizer import save_tokenizer
from amdm_shapes_zoo.train.base import TextToImage


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
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
