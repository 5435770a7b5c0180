"""Good providers unlike Stable Diffusion, which keep the contract: a closed form, and a network with other numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from amdm_framework.errors import InputError
from amdm_framework.latents import LatentSpace, NoiseSchedule
from amdm_framework.models.checkpoints import build_on_meta, load_strict, read_tensors, resolve_reference
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import EpsilonProvider, NoisePrediction, ProviderSpec, RunSettings, Step, WeightFile
from amdm_framework.scene import Scene, StrictModel
from amdm_framework.testing import ProviderContract
from amdm_framework.testing.closed_form import STABLE_DIFFUSION_SCHEDULE
from small_provider import (
    SPACE,
    WIDTH,
    SmallCondition,
    SmallOptions,
    SmallProvider,
    SmallTextEncoder,
    condition_from_scene,
    tensors_of,
)


class ClosedFormOptions(StrictModel):
    """Options of the closed form."""

    share: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False, description="Of the latents that is noise.")


def number_of(text: str) -> float:
    return math.sin(sum(place * letter for place, letter in enumerate(text.encode(), start=1)))


class ClosedForm(EpsilonProvider):
    """Predicts from the letters of a caption, without a network."""

    def __init__(self, share: float) -> None:
        self.latent_space = SPACE
        self.noise_schedule = STABLE_DIFFUSION_SCHEDULE
        self.default_size = (64, 64)
        self.share = share

    def encode(self, conditions: Sequence[SmallCondition | None], settings: RunSettings) -> tuple[torch.Tensor, ...]:
        if settings.height % SPACE.scale or settings.width % SPACE.scale:
            raise InputError(f"sides of {settings.height} and {settings.width} are no multiples of {SPACE.scale}")
        given = [condition or SmallCondition() for condition in conditions]
        texts = ([condition.negative, condition.prompt] for condition in given)
        numbers = torch.tensor([[number_of(text) for text in pair] for pair in texts])
        return tuple(half[:, None, None, None] for half in numbers.unbind(1))

    def predict_noise(
        self, latents: torch.Tensor, step: Step, conditioning: tuple[torch.Tensor, ...]
    ) -> NoisePrediction:
        wave = math.cos(step.timestep / 1000)
        unconditional, conditional = (self.share * latents + half.to(latents) * wave for half in conditioning)
        return NoisePrediction(conditional, unconditional if step.guided else None)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(latents[:, :3].float(), scale_factor=SPACE.scale).clamp(0, 1)


def condition_with_caption(scene: Scene, options: ClosedFormOptions) -> SmallCondition:
    if not scene.caption:
        raise InputError("the scene has no `caption`: write what shall be drawn")
    return condition_from_scene(scene, options)


class ClosedFormContract(ProviderContract):
    """Nothing lies on disk."""

    spec = ProviderSpec(
        name="closed_form",
        summary="A formula.",
        options=ClosedFormOptions,
        condition=SmallCondition,
        condition_from_scene=condition_with_caption,
        load=lambda options, context: ClosedForm(options.share),
        contract="foreign_providers:ClosedFormContract",
    )

    def options(self, folder: Path) -> dict[str, Any]:
        return {}


VELOCITY_SPACE = LatentSpace(channels=3, scale=4, scaling_factor=0.5)
VELOCITY_SCHEDULE = NoiseSchedule.from_scheduler_config(
    {
        "num_train_timesteps": 100,
        "beta_start": 0.001,
        "beta_end": 0.2,
        "beta_schedule": "linear",
        "prediction_type": "v_prediction",
    }
)


class VelocityUNet(nn.Module):
    """Takes one timestep for all rows, before the latents, and embeds the picture's size by itself, as SDXL does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.time = nn.Embedding(100, WIDTH)
        self.add_embedding = nn.Sequential(nn.Linear(2, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.project = nn.Linear(WIDTH, WIDTH)
        self.conv_out = nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, timestep: torch.Tensor, sample: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        size = torch.tensor([sample.shape[2] / 16, sample.shape[3] / 16]).to(sample)
        vector = self.time(timestep) + self.add_embedding(size) + context
        return self.conv_out(nn.functional.silu(self.conv_in(sample) + vector[:, :, None, None]))


class VelocityVAE(nn.Module):
    """Latents to colours."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.colours(latents), scale_factor=VELOCITY_SPACE.scale)


class VelocityProvider(SmallProvider):
    """Of another latent space, schedule and order of arguments."""

    def __init__(self, networks: Mapping[str, nn.Module], strength: float) -> None:
        super().__init__(networks, strength)
        self.latent_space, self.noise_schedule, self.default_size = VELOCITY_SPACE, VELOCITY_SCHEDULE, (32, 32)

    def check_size(self, settings: RunSettings) -> None:
        if settings.height % 4 or settings.width % 4:
            raise InputError(f"the picture is {settings.width} x {settings.height}, sides must be multiples of 4")

    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        timestep = torch.tensor(step.timestep, device=latents.device)
        return self.unet(timestep, latents.to(context.dtype), context)


VELOCITY_NETWORKS = {"unet": VelocityUNet, "text_encoder": SmallTextEncoder, "vae": VelocityVAE}


def load_velocity(options: SmallOptions, context: LoadContext) -> VelocityProvider:
    tensors = read_tensors(resolve_reference(options.checkpoint, context))
    networks = {
        name: load_strict(build_on_meta(network), tensors_of(name, tensors), context)
        for name, network in VELOCITY_NETWORKS.items()
    }
    context.weight_files += [WeightFile("model", file) for file in tensors.files]
    return VelocityProvider(networks, options.strength)


class VelocityContract(ProviderContract):
    """Three channels, a quarter of the picture's size, 100 training timesteps, v-prediction."""

    spec = ProviderSpec(
        name="velocity",
        summary="A network that predicts v.",
        options=SmallOptions,
        condition=SmallCondition,
        condition_from_scene=condition_from_scene,
        load=load_velocity,
        contract="foreign_providers:VelocityContract",
    )
    sizes = ((32, 32), (32, 48))
    constant_layers = ("unet.add_embedding",)

    def options(self, folder: Path) -> dict[str, Any]:
        torch.manual_seed(0)
        weights = {
            f"{name}.{key}": value
            for name, network in VELOCITY_NETWORKS.items()
            for key, value in network().state_dict().items()
        }
        save_file(weights, folder / "velocity.safetensors")
        return {"checkpoint": "velocity.safetensors"}


FOREIGN_CONTRACTS = (ClosedFormContract, VelocityContract)
