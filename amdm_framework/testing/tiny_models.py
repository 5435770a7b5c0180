"""Writes tiny random checkpoints in the layouts of Stable Diffusion, for tests.

Three layouts, one set of weights for one seed:

    folder = write_diffusers_folder(tmp_path / "base")                         # model_index.json, unet/, vae/, ...
    single = write_single_file(tmp_path / "base.safetensors", folder)          # original (LDM) names
    pickled = write_single_file(tmp_path / "base.ckpt", folder)                # torch.save({"state_dict": ...})

A single file carries no tokenizer and no configs: pass `tokenizer=folder / "tokenizer"` where it is loaded, and
`prediction_type` where it is not epsilon. Every value derives from `seed`; `text_seed` and `vae_seed` exist so that two
models can share one component and differ in another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.convert_slow_tokenizer import bytes_to_unicode

from amdm_framework.models.ldm_keys import ldm_unet_modules, ldm_vae_modules, rename_keys

Module = TypeVar("Module", bound=torch.nn.Module)

TEXT_WIDTH = 64
"""Width of the text encoder and of the UNet's cross-attention."""

TINY_UNET: Mapping[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
}
"""Two levels, one layer each: the fastest UNet of the family."""

SD_TOPOLOGY_UNET: Mapping[str, Any] = {
    **TINY_UNET,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
"""Exactly the blocks of Stable Diffusion 1.x (16 cross-attentions), with narrow channels."""

TINY_VAE: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 32, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}
"""Factor 8, as in Stable Diffusion: 8x8 latents are pictures of 64x64."""


def build_unet(config: Mapping[str, Any] = TINY_UNET, seed: int = 0) -> UNet2DConditionModel:
    """Return a random UNet in float32; no parameter keeps its initial constant."""
    torch.manual_seed(seed)
    return _shake(UNet2DConditionModel(**config))


def build_vae(seed: int = 0, config: Mapping[str, Any] = TINY_VAE) -> AutoencoderKL:
    """Return a random autoencoder in float32."""
    torch.manual_seed(1000 + seed)
    return _shake(AutoencoderKL(**config))


def build_text_encoder(seed: int = 0, width: int = TEXT_WIDTH) -> CLIPTextModel:
    """Return a random two-layer CLIP text model in float32 over the tiny vocabulary."""
    torch.manual_seed(2000 + seed)
    vocabulary = _vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=77,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    return _shake(CLIPTextModel(config))


def build_scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    """Return the scheduler of Stable Diffusion 1.x."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=prediction_type,
    )


def write_tokenizer(folder: Path) -> Path:
    """Write a CLIP tokenizer that knows single characters only (one token per letter) and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_diffusers_folder(
    folder: Path,
    *,
    seed: int = 0,
    text_seed: int | None = None,
    vae_seed: int | None = None,
    prediction_type: str = "epsilon",
    unet_config: Mapping[str, Any] = TINY_UNET,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    safe_serialization: bool = True,
) -> Path:
    """Write a model in diffusers' folder layout and return the folder.

    Args:
        folder: is created.
        seed: of the UNet, and of the other components where they have no seed of their own.
        text_seed: of the text encoder.
        vae_seed: of the autoencoder.
        prediction_type: `epsilon` or `v_prediction`.
        unet_config: `TINY_UNET`, `SD_TOPOLOGY_UNET` or one of your own.
        dtype: of the stored weights.
        variant: e.g. `fp16`: weight files are named `diffusion_pytorch_model.fp16.safetensors`.
        safe_serialization: False writes `.bin` pickles.
    """
    unet = build_unet(unet_config, seed)
    components = {
        "unet": unet,
        "vae": build_vae(seed if vae_seed is None else vae_seed),
        "text_encoder": build_text_encoder(seed if text_seed is None else text_seed, unet.config.cross_attention_dim),
    }
    for name, module in components.items():
        if dtype != torch.float32:
            module.to(dtype)
        module.save_pretrained(folder / name, variant=variant, safe_serialization=safe_serialization)
        if not safe_serialization and name == "text_encoder":
            _pickle_text_encoder(folder / name, variant)
    write_tokenizer(folder / "tokenizer")
    build_scheduler(prediction_type).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def write_single_file(path: Path, folder: Path, *, extra: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Write the weights of a diffusers folder under the original names into one `.safetensors` or `.ckpt` file.

    Args:
        path: its suffix says the format; `.ckpt` is `torch.save({"state_dict": ...})`.
        folder: what `write_diffusers_folder` wrote (safetensors, no variant).
        extra: further tensors of the file.
    """
    tensors = {f"model.diffusion_model.{key}": value for key, value in ldm_unet_state(folder / "unet").items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in ldm_vae_state(folder / "vae").items()}
    for key, value in load_file(folder / "text_encoder" / "model.safetensors").items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    positions = torch.arange(77).unsqueeze(0)
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = positions
    tensors["alphas_cumprod"] = build_scheduler().alphas_cumprod
    tensors |= extra or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    else:
        torch.save({"state_dict": tensors, "global_step": 1}, path)
    return path


def ldm_unet_state(unet_folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a diffusers UNet folder under their original names, without a prefix."""
    config = json.loads((unet_folder / "config.json").read_text())
    weights = load_file(unet_folder / "diffusion_pytorch_model.safetensors")
    return _original_names(weights, ldm_unet_modules(config))


def ldm_vae_state(vae_folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a diffusers VAE folder under their original names: mid attention as 1x1 convolutions."""
    config = json.loads((vae_folder / "config.json").read_text())
    weights = load_file(vae_folder / "diffusion_pytorch_model.safetensors")
    state = _original_names(weights, ldm_vae_modules(config))
    for key in [key for key in state if ".attn_1." in key and state[key].ndim == 2]:
        state[key] = state[key][:, :, None, None]
    return state


def _original_names(weights: Mapping[str, torch.Tensor], modules: Mapping[str, str]) -> dict[str, torch.Tensor]:
    names = rename_keys(weights, {new: old for old, new in modules.items()})
    return {names[key]: value for key, value in weights.items()}


def _shake(module: Module) -> Module:
    # Norms and biases start at 0 and 1: moved apart, so that a swapped or forgotten one shows.
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval().requires_grad_(False)


def _vocabulary() -> dict[str, int]:
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}


def _pickle_text_encoder(folder: Path, variant: str | None) -> None:
    # transformers writes safetensors only; files of older releases are `pytorch_model.bin`.
    suffix = f".{variant}" if variant else ""
    stored = folder / f"model{suffix}.safetensors"
    torch.save(load_file(stored), folder / f"pytorch_model{suffix}.bin")
    stored.unlink()
