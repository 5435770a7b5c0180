"""The paper's own rule: spherical aggregation of the samples, then manifold optimization towards every mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from ..provider import Step
from ..sampling.trace import Trace
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
    weighted_sum,
)

StepSize = Annotated[float, Field(ge=0, allow_inf_nan=False)]

DEFAULT_STEP_SIZE_RMS = 45 / 128
"""The paper's target step of 45 at n = 4 * 64 * 64, in units of sqrt(n), so that it holds at any resolution."""


class AMDMOptions(WindowOptions):
    """Options of the paper's rule."""

    weights: tuple[Weight, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary"},
        description="w_1 .. w_(N-1): the weight of what was aggregated so far against the next member [0.5].",
    )
    step_sizes: tuple[StepSize, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "member"},
        description="Length of every member's manifold step, target first [0.3516 sqrt(n): 45 at 64x64 latents].",
    )
    step_size_unit: Literal["absolute", "rms", "fraction"] = Field(
        default="absolute",
        description="`absolute` latent distance (the paper), `rms` times sqrt(n), `fraction` of the distance.",
    )
    coefficients: Literal["paper", "unit"] = Field(
        default="paper", description="`paper` as printed, `unit` the nested form whose squares sum to 1 for any N."
    )
    clamp: bool = Field(
        default=False, description="Limit a manifold step to the distance, so that it cannot overshoot."
    )
    norm_scope: Literal["sample", "batch"] = Field(
        default="sample", description="`batch` takes one norm over all images, as the published code does."
    )

    @model_validator(mode="after")
    def _fractions(self) -> AMDMOptions:
        if self.step_size_unit == "fraction" and self.step_sizes is None:
            raise ValueError("step_size_unit is `fraction`: give step_sizes as fractions of the distance")
        return self


def spherical_coefficients(weights: Sequence[float], form: Literal["paper", "unit"]) -> list[float]:
    """Return c_1 .. c_N of x' = sum_k c_k x^k for weights w_1 .. w_(N-1).

    `paper`: c_k = prod_(j<k) sqrt(1 - w_j^2) prod_(j>=k) w_j, as printed; for N >= 3 the squares do not sum to 1.
    `unit`: A_(k+1) = w_k A_k + sqrt(1 - w_k^2) x^(k+1), whose squares always sum to 1. Both agree for N = 2.
    """
    complements = [math.sqrt(1 - weight**2) for weight in weights]
    coefficients = []
    for k in range(len(weights) + 1):
        before = math.prod(complements[:k]) if form == "paper" else math.prod(complements[k - 1 : k] if k else [])
        coefficients.append(before * math.prod(weights[k:]))
    return coefficients


