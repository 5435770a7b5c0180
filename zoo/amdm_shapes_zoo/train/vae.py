"""Trains the autoencoder between pictures and latents."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from amdm_shapes_zoo.architecture import build_vae
from amdm_shapes_zoo.renderer import PIXEL_COLOURS
from amdm_shapes_zoo.segmentation import is_background
from amdm_shapes_zoo.train.common import (
    MovingAverage,
    cosine_rate,
    describe_device,
    load_checkpoint,
    save_checkpoint,
    set_rate,
    to_pictures,
    to_tensor,
    write_sheet,
)
from amdm_shapes_zoo.train.pool import Pool

WARMUP = 100
SAVE_EVERY = 250
SHEET_EVERY = 500


@dataclass(frozen=True)
class VaeSettings:
    """Settings of the autoencoder's training."""

    steps: int = 7000
    batch: int = 8
    rate: float = 2e-3
    divergence_weight: float = 5e-4
    """Weight of the divergence from the standard normal distribution, per latent value."""
    foreground_weight: float = 3.0
    """Weight of pixels of instances and marks, which cover less than the background and have more colours."""
    decay: float = 0.999
    seed: int = 0


def reconstruction_loss(pictures: torch.Tensor, decoded: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of absolute plus squared error.

    Args:
        pictures: (N, 3, size, size) in [-1, 1].
        decoded: the same, as the autoencoder made them.
        weights: (N, 1, size, size) weight of each pixel.
    """
    error = decoded - pictures
    return (weights * (error.abs() + error.square())).mean() / weights.mean()


def train_vae(settings: VaeSettings, pool: Pool, checkpoints: Path, device: torch.device) -> dict[str, Any]:
    """Trains to the end, going on from the last checkpoint; returns the facts for the card.

    The averaged weights stay in the checkpoint; `load_trained_vae` reads them.
    """
    torch.manual_seed(settings.seed)
    vae = build_vae().to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    average = MovingAverage(vae, settings.decay)
    path = checkpoints / "vae.pt"
    state = load_checkpoint(path)
    step, seconds, losses = 0, 0.0, []
    if state is not None:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        step, seconds, losses = state["step"], state["seconds"], state["losses"]
    recent: list[float] = []
    began = time.monotonic()
    with tqdm(total=settings.steps, initial=step, desc="vae", mininterval=5) as bar:
        while step < settings.steps:
            rng = np.random.default_rng([settings.seed, step])
            indices = rng.integers(len(pool.classes), size=settings.batch)
            pictures = to_tensor(pool.pictures(indices)).to(device)
            background = torch.from_numpy(is_background(pool.classes[indices])).to(device)
            weights = torch.where(background[:, None], 1.0, settings.foreground_weight)
            set_rate(optimizer, cosine_rate(step, settings.steps, settings.rate, WARMUP))
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample
            reconstruction = reconstruction_loss(pictures, decoded, weights)
            divergence = posterior.kl().mean() / posterior.mean[0].numel()
            optimizer.zero_grad(set_to_none=True)
            (reconstruction + settings.divergence_weight * divergence).backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            average.update(vae)
            step += 1
            bar.update()
            recent.append(float(reconstruction.detach()))
            if step % 50 == 0 or step == settings.steps:
                losses.append([step, round(float(np.mean(recent)), 5), round(float(divergence.detach()), 3)])
                bar.set_postfix(loss=losses[-1][1], divergence=losses[-1][2])
                recent.clear()
            if step % SAVE_EVERY == 0 or step == settings.steps:
                save_checkpoint(
                    path,
                    {
                        "model": vae.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average.state_dict(),
                        "step": step,
                        "seconds": seconds + time.monotonic() - began,
                        "losses": losses,
                    },
                )
            if step % SHEET_EVERY == 0 or step == settings.steps:
                write_vae_sheet(load_averaged(average, device), pool, checkpoints / "sheets" / f"vae_{step:05d}.png")
    return {
        **asdict(settings),
        "losses": losses,
        "seconds": round(seconds + time.monotonic() - began, 1),
        "device": describe_device(device),
    }


def load_averaged(average: MovingAverage, device: torch.device) -> AutoencoderKL:
    """An autoencoder with the averaged weights, for evaluation."""
    vae = build_vae().to(device).eval().requires_grad_(False)
    vae.load_state_dict(average.values)
    return vae


def load_trained_vae(checkpoints: Path, device: torch.device) -> AutoencoderKL:
    """The averaged autoencoder of the last checkpoint."""
    state = load_checkpoint(checkpoints / "vae.pt")
    if state is None:
        raise FileNotFoundError(f"no trained autoencoder in {checkpoints}: run the subcommand vae first")
    vae = build_vae().to(device).eval().requires_grad_(False)
    vae.load_state_dict(state["average"]["values"])
    return vae


@torch.no_grad()
def write_vae_sheet(vae: AutoencoderKL, pool: Pool, path: Path, count: int = 24) -> float:
    """Writes pictures above their reconstructions; returns the share of pixels read as before."""
    device = next(vae.parameters()).device
    truth = pool.pictures(np.arange(count))
    decoded = to_pictures(vae.decode(vae.encode(to_tensor(truth).to(device)).latent_dist.mean).sample)
    columns = 12
    rows = [part[start : start + columns] for start in range(0, count, columns) for part in (truth, decoded)]
    write_sheet(path, np.concatenate(rows), columns)
    distance = np.square(decoded[..., None, :].astype(float) - PIXEL_COLOURS.astype(float)).sum(axis=-1)
    return float((distance.argmin(axis=-1) == pool.classes[:count]).mean())
