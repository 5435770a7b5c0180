"""A plugin in closed form: a provider whose picture depends on its options and its condition, without any network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from amdm_framework import hookimpl
from amdm_framework.latents import LatentSpace, NoiseSchedule
from amdm_framework.plugins import FRAMEWORK, Distribution, Plugin, PluginRegistry
from amdm_framework.provider import (
    CheckpointReference,
    EpsilonProvider,
    NoisePrediction,
    ProviderSpec,
    RunSettings,
    Step,
)
from amdm_framework.scene import Reference, Scene, StrictModel
from amdm_framework.testing.closed_form import STABLE_DIFFUSION_SCHEDULER


class ToyLayer(StrictModel):
    """One of several files of a toy."""

    file: CheckpointReference
    scale: float = 1.0


class ToyOptions(BaseModel):
    """Options of a toy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: CheckpointReference | None = None
    palette: Path | None = None
    layers: tuple[ToyLayer, ...] = ()
    notes: str = ""
    strength: float = Field(default=1.0, ge=0)
    channels: int = 4
    scheduler: dict[str, Any] = {}


class ToyCondition(StrictModel):
    """What a toy is asked for."""

    prompt: str
    negative: str = ""
    style: Reference | None = None


class ToyPromptProvider(EpsilonProvider):
    """Pulls towards a pattern that its prompt decides."""

    def __init__(self, options: ToyOptions) -> None:
        self.options = options
        self.latent_space = LatentSpace(options.channels, 8, 1.0)
        self.noise_schedule = NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION_SCHEDULER, **options.scheduler})
        self.default_size = (64, 64)
        self.settings: list[RunSettings] = []

    def encode(self, conditions: Sequence[ToyCondition], settings: RunSettings) -> list[torch.Tensor]:
        self.settings.append(settings)
        shape = (self.options.channels, settings.height // 8, settings.width // 8)
        return [torch.stack([_pattern(text, shape) for text in texts]) for texts in (
            [one.prompt for one in conditions], [one.negative for one in conditions]
        )]  # fmt: skip

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: list[torch.Tensor]) -> NoisePrediction:
        conditional, unconditional = (0.9 * latents + 0.3 * pattern for pattern in conditioning)
        return NoisePrediction(conditional, unconditional if step.guided else None)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents[:, :3].sigmoid(), scale_factor=8)


def _pattern(text: str, shape: tuple[int, ...]) -> torch.Tensor:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _condition(scene: Scene, options: ToyOptions) -> ToyCondition:
    if not scene.caption:
        raise ValueError("a toy needs a caption")
    return ToyCondition(prompt=scene.caption, negative=scene.negative)


TOY = ProviderSpec(
    name="toy",
    summary="A closed form.",
    options=ToyOptions,
    condition=ToyCondition,
    condition_from_scene=_condition,
    load=lambda options, context: ToyPromptProvider(options),
)


def toy_registry(*specs: ProviderSpec) -> PluginRegistry:
    """Return a registry of the built-in strategies and of toy providers [`TOY`]."""

    @hookimpl
    def register_providers(register: Any) -> None:
        for spec in specs or (TOY,):
            register(spec)

    plugin = SimpleNamespace(register_providers=register_providers)
    built_in = Plugin(FRAMEWORK, "built-in", partial(import_module, "amdm_framework.builtin.plugin"))
    return PluginRegistry([built_in, Plugin(Distribution("amdm-toy", "1.2.3"), "toy", lambda: plugin)])
