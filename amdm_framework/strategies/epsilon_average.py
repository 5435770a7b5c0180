"""A weighted average of the members' noise predictions on latents they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    ProviderState,
    Share,
    WindowedStrategy,
    WindowOptions,
    advance_together,
    resolve_shares,
    weighted_sum,
)


class EpsilonAverageOptions(WindowOptions):
    """Options of the average of noise predictions."""

    shares: tuple[Share, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "member", "relative": True},
        description="Every member's share of the average, target first; scaled to sum to 1 [equal].",
    )


class EpsilonAverage(WindowedStrategy):
    """A weighted average of the members' guided noise predictions; all members share the target's latents.

    Mixes epsilon. Costs N - 1 evaluations more per aggregated step. No member is privileged inside the window; the
    target survives it alone. Predictions at equal latents are nearly parallel, so that the average keeps their norm.
    Source: the ensemble average of predictions; MultiDiffusion (arXiv 2302.08113) does the same by regions.
    """

    name = "epsilon_average"
    summary = "Weighted average of the members' noise predictions on shared latents."
    formula = "eps = sum_k lambda_k eps_k(x_t),  sum_k lambda_k = 1"
    space = "epsilon"
    privileged_target = False
    source = "ensemble average; by regions in MultiDiffusion, arXiv 2302.08113"
    options: ClassVar[type[WindowOptions]] = EpsilonAverageOptions
    settings: EpsilonAverageOptions
    shared_latents: ClassVar[bool] = True

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.shares = resolve_shares(self.settings.shares, provider_count, "one per provider, target first")

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        predictions = [state.epsilon for state in states]
        parts = {k: self.shares[k] * (predictions[k] - predictions[0]) for k in range(1, len(states))}
        return advance_together(weighted_sum(self.shares, predictions), states, transition, parts)
