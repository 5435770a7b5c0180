"""Guided DDIM sampling for sheets and scores: plain text to picture, without any pipeline object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer


def encode_prompts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]) -> torch.Tensor:
    """(N, MAX_TOKENS, TEXT_WIDTH) text states of prompts padded to full length, as Stable Diffusion does."""
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids.to(text_encoder.device)).last_hidden_state


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    conditional: torch.Tensor,
    unconditional: torch.Tensor,
    guidance: float,
    steps: int,
    seed: int,
) -> torch.Tensor:
    """(N, channels, height, width) scaled latents, deterministic DDIM from noise of `seed`.

    Args:
        unet: the noise predictor.
        scheduler: its schedule; `set_timesteps` is called on it.
        conditional: (N, tokens, width) text states.
        unconditional: (1, tokens, width) text states of the empty prompt.
        guidance: scale of classifier-free guidance; 1 is none.
        steps: number of steps.
        seed: seed of the initial noise, drawn on the CPU.
    """
    count = len(conditional)
    size = unet.config["sample_size"]
    noise = torch.randn((count, unet.config["in_channels"], size, size), generator=torch.Generator().manual_seed(seed))
    latents = noise.to(conditional.device, conditional.dtype)
    states = torch.cat([unconditional.expand(count, -1, -1), conditional])
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        without, with_text = unet(torch.cat([latents, latents]), timestep, states).sample.chunk(2)
        prediction = without + guidance * (with_text - without)
        latents = scheduler.step(prediction, timestep, latents, eta=0.0).prev_sample
    return latents


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    """(N, size, size, 3) pictures in 0..255 from scaled latents."""
    decoded = vae.decode(latents / vae.config["scaling_factor"]).sample.float().cpu()
    pictures = ((decoded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def draw(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    scheduler: DDIMScheduler,
    prompts: Sequence[str],
    guidance: float,
    steps: int,
    seed: int,
) -> NDArray[np.uint8]:
    """(N, size, size, 3) pictures of `prompts`."""
    conditional = encode_prompts(tokenizer, text_encoder, prompts)
    unconditional = encode_prompts(tokenizer, text_encoder, [""])
    return decode_latents(vae, sample_latents(unet, scheduler, conditional, unconditional, guidance, steps, seed))
