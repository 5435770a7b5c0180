"""Trains the text-to-image model: text encoder and noise predictor together, on latents encoded once."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from amdm_shapes_zoo.architecture import build_scheduler, build_text_encoder, build_unet
from amdm_shapes_zoo.captions import partial_description
from amdm_shapes_zoo.sampling import draw, encode_prompts
from amdm_shapes_zoo.tokenizer import build_tokenizer
from amdm_shapes_zoo.train.common import (
    MovingAverage,
    cosine_rate,
    describe_device,
    load_checkpoint,
    save_checkpoint,
    set_rate,
    write_sheet,
)
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.world import Layouts

WARMUP = 100
SAVE_EVERY = 250
SHEET_EVERY = 500

SHEET_PROMPTS = (
    "a red circle on the left and a blue square on the right, pink striped background",
    "a circle on the left and a star on the right",
    "a red shape on the left and a blue shape on the right, pink striped background",
    "a green triangle at the top and a white star at the bottom, gray plain background",
    "a yellow star in the center, cyan dotted background",
    "a purple square on the left and a black circle on the right, "
    "a bar joins the purple square and the black circle, tan plain background",
    "a green circle on the left and a blue triangle on the right, a ring around the green circle and the blue triangle",
    "a red square at the top left, a blue circle at the top right and a brown star at the bottom left",
)
"""Prompts of the sheets written while training."""


@dataclass(frozen=True)
class BaseSettings:
    """Settings of the text-to-image model's training."""

    steps: int = 8000
    batch: int = 32
    rate: float = 1.2e-3
    levels: tuple[float, ...] = (0.42, 0.42, 0.1, 0.06)
    """Shares of pictures with one to four instances; pictures with few instances teach the words faster."""
    empty_prompts: float = 0.1
    """Share of captions replaced by the empty prompt, for classifier-free guidance."""
    weight_limit: float = 5.0
    """Steps count with the inverse root of their signal-to-noise ratio, at most this much: where things are and what
    they are is decided at high noise, where the plain error of the noise is small."""
    decay: float = 0.999
    seed: int = 0
    sheet_columns: int = 6
    """Pictures drawn of each prompt of the sample sheets; none are written for 0."""


class TextToImage(nn.Module):
    """Text encoder and noise predictor, trained as one."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.unet = build_unet()


def sample_captions(layouts: Layouts, indices: np.ndarray, empty: float, rng: np.random.Generator) -> list[str]:
    """One random partial caption for each picture, empty with probability `empty`."""
    return ["" if rng.random() < empty else partial_description(layouts, int(index), rng).text() for index in indices]


def picture_shares(layouts: Layouts, levels: tuple[float, ...]) -> np.ndarray:
    """(N,) probability of drawing each picture, so that the numbers of instances have the shares `levels`."""
    level = layouts.counts() - 1
    shares = np.array(levels)[level] / np.bincount(level, minlength=len(levels))[level]
    return shares / shares.sum()


def noise_loss(
    model: TextToImage,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    captions: list[str],
    weight_limit: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Weighted mean squared error of the predicted noise for scaled latents (N, channels, height, width)."""
    device = latents.device
    count = len(latents)
    # Evenly spread timesteps vary the loss less than independent ones.
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    timesteps = (spread * scheduler.config["num_train_timesteps"]).long().to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    states = encode_prompts(tokenizer, model.text_encoder, captions)
    error = (model.unet(noisy, timesteps, states).sample - noise).square().mean(dim=(1, 2, 3))
    kept = scheduler.alphas_cumprod.to(device)[timesteps]
    ratio = kept / (1 - kept)
    return (error * ratio.rsqrt().clamp(max=weight_limit)).mean()


def train_text_to_image(
    settings: BaseSettings,
    pool: Pool,
    latents: torch.Tensor,
    vae: AutoencoderKL,
    checkpoints: Path,
    device: torch.device,
) -> tuple[TextToImage, dict[str, Any]]:
    """Trains to the end, going on from the last checkpoint; returns the averaged model and card facts.

    Args:
        settings: what to do.
        pool: pictures, of which the layouts give the captions.
        latents: (N, channels, height, width) unscaled latents of the pool.
        vae: autoencoder with its `scaling_factor` set, for scaling and for the sheets.
        checkpoints: folder of the checkpoint and the sheets.
        device: where to train.
    """
    torch.manual_seed(settings.seed)
    tokenizer, scheduler = build_tokenizer(), build_scheduler()
    model = TextToImage(tokenizer).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=1e-3)
    average = MovingAverage(model, settings.decay)
    path = checkpoints / "base.pt"
    state = load_checkpoint(path)
    step, seconds, losses = 0, 0.0, []
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        step, seconds, losses = state["step"], state["seconds"], state["losses"]
    scaled = latents * vae.config["scaling_factor"]
    shares = picture_shares(pool.layouts, settings.levels)
    recent: list[float] = []
    began = time.monotonic()
    with tqdm(total=settings.steps, initial=step, desc="base", mininterval=5) as bar:
        while step < settings.steps:
            # Everything random depends on the step alone, so that a resumed training sees the same data.
            rng = np.random.default_rng([settings.seed, step])
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            indices = rng.choice(len(scaled), size=settings.batch, p=shares)
            captions = sample_captions(pool.layouts, indices, settings.empty_prompts, rng)
            set_rate(optimizer, cosine_rate(step, settings.steps, settings.rate, WARMUP))
            batch = scaled[torch.from_numpy(indices)].to(device)
            loss = noise_loss(model, tokenizer, scheduler, batch, captions, settings.weight_limit, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update(model)
            step += 1
            bar.update()
            recent.append(float(loss.detach()))
            if step % 50 == 0 or step == settings.steps:
                losses.append([step, round(float(np.mean(recent)), 5)])
                bar.set_postfix(loss=losses[-1][1])
                recent.clear()
            if step % SAVE_EVERY == 0 or step == settings.steps:
                save_checkpoint(
                    path,
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average.state_dict(),
                        "step": step,
                        "seconds": seconds + time.monotonic() - began,
                        "losses": losses,
                    },
                )
            if settings.sheet_columns and (step % SHEET_EVERY == 0 or step == settings.steps):
                write_base_sheet(
                    averaged_model(average, tokenizer, device),
                    vae,
                    checkpoints / "sheets" / f"base_{step:05d}.png",
                    settings.sheet_columns,
                )
    facts = {
        **{name: value for name, value in asdict(settings).items() if name != "sheet_columns"},
        "losses": losses,
        "seconds": round(seconds + time.monotonic() - began, 1),
        "device": describe_device(device),
    }
    return averaged_model(average, tokenizer, device), facts


def averaged_model(average: MovingAverage, tokenizer: CLIPTokenizer, device: torch.device) -> TextToImage:
    """A model with the averaged weights, for evaluation."""
    model = TextToImage(tokenizer).to(device).eval().requires_grad_(False)
    model.load_state_dict(average.values)
    return model


def write_base_sheet(model: TextToImage, vae: AutoencoderKL, path: Path, each: int) -> None:
    """Writes `each` pictures of every sheet prompt, a row for each prompt."""
    prompts = [prompt for prompt in SHEET_PROMPTS for _ in range(each)]
    pictures = draw(
        build_tokenizer(),
        model.text_encoder,
        model.unet,
        vae,
        build_scheduler(),
        prompts,
        guidance=4.0,
        steps=20,
        seed=0,
    )
    write_sheet(path, pictures, columns=each)
