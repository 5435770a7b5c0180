"""Writes random models of the real sizes, in half precision and in the layouts the real ones are published in.

A base in the folder layout of diffusers, InteractDiffusion's original pickle whose frozen weights are those of the base,
MIGC's pickle, IP-Adapter's safetensors and its image encoder (CLIP ViT-H). Names and shapes of the adapters are those of
the released files, recorded beside the plugins' tests.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm_framework.models.checkpoints import build_on_meta

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY / "tests"))

from amdm_framework.testing.tiny_models import TINY_VAE, build_scheduler, ldm_vae_state, write_tokenizer  # noqa: E402
from full_size_configs import IMAGE_ENCODER, TEXT_ENCODER, UNET  # noqa: E402

DISK_BYTES = 7 * 2**30
"""Space that the files take, and a little more."""

VAE = {**TINY_VAE, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}

MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "interactdiffusion": {"checkpoint": "interact-diffusion-v1.pth", "base": "sd"},
    "migc": {"checkpoint": "MIGC_SD14.ckpt", "base": "sd"},
    "ip_adapter": {"checkpoint": "ip-adapter_sd15.safetensors", "image_encoder": "image_encoder", "base": "sd"},
}
"""Providers and their options, for a composition beside the files."""

Tensors = dict[str, torch.Tensor]


def write_models(folder: Path) -> None:
    """Write everything that `MEMBERS` names into a folder.

    Raises:
        SystemExit: there is not enough space.
    """
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        raise SystemExit(
            f"{folder}: {free / 2**30:.1f} GiB are free and {DISK_BYTES / 2**30:.0f} GiB are needed for the random "
            "models; set TMPDIR to a folder on another disk"
        )
    values = _RandomValues()
    text_config = CLIPTextConfig(vocab_size=49408, **TEXT_ENCODER)
    base = folder / "sd"
    unet = _write_component(base / "unet", build_on_meta(lambda: UNet2DConditionModel(**UNET)), values)
    _write_component(base / "vae", build_on_meta(lambda: AutoencoderKL(**VAE)), values)
    text = _write_component(base / "text_encoder", build_on_meta(lambda: CLIPTextModel(text_config)), values)
    write_tokenizer(base / "tokenizer")
    build_scheduler().save_pretrained(base / "scheduler")

    recorded = REPOSITORY / "plugins" / "interactdiffusion" / "tests" / "manifests"
    names_in_diffusers = json.loads((recorded / "interactdiffusion_v1.keymap.json").read_text())
    shapes = _shapes(recorded / "interactdiffusion_v1.ldm.json")
    own = values.tensors({name: shape for name, shape in shapes.items() if names_in_diffusers[name] not in unet})
    text_names = {f"transformer.text_model.{name.removeprefix('text_model.')}": name for name in text}
    contents = {
        "model": {name: own[name] if name in own else unet[names_in_diffusers[name]] for name in shapes},
        "autoencoder": ldm_vae_state(base / "vae"),
        "text_encoder": {new: text[name] for new, name in text_names.items()}
        | {"transformer.text_model.embeddings.position_ids": torch.arange(77).unsqueeze(0)},
        "iters": 7,
    }
    torch.save(contents, folder / MEMBERS["interactdiffusion"]["checkpoint"])
    del unet, own, text, contents

    migc = values.tensors(_shapes(REPOSITORY / "plugins" / "migc" / "tests" / "golden" / "migc_sd14.json"))
    torch.save({"state_dict": migc}, folder / MEMBERS["migc"]["checkpoint"])
    adapter = REPOSITORY / "plugins" / "ip_adapter" / "tests" / "manifests" / "ip-adapter_sd15.json"
    save_file(values.tensors(_shapes(adapter)), folder / MEMBERS["ip_adapter"]["checkpoint"])
    encoder = build_on_meta(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER)))
    positions = {"vision_model.embeddings.position_ids": torch.arange(257).unsqueeze(0)}
    _write_component(folder / "image_encoder", encoder, values, positions)


class _RandomValues:
    """Half-precision tensors, each another stretch of one pool: no two tensors of one shape are equal."""

    def __init__(self) -> None:
        self._pool = torch.randn(2**26, generator=torch.Generator().manual_seed(0)).half()
        self._taken = 0

    def tensors(self, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
        """Return new tensors of these shapes."""
        tensors = {}
        for name, shape in shapes.items():
            count = torch.Size(shape).numel()
            start = self._taken * 7919 % (len(self._pool) - count)
            tensors[name] = self._pool[start : start + count].view(shape).clone()
            self._taken += 1
        return tensors


def _write_component(
    folder: Path, module: torch.nn.Module, values: _RandomValues, further: Mapping[str, torch.Tensor] | None = None
) -> Tensors:
    folder.mkdir(parents=True)
    tensors = values.tensors({name: tuple(value.shape) for name, value in module.state_dict().items()})
    of_transformers = hasattr(module.config, "to_dict")
    weights = "model" if of_transformers else "diffusion_pytorch_model"
    save_file({**tensors, **(further or {})}, folder / f"{weights}.safetensors")
    config = module.config.to_dict() if of_transformers else dict(module.config)
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def _shapes(manifest: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(entry["shape"]) for name, entry in json.loads(manifest.read_text()).items()}
