"""Trains the text-to-image model: text encoder and noise predictor together, on latents encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTokenizer

from amdm_shapes_zoo.architecture import build_scheduler, build_text_encoder, build_unet
from amdm_shapes_zoo.captions import partial_description
from amdm_shapes_zoo.sampling import draw, encode_prompts
from amdm_shapes_zoo.tokenizer import build_tokenizer
from amdm_shapes_zoo.train.common import write_sheet
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.noise import noise_loss, shares_of_groups
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.world import Layouts

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
class BaseSettings(TrainingSettings):
    """Settings of the text-to-image model's training."""

    steps: int = 8000
    batch: int = 32
    rate: float = 1.2e-3
    levels: tuple[float, ...] = (0.42, 0.42, 0.1, 0.06)
    """Shares of pictures with one to four instances; pictures with few instances teach the words faster."""
    empty_prompts: float = 0.1
    """Share of captions replaced by the empty prompt, for classifier-free guidance."""


class TextToImage(nn.Module):
    """Text encoder and noise predictor, trained as one."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.unet = build_unet()


def sample_captions(layouts: Layouts, indices: np.ndarray, empty: float, rng: np.random.Generator) -> list[str]:
    """One random partial caption for each picture, empty with probability `empty`."""
    return ["" if rng.random() < empty else partial_description(layouts, int(index), rng).text() for index in indices]


def train_text_to_image(
    settings: BaseSettings,
    pool: Pool,
    latents: torch.Tensor,
    vae: AutoencoderKL,
    checkpoints: Path,
    device: torch.device,
    sheets: bool,
) -> tuple[TextToImage, dict[str, Any]]:
    """Trains to the end, going on from the last checkpoint; returns the averaged model and card facts.

    Args:
        settings: what to do.
        pool: pictures, of which the layouts give the captions.
        latents: (N, channels, height, width) unscaled latents of the pool.
        vae: autoencoder with its `scaling_factor` set, for scaling and for the sheets.
        checkpoints: folder of the checkpoint and the sheets.
        device: where to train.
        sheets: whether to write sample sheets.
    """
    torch.manual_seed(settings.seed)
    tokenizer, scheduler = build_tokenizer(), build_scheduler()
    model = TextToImage(tokenizer).to(device)
    scaled = latents * vae.config["scaling_factor"]
    shares = shares_of_groups(pool.layouts.counts() - 1, settings.levels)

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.choice(len(scaled), size=settings.batch, p=shares)
        states = encode_prompts(
            tokenizer, model.text_encoder, sample_captions(pool.layouts, indices, settings.empty_prompts, rng)
        )

        def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            prediction: torch.Tensor = model.unet(noisy, timesteps, states).sample
            return prediction

        return noise_loss(predict, scheduler, scaled[torch.from_numpy(indices)].to(device), generator), {}

    def sheet(path: Path) -> None:
        write_base_sheet(model, vae, path)

    facts = train("base", model, settings, losses_of, sheet if sheets else None, checkpoints, device)
    return model, facts


def write_base_sheet(model: TextToImage, vae: AutoencoderKL, path: Path, each: int = 6) -> None:
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
