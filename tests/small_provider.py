"""The smallest provider with everything a contract looks at: weights in a file, a text, boxes, guidance, a decoder.

It keeps the contract; tests break one part of it at a time and see which check notices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from amdm_framework.devices import device_of
from amdm_framework.errors import InputError
from amdm_framework.latents import LatentSpace
from amdm_framework.models.checkpoints import (
    RenamedTensors,
    TensorMapping,
    build_on_meta,
    load_strict,
    read_tensors,
    resolve_reference,
)
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.provider import (
    CheckpointReference,
    EpsilonProvider,
    NoisePrediction,
    ProviderReport,
    ProviderSpec,
    RunSettings,
    Step,
    WeightFile,
)
from amdm_framework.scene import Instance, Scene, StrictModel
from amdm_framework.testing import ProviderContract
from amdm_framework.testing.closed_form import STABLE_DIFFUSION_SCHEDULE

WIDTH = 16
SPACE = LatentSpace(channels=4, scale=8, scaling_factor=1.0)


class SmallOptions(StrictModel):
    """Options of the small provider."""

    checkpoint: CheckpointReference = Field(description="Its weights.")
    strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False, description="Of the boxes.")


class SmallCondition(StrictModel):
    """What it is asked for."""

    prompt: str = Field(default="", description="What to draw.")
    negative: str = Field(default="", description="What not to draw.")
    instances: tuple[Instance, ...] = Field(default=(), description="What stands where.")


class SmallUNet(nn.Module):
    """Latents, timestep and a context vector per row to a prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.time = nn.Linear(2, WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.conv_out = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        angles = 3 * timesteps.float() / 1000
        time = self.time(torch.stack([angles.cos(), angles.sin()], dim=1).to(sample.dtype))
        hidden = self.conv_in(sample) + (time + context)[:, :, None, None]
        return self.conv_out(torch.nn.functional.silu(hidden))


class SmallTextEncoder(nn.Module):
    """The letters of a text to a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(256, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        places = torch.arange(1, len(letters) + 1, device=letters.device)[:, None].to(self.out.weight.dtype)
        return self.out((self.letters(letters) * places).sum(0) / places.sum())


class SmallVAE(nn.Module):
    """Latents to colours."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(4, 3, 1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.colours(latents), scale_factor=SPACE.scale)


@dataclass
class SmallConditioning:
    """What is computed once: (B, WIDTH) contexts of both halves.

    Attributes:
        conditional: projected.
        unconditional: projected; None without guidance.
        settings: of the run.
    """

    conditional: torch.Tensor
    unconditional: torch.Tensor | None
    settings: RunSettings


class SmallProvider(EpsilonProvider):
    """Predicts noise from a text and boxes."""

    unet_class: type[nn.Module] = SmallUNet

    def __init__(self, networks: Mapping[str, nn.Module], strength: float) -> None:
        self.latent_space = SPACE
        self.noise_schedule = STABLE_DIFFUSION_SCHEDULE
        self.default_size = (64, 64)
        self.unet, self.text_encoder, self.vae = (networks[name] for name in ("unet", "text_encoder", "vae"))
        self.strength = strength

    def encode(self, conditions: Sequence[SmallCondition | None], settings: RunSettings) -> SmallConditioning:
        self.check_size(settings)
        conditions = [condition or SmallCondition() for condition in conditions]
        conditional = torch.stack([self.positive(condition) for condition in conditions])
        unconditional = torch.stack([self.negative(condition) for condition in conditions])
        return SmallConditioning(
            self.unet.project(conditional), self.unet.project(unconditional) if settings.guided else None, settings
        )

    def check_size(self, settings: RunSettings) -> None:
        if settings.height % 8 or settings.width % 8:
            raise InputError(f"the picture is {settings.width} x {settings.height}, sides must be multiples of 8")

    def positive(self, condition: SmallCondition) -> torch.Tensor:
        states = self.text(condition.prompt)
        for instance in condition.instances:
            states = states + self.strength * sum(instance.box) * self.text(instance.phrase)
        return states

    def negative(self, condition: SmallCondition) -> torch.Tensor:
        return self.text(condition.negative)

    def text(self, text: str) -> torch.Tensor:
        letters = torch.tensor(list(text.encode()) or [0], device=device_of(self.text_encoder))
        return self.text_encoder(letters)

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        if not step.guided:
            return NoisePrediction(self.call(latents, step, conditioning.conditional))
        assert conditioning.unconditional is not None
        halves = (conditioning.unconditional, conditioning.conditional)
        if conditioning.settings.sequential_guidance:
            unconditional, conditional = (self.call(latents, step, half) for half in halves)
        else:
            unconditional, conditional = self.call(torch.cat([latents, latents]), step, torch.cat(halves)).chunk(2)
        return NoisePrediction(conditional, unconditional)

    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        return self.unet(
            latents.to(context.dtype), torch.full((len(latents),), step.timestep, device=latents.device), context
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pictures = self.vae(latents.to(self.vae.colours.weight.dtype))
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def modules(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet, "text_encoder": self.text_encoder, "vae": self.vae}


NETWORKS = {"unet": SmallUNet, "text_encoder": SmallTextEncoder, "vae": SmallVAE}


def condition_from_scene(scene: Scene, options: SmallOptions) -> SmallCondition:
    return SmallCondition(prompt=scene.caption, negative=scene.negative, instances=tuple(scene.instances.values()))


def load(options: SmallOptions, context: LoadContext, provider: type[SmallProvider] = SmallProvider) -> SmallProvider:
    path = resolve_reference(options.checkpoint, context)
    tensors = read_tensors(path)
    networks = {}
    for name, network in {**NETWORKS, "unet": provider.unet_class}.items():
        networks[name] = load_strict(build_on_meta(network), tensors_of(name, tensors), context)
    context.weight_files += [WeightFile("model", file) for file in tensors.files]
    return provider(networks, options.strength)


def tensors_of(network: str, tensors: TensorMapping) -> TensorMapping:
    own = {key.removeprefix(f"{network}."): key for key in tensors if key.startswith(f"{network}.")}
    return RenamedTensors(tensors, own)


def inspect(options: SmallOptions, context: LoadContext) -> ProviderReport:
    tensors = read_tensors(resolve_reference(options.checkpoint, context))
    components = {name: tensor_infos(tensors_of(name, tensors), name, context.dtype) for name in NETWORKS}
    return ProviderReport(SPACE, STABLE_DIFFUSION_SCHEDULE, (64, 64), components)


SPEC = ProviderSpec(
    name="small",
    summary="The smallest provider.",
    options=SmallOptions,
    condition=SmallCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="small_provider:SmallContract",
)


class SmallContract(ProviderContract):
    """The small provider with random weights."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        torch.manual_seed(0)
        networks = {name: network() for name, network in NETWORKS.items()}
        save_file(
            {
                f"{name}.{key}": value
                for name, network in networks.items()
                for key, value in network.state_dict().items()
            },
            folder / "small.safetensors",
        )
        return {"checkpoint": "small.safetensors"}
