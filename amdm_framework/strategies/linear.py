"""A plain weighted average of the members' samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    ProviderState,
    Share,
    WindowedStrategy,
    WindowOptions,
    per_sample_norm,
    pull_metrics,
    resolve_shares,
    sample_metrics,
    weighted_sum,
)


class LinearOptions(WindowOptions):
    """Options of the weighted average."""

    shares: tuple[Share, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "member", "relative": True},
        description="Every member's share of the average, target first; scaled to sum to 1 [equal].",
    )
    keep_norm: bool = Field(
        default=False, description="Rescale the average to the average of the samples' norms, which averaging shrinks."
    )


class Linear(WindowedStrategy):
    """A weighted average of the members' samples, from which all of them go on.

    Mixes samples x_{t-1}. Costs N - 1 evaluations more per aggregated step. No member is privileged inside the window;
    the target survives it alone. For members that enter a step from equal latents without added noise it equals
    `epsilon_average`. Samples that lie far apart (independent initial noise, eta above 0) lose norm and with it
    texture, unless `keep_norm` is set. Source: the plain average, as the baseline of the spherical rule.
    """

    name = "linear"
    summary = "Weighted average of the members' samples."
    formula = "x = sum_k lambda_k x^k,  sum_k lambda_k = 1"
    space = "x_{t-1}"
    privileged_target = False
    source = "weighted average; the baseline of the spherical rule"
    options: ClassVar[type[WindowOptions]] = LinearOptions
    settings: LinearOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.shares = resolve_shares(self.settings.shares, provider_count, "one per provider, target first")

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        samples = [transition.sample(state.latents, state.epsilon, state.noise) for state in states]
        average = weighted_sum(self.shares, samples)
        if self.settings.keep_norm:
            norm = weighted_sum(self.shares, [per_sample_norm(sample) for sample in samples])
            found = per_sample_norm(average)
            scale = torch.where(found > 0, norm / found, torch.ones_like(found))
            average = (average * scale).to(average.dtype)
        parts = {k: self.shares[k] * (samples[k] - samples[0]) for k in range(1, len(states))}
        metrics = sample_metrics(average, samples) | pull_metrics(average - samples[0], parts, len(states))
        return Advance([average] * len(states), metrics)