class AMDM(WindowedStrategy):
    """Algorithms 1 and 2 of the AMDM paper, for any number of members.

    Mixes samples x_{t-1}. Costs N - 1 evaluations more per aggregated step. The target is privileged: it is the
    output and survives the window alone. Source: the AMDM paper; see docs/concepts.md for its misprints.
    """

    name = "amdm"
    summary = "The paper's rule: spherical aggregation, then a manifold step towards every member's mean."
    formula = "x' = w x^1 + sqrt(1-w^2) x^2;  x^k = x' - step_k (x' - mean_k) / |x' - mean_k|"
    space = "x_{t-1}"
    privileged_target = True
    source = "Aggregation of Multi Diffusion Models, Algorithms 1 and 2"
    options: ClassVar[type[WindowOptions]] = AMDMOptions
    settings: AMDMOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        settings = self.settings
        expect_length(settings.weights, provider_count - 1, "weights", "one less than there are providers")
        expect_length(settings.step_sizes, provider_count, "step_sizes", "one per provider, target first")
        weights = settings.weights if settings.weights is not None else (0.5,) * (provider_count - 1)
        self.coefficients = spherical_coefficients(weights, settings.coefficients)
        self.step_sizes = settings.step_sizes or (DEFAULT_STEP_SIZE_RMS,) * provider_count
        self.step_size_unit = settings.step_size_unit if settings.step_sizes else "rms"

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        # The mean is computed once and serves as sample too where no noise is added: a second computation would leave
        # rounding noise between the two, and a step of full length would follow its random direction.
        means = [transition.mean(state.latents, state.epsilon) for state in states]
        samples = [transition.add_noise(mean, state.noise) for mean, state in zip(means, states, strict=True)]
        return self.mix(samples, means)

    def mix(self, samples: Sequence[torch.Tensor], means: Sequence[torch.Tensor]) -> Advance:
        """Aggregate the members' samples, then step from the aggregate towards every member's mean."""
        aggregate = weighted_sum(self.coefficients, samples)
        moves = [
            manifold_step(
                aggregate, mean, step_size, self.step_size_unit, self.settings.clamp, self.settings.norm_scope
            )
            for mean, step_size in zip(means, self.step_sizes, strict=True)
        ]
        metrics = sample_metrics(aggregate, samples)
        metrics["distance_to_mean"] = [move.distance for move in moves]
        metrics["step_over_distance"] = [move.fraction for move in moves]
        # The target's own step takes back a fraction of the aggregation, everybody's part of it alike.
        left = 1 - moves[0].fraction[:, None, None, None]
        parts = {k: left * self.coefficients[k] * (samples[k] - samples[0]) for k in range(1, len(samples))}
        metrics |= pull_metrics(moves[0].latents - samples[0], parts, len(samples))
        return Advance([move.latents for move in moves], metrics)

    def review(self, trace: Trace) -> list[str]:
        overshooting = sorted({row.name for row in trace.rows if max(row.metrics.get("step_over_distance", [0])) > 1})
        if not overshooting:
            return []
        return [
            f"manifold steps of {', '.join(overshooting)} were longer than the distance to the mean: they end beyond "
            "it, pushing the other members away. Set `clamp: true`, smaller `step_sizes`, `step_size_unit: fraction`, "
            "`initial_noise: independent` or eta above 0 (see docs/concepts.md)"
        ]


@dataclass(frozen=True)
class ManifoldMove:
    """The outcome of a manifold step: moved latents (B, C, H, W), the (B,) distances to the mean before it, and the
    (B,) step lengths as fractions of them (above 1 the step overshot the mean)."""

    latents: torch.Tensor
    distance: torch.Tensor
    fraction: torch.Tensor


def manifold_step(
    aggregate: torch.Tensor,
    mean: torch.Tensor,
    step_size: float,
    unit: Literal["absolute", "rms", "fraction"] = "absolute",
    clamp: bool = False,
    norm_scope: Literal["sample", "batch"] = "sample",
) -> ManifoldMove:
    """Move an aggregate (B, C, H, W) towards a mean by a step of given length (the paper's manifold optimization).

    A sample that already lies at the mean has no direction and stays where it is; distances down to the rounding of
    the aggregate count as zero, since a unit vector of rounding noise would kick the sample by a full step.
    """
    difference = aggregate - mean
    distance = per_sample_norm(difference)
    size = per_sample_norm(aggregate)
    if norm_scope == "batch":
        distance = torch.linalg.vector_norm(distance, dim=0, keepdim=True).expand_as(distance)
        size = torch.linalg.vector_norm(size, dim=0, keepdim=True).expand_as(size)
    nowhere_to_go = distance <= 8 * torch.finfo(aggregate.dtype).eps * size
    if unit == "fraction":
        fraction = torch.full_like(distance, step_size)
    else:
        length = step_size * math.sqrt(aggregate[0].numel()) if unit == "rms" else step_size
        fraction = length / torch.where(nowhere_to_go, torch.ones_like(distance), distance)
    if clamp:
        fraction = fraction.clamp(max=1.0)
    fraction = torch.where(nowhere_to_go, torch.zeros_like(fraction), fraction)
    moved = (aggregate - fraction * difference).to(aggregate.dtype)
    return ManifoldMove(moved, distance.flatten(), fraction.flatten())
