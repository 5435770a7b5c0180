"""A model in closed form, and a benchmark of it whose optimum is known: grey pictures, of a brightness that guidance sets.

With guidance scale g the picture's brightness is (1 + g / 10) / 2; cases ask for about 0.7, so that the best g is 4.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from amdm_framework import hookimpl
from amdm_framework.benchmark import Benchmark, BenchmarkCase
from amdm_framework.latents import LatentSpace, NoiseSchedule
from amdm_framework.plugins import FRAMEWORK, Distribution, Plugin, PluginRegistry
from amdm_framework.provider import EpsilonProvider, NoisePrediction, ProviderSpec, RunSettings, Step
from amdm_framework.scene import Scene
from amdm_framework.testing.closed_form import STABLE_DIFFUSION_SCHEDULER

BRIGHTNESS = 0.7
BEST_GUIDANCE = 4.0


class GreyOptions(BaseModel):
    """Options of the grey model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    palette: Path | None = None
    strength: float = 1.0


class GreyCondition(BaseModel):
    """It asks for nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GreyProvider(EpsilonProvider):
    """Draws x0 = strength / 10 where it is asked for something, and 0 where not."""

    def __init__(self, options: GreyOptions) -> None:
        self.options = options
        self.latent_space = LatentSpace(4, 8, 1.0)
        config = {**STABLE_DIFFUSION_SCHEDULER, "prediction_type": "sample", "set_alpha_to_one": True}
        self.noise_schedule = NoiseSchedule.from_scheduler_config(config)
        self.default_size = (64, 64)

    def encode(self, conditions: Sequence[GreyCondition], settings: RunSettings) -> None:
        return None

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: None) -> NoisePrediction:
        nothing = torch.zeros_like(latents)
        return NoisePrediction(nothing + self.options.strength / 10, nothing if step.guided else None)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pictures = ((1 + latents[:, :3]) / 2).clamp(0, 1)
        return torch.nn.functional.interpolate(pictures, scale_factor=8)


GREY = ProviderSpec(
    name="grey",
    summary="Grey pictures.",
    options=GreyOptions,
    condition=GreyCondition,
    condition_from_scene=lambda scene, options: GreyCondition(),
    load=lambda options, context: GreyProvider(options),
)


def cases(count: int, seed: int) -> list[BenchmarkCase]:
    """Brightnesses around the one asked for, as many above it as below."""
    chance = random.Random(seed)
    wanted = [BRIGHTNESS + (-1) ** index * chance.uniform(0, 0.05) for index in range(count)]
    return [BenchmarkCase(Scene(caption="grey"), 1000 * seed + index, truth) for index, truth in enumerate(wanted)]


def score(pictures: NDArray[np.uint8], judged: Sequence[BenchmarkCase]) -> dict[str, float | None]:
    """How near the brightness is to the one asked for, by squares, and the brightness itself."""
    brightness = pictures.mean(axis=(1, 2, 3)) / 255
    misses = [(one - case.truth) ** 2 for one, case in zip(brightness, judged, strict=True)]
    return {"near": 100 * (1 - float(np.mean(misses))), "bright": 100 * float(brightness.mean())}


GREYS = Benchmark(
    "greys", "Grey pictures.", "near", {"near": "nearness to the grey asked for", "bright": "brightness"}, cases, score
)


def grey_registry(version: str = "1.0") -> PluginRegistry:
    """Return a registry of the built-ins, the grey model and its benchmark."""

    @hookimpl
    def register_providers(register: Any) -> None:
        register(GREY)

    @hookimpl
    def register_benchmarks(register: Any) -> None:
        register(GREYS)

    hooks = SimpleNamespace(register_providers=register_providers, register_benchmarks=register_benchmarks)
    built_in = Plugin(FRAMEWORK, "built-in", partial(import_module, "amdm_framework.builtin.plugin"))
    return PluginRegistry([built_in, Plugin(Distribution("amdm-grey", version), "grey", lambda: hooks)])
