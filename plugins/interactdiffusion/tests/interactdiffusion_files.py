"""Writes a tiny InteractDiffusion with random weights in every form the real one comes in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import (
    ldm_unet_state,
    ldm_vae_state,
)

MANIFESTS = Path(__file__).parent / "manifests"
Weights = dict[str, torch.Tensor]


def load_context(folder: Path, dtype: torch.dtype = torch.float32) -> LoadContext:
    """Return what a load is given, with references relative to a folder."""
    return LoadContext(torch.device("cpu"), dtype, base_dir=folder)


def original_contents(folder: Path) -> dict[str, Any]:
    """Return what the original's training script would have saved of a folder's model."""
    text = load_file(folder / "text_encoder" / "model.safetensors")
    text = {f"transformer.text_model.{name.removeprefix('text_model.')}": value for name, value in text.items()}
    text["transformer.text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
    return {
        "model": ldm_unet_state(folder / "unet"),
        "autoencoder": ldm_vae_state(folder / "vae"),
        "text_encoder": text,
        "diffusion": {"betas": torch.linspace(0, 1, 1000)},
        "opt": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "scheduler": {"last_epoch": 7},
        "iters": 7,
    }


def extension_weights(folder: Path) -> Weights:
    """Return the fusers and the position net alone, under LDM names."""
    weights = ldm_unet_state(folder / "unet")
    return {name: value for name, value in weights.items() if ".fuser." in name or name.startswith("position_net.")}


def write_original(path: Path, folder: Path, **changes: Any) -> Path:
    """Write the original `.pth`: a dictionary of dictionaries and a configuration object of a foreign class.

    Args:
        path: the file.
        folder: what `write_folder` wrote.
        changes: entries that replace those of `original_contents`; None leaves one out.
    """
    contents = {key: value for key, value in (original_contents(folder) | changes).items() if value is not None}
    module = ModuleType("omegaconf_of_the_training")
    module.DictConfig = type("DictConfig", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        node = module.DictConfig()
        node.__dict__["_metadata"] = {"ref_type": module.DictConfig}
        torch.save({**contents, "config_dict": {"_content": {"batch_size": node}}}, path)
    finally:
        del sys.modules[module.__name__]
    return path


def write_flat(path: Path, weights: Weights) -> Path:
    """Write weights into one file, as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        torch.save(weights, path)
    return path


def flattened(contents: dict[str, Any]) -> Weights:
    """Return the tensors of an original file's own parts under dotted names, as a safetensors copy has them."""
    parts = ("model", "autoencoder", "text_encoder")
    return {f"{part}.{name}": value for part in parts for name, value in contents[part].items()}


def read_manifest(kind: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the released weights: `ldm` of the original file's UNet, `diffusers` of the folder's."""
    entries = json.loads((MANIFESTS / f"interactdiffusion_v1.{kind}.json").read_text())
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}
