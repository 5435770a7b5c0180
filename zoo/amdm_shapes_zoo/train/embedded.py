"""The trained base model, as the miniatures are trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from amdm_shapes_zoo.architecture import build_scheduler
from amdm_shapes_zoo.sampling import encode_prompts


@dataclass(frozen=True)
class Base:
    """The networks of the base model, frozen and in float32.

    Attributes:
        folder: where they were read.
    """

    folder: Path
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    device: torch.device

    @torch.no_grad()
    def states(self, texts: list[str]) -> torch.Tensor:
        """(N, MAX_TOKENS, TEXT_WIDTH) text states."""
        return encode_prompts(self.tokenizer, self.text_encoder, texts)

    @torch.no_grad()
    def pooled(self, phrases: list[str]) -> torch.Tensor:
        """(N, TEXT_WIDTH) state of every phrase at its end token."""
        ids = self.tokenizer(phrases, padding="max_length", truncation=True, return_tensors="pt").input_ids
        ends = (ids == self.tokenizer.eos_token_id).int().argmax(dim=1)
        return self.states(phrases)[torch.arange(len(phrases)), ends.to(self.device)]


def load_base(folder: Path, device: torch.device) -> Base:
    """Read the base model from its diffusers folder.

    Raises:
        FileNotFoundError: it has not been trained.
    """
    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(f"no base model in {folder}: train it first (subcommand base)")
    networks = {
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        "vae": AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
    }
    frozen = {name: network.to(device).eval().requires_grad_(False) for name, network in networks.items()}
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return Base(folder=folder, tokenizer=tokenizer, scheduler=build_scheduler(), device=device, **frozen)
