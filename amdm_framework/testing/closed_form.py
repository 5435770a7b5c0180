"""Providers in closed form, and a way to run them through the real denoising loop. Needs no weights and no pytest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from amdm_framework.latents import LatentSpace, NoiseSchedule
from amdm_framework.provider import EpsilonProvider, NoisePrediction, RunSettings, Step
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import Member, NoiseSource, StepReport, denoise
from amdm_framework.sampling.trace import Trace
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies.base import AggregationStrategy

STABLE_DIFFUSION_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
STABLE_DIFFUSION_SCHEDULE = NoiseSchedule.from_scheduler_config(STABLE_DIFFUSION_SCHEDULER)


class ToyProvider(EpsilonProvider):
    """Predicts a x + b cos(c t / 1000) pattern; its unconditional half is half of that.

    Attributes:
        calls: the steps at which it was evaluated so far.
        changed_at: the index of a step at which all it predicts is changed by much, up and down.
    """

    def __init__(
        self,
        pattern: torch.Tensor,
        a: float = 0.97,
        b: float = 0.35,
        c: float = 3.0,
        schedule: NoiseSchedule = STABLE_DIFFUSION_SCHEDULE,
        name: str = "toy",
    ) -> None:
        self.name = name
        self.latent_space = LatentSpace(pattern.shape[0], 8, 1.0)
        self.noise_schedule = schedule
        self.default_size = (8 * pattern.shape[-2], 8 * pattern.shape[-1])
        self.pattern, self.a, self.b, self.c = pattern, a, b, c
        self.calls: list[Step] = []
        self.changed_at: int | None = None

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> None:
        return None

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        self.calls.append(step)
        prediction = self.a * latents + self.b * math.cos(self.c * step.timestep / 1000) * self.pattern
        if step.index == self.changed_at:
            prediction = prediction + 1000 * self.pattern
        return NoisePrediction(prediction, 0.5 * prediction if step.guided else None)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].clamp(0, 1)


def toy_providers(count: int, shape: tuple[int, int, int] = (4, 8, 8), seed: int = 0) -> list[ToyProvider]:
    """Return providers with different patterns and constants, named `toy0`, `toy1` and so on."""
    generator = torch.Generator().manual_seed(seed)
    constants = [(0.97, 0.35, 3.0), (0.95, 0.5, 2.0), (0.985, 0.4, 4.5)]
    return [ToyProvider(torch.randn(shape, generator=generator), *constants[k], name=f"toy{k}") for k in range(count)]


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> NoiseSource:
    """Return a noise source whose draw for an image depends on its seed, the provider and the step alone."""

    def draw(provider: int, step: Step) -> torch.Tensor:
        draws = [
            torch.randn(shape, generator=torch.Generator().manual_seed(1000 * seed + 100 * provider + step.index))
            for seed in seeds
        ]
        return torch.stack(draws).to(dtype)

    return draw


def initial_latents(seeds: Sequence[int], shape: tuple[int, ...], salt: int = 0) -> torch.Tensor:
    """Return (B, *shape) standard normal noise, image by image from its seed."""
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(77 * seed + 7 + salt)) for seed in seeds]
    return torch.stack(draws)


def make_strategy(strategy: type[AggregationStrategy], **options: Any) -> AggregationStrategy:
    """Return a strategy with options as a composition would give them."""
    return strategy(strategy.options(**options))


def run_toys(
    providers: Sequence[EpsilonProvider],
    strategy: AggregationStrategy,
    latents: Sequence[torch.Tensor],
    num_inference_steps: int = 10,
    eta: float = 0.0,
    noise: NoiseSource | None = None,
    guidance: Guidance | None = None,
    regions: torch.Tensor | None = None,
    on_step_end: Callable[[StepReport], None] | None = None,
) -> tuple[torch.Tensor, Trace]:
    """Sample toy providers through the denoising loop, with guidance off unless some is given."""
    strategy.begin(len(providers), num_inference_steps)
    members = [
        Member(provider, None, x, guidance or Guidance(scale=1.0))
        for provider, x in zip(providers, latents, strict=True)
    ]
    grid = transitions(providers[0].noise_schedule, num_inference_steps, eta)
    if noise is None:
        noise = seeded_noise(range(len(latents[0])), tuple(latents[0].shape[1:]), latents[0].dtype)
    return denoise(members, strategy, grid, noise, regions=regions, on_step_end=on_step_end)
