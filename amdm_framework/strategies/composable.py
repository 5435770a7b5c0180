"""Conjunction of concepts: every member adds its own guidance to one unconditional prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    Evaluation,
    ProviderState,
    WindowedStrategy,
    WindowOptions,
    advance_together,
    expect_length,
)


class ComposableOptions(WindowOptions):
    """Options of the conjunction."""

    steps: int | None = Field(
        default=None, ge=0, description="Length s of the window, from the first step on [3/10 of the run]."
    )
    scales: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        default=None,
        json_schema_extra={"per": "member"},
        description="Guidance scale of every member, target first; negative negates [each member's own: they add up].",
    )
    unconditional: Literal["target", "own"] = Field(
        default="target",
        description="What a member's prediction is compared with: the target's unconditional half, or its own.",
    )


class Composable(WindowedStrategy):
    """Composable diffusion's conjunction on shared latents: guidance differences of all members add up.

    Mixes epsilon. Costs N - 1 conditional evaluations more per step (`unconditional: own` adds their unconditional
    halves). Only the unconditional prediction is privileged: it is the target's. Of a member's guidance only the scale
    counts; kinds, rescaling and intervals do not. A negative scale negates what its member asks for. The sum grows
    with the number of members: for a picture as strongly guided as one member alone, give scales that sum to its own.
    The first three tenths of the run are the default, where layout and colours are decided; over the whole run the sum
    overshoots (docs/does_it_work.md).
    Source: Liu et al. 2022, arXiv 2206.01714.
    """

    name = "composable"
    summary = "Conjunction of concepts: the guidance of all members adds up on shared latents."
    formula = "eps = eps_u + sum_k g_k (eps_k - eps_u)"
    space = "epsilon"
    privileged_target = True
    source = "Liu et al. 2022, arXiv 2206.01714"
    options: ClassVar[type[WindowOptions]] = ComposableOptions
    settings: ComposableOptions
    shared_latents: ClassVar[bool] = True
    default_steps: ClassVar[float | None] = 0.3

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        expect_length(self.settings.scales, provider_count, "scales", "one per provider, target first")

    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        others = Evaluation.BOTH_HALVES if self.settings.unconditional == "own" else Evaluation.CONDITIONAL
        return {k: others if k else Evaluation.BOTH_HALVES for k in range(self.provider_count)}

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        scales = self.settings.scales or [state.guidance_scale for state in states]
        unconditional = states[0].unconditional_epsilon
        references = [unconditional if state.unconditional is None else state.unconditional for state in states]
        epsilon = conjunction(unconditional, [state.epsilon for state in states], references, scales)
        # The target alone would add nothing but its own.
        parts = {k: scales[k] * (states[k].epsilon - references[k]) for k in range(1, len(states))}
        return advance_together(epsilon, states, transition, parts)


def conjunction(
    unconditional: torch.Tensor,
    conditionals: Sequence[torch.Tensor],
    references: Sequence[torch.Tensor],
    scales: Sequence[float],
) -> torch.Tensor:
    """Return eps_u + sum_k g_k (eps_k - eps_(u,k)), all (B, C, H, W)."""
    epsilon = unconditional
    for conditional, reference, scale in zip(conditionals, references, scales, strict=True):
        epsilon = epsilon + scale * (conditional - reference)
    return epsilon
