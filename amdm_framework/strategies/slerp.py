"""True spherical interpolation: along the angle that the samples really have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    ProviderState,
    Weight,
    WindowedStrategy,
    WindowOptions,
    expect_length,
    per_sample_norm,
    pull_metrics,
    sample_metrics,
)


class SlerpOptions(WindowOptions):
    """Options of spherical interpolation."""

    weights: tuple[Weight, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary"},
        description="w_1 .. w_(N-1) as in `amdm`: 1 keeps what was aggregated so far, 0 takes the next [equal shares].",
    )


class Slerp(WindowedStrategy):
    """Spherical linear interpolation of the members' samples, from which all of them go on.

    Mixes samples x_{t-1}. Costs N - 1 evaluations more per aggregated step. No member is privileged inside the window;
    the target survives it alone. Unlike the paper's rule it measures the angle between the samples, so that it keeps
    their norm whether they are alike or orthogonal, and needs no step size.

    Members join one after the other: A_1 = x^1, A_(k+1) = slerp(A_k, x^(k+1), f_k) with f_k = (2/pi) acos(w_k), the
    fraction of the way that the paper's weights take between orthogonal samples. Without weights f_k = 1 / (k + 1):
    equal shares where samples are alike.
    Source: Shoemake 1985, "Animating rotation with quaternion curves"; the map from weights is ours.
    """

    name = "slerp"
    summary = "Spherical interpolation of the samples along their true angle; keeps norms, needs no step size."
    formula = "x = (sin((1-f) theta) x^1 + sin(f theta) x^2) / sin(theta),  theta = angle(x^1, x^2)"
    space = "x_{t-1}"
    privileged_target = False
    source = "Shoemake 1985"
    options: ClassVar[type[WindowOptions]] = SlerpOptions
    settings: SlerpOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        weights = self.settings.weights
        expect_length(weights, provider_count - 1, "weights", "one less than there are providers")
        if weights is None:
            self.fractions = [1 / (k + 1) for k in range(1, provider_count)]
        else:
            self.fractions = [2 / math.pi * math.acos(weight) for weight in weights]

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        samples = [transition.sample(state.latents, state.epsilon, state.noise) for state in states]
        aggregate = samples[0]
        coefficients: list[torch.Tensor | float] = [1.0]
        for sample, fraction in zip(samples[1:], self.fractions, strict=True):
            aggregate, kept, joined = slerp_with_coefficients(aggregate, sample, fraction)
            coefficients = [kept * coefficient for coefficient in coefficients] + [joined]
        parts = {k: coefficients[k] * (samples[k] - samples[0]) for k in range(1, len(states))}
        metrics = sample_metrics(aggregate, samples) | pull_metrics(aggregate - samples[0], parts, len(states))
        return Advance([aggregate] * len(states), metrics)


def slerp(first: torch.Tensor, second: torch.Tensor, fraction: float) -> torch.Tensor:
    """Go a fraction of the way from one tensor to another on the sphere, sample by sample, all (B, C, H, W).

    Directions are interpolated on the unit sphere and norms linearly. Where the angle is within 1e-4 of 0 or pi, which
    leaves no plane to rotate in, directions are interpolated linearly too.
    """
    return slerp_with_coefficients(first, second, fraction)[0]


def slerp_with_coefficients(
    first: torch.Tensor, second: torch.Tensor, fraction: float
) -> tuple[torch.Tensor, torch.Tensor | float, torch.Tensor | float]:
    """Return what `slerp` does, and the coefficients (B, 1, 1, 1) of the two tensors whose weighted sum it is."""
    if fraction == 0:
        return first, 1.0, 0.0
    if fraction == 1:
        return second, 0.0, 1.0
    first_norm, second_norm = per_sample_norm(first), per_sample_norm(second)
    tiny = torch.finfo(first_norm.dtype).tiny
    first_unit, second_unit = first / first_norm.clamp(min=tiny), second / second_norm.clamp(min=tiny)
    # The arc cosine of a dot product cannot tell angles below 3e-4 apart in float32; this form can.
    theta = 2 * torch.atan2(per_sample_norm(first_unit - second_unit), per_sample_norm(first_unit + second_unit))
    sine = torch.sin(theta)
    no_plane = sine < 1e-4
    divisor = torch.where(no_plane, torch.ones_like(sine), sine)
    first_part = torch.where(no_plane, torch.full_like(sine, 1 - fraction), torch.sin((1 - fraction) * theta) / divisor)
    second_part = torch.where(no_plane, torch.full_like(sine, fraction), torch.sin(fraction * theta) / divisor)
    norm = (1 - fraction) * first_norm + fraction * second_norm
    between = (norm * (first_part * first_unit + second_part * second_unit)).to(first.dtype)
    kept = torch.where(first_norm > 0, norm * first_part / first_norm.clamp(min=tiny), 0.0)
    joined = torch.where(second_norm > 0, norm * second_part / second_norm.clamp(min=tiny), 0.0)
    return between, kept, joined
