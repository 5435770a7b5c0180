"""The secondaries draw the first steps alone, then only shift every instance as a whole; then the target alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field, model_validator

from ..errors import InputError, Problem
from ..provider import Step
from ..sampling.transition import Transition
from ..scene import StrictModel
from .base import (
    Advance,
    AggregationStrategy,
    Evaluation,
    ProviderState,
    Share,
    advance_together,
    expect_length,
)
from .relay import Relay, RelayOptions

SMALLEST_QUANTILE_LIMIT = 1.0
"""The least that `limit_quantile` limits x0 to, as in dynamic thresholding: a nearly flat x0 is not squeezed further."""


class InstanceRelayOptions(StrictModel):
    """Options of the relay by instances."""

    secondary_steps: int = Field(
        default=3, ge=0, description="Number r of first steps that the secondaries draw in turn, without the target."
    )
    instance_steps: int = Field(
        default=3,
        ge=0,
        description="Number m of steps after them in which secondaries shift every instance as a whole.",
    )
    modes: tuple[Literal["instances", "background"], ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary"},
        description="Every secondary's part, in their order: it acts on the `instances`, or on the `background` outside "
        "all boxes [all `instances`].",
    )
    shares: tuple[Share, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary", "relative": True},
        description="Share of `secondary_steps` of every secondary that acts on instances, in their order, scaled to "
        "sum to 1 [equal].",
    )
    target_outside: bool = Field(
        default=False,
        description="Whether the target draws outside all boxes in the first `secondary_steps`, at one more evaluation "
        "each; else the secondary whose turn it is draws everything.",
    )
    limit: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Largest |x0| a step of the window may predict [no limit]."
    )
    limit_quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="In place of `limit`: this quantile of the picture's own |x0|, at least 1, e.g. 0.995 [no limit].",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> InstanceRelayOptions:
        if self.limit is not None and self.limit_quantile is not None:
            raise ValueError("give `limit` or `limit_quantile`, not both")
        return self


class InstanceRelay(AggregationStrategy):
    """The secondaries draw r steps, then shift every instance as a whole for m steps; then the target goes on alone.

    With the target A, the secondaries k that act on instances and those that act on the background:

        steps 1 to r:    e = eps_k,  k = whose turn it is, as in `relay`
        m steps more:    e = eps_A + sum_k sum_i w_i mean_i(eps_k - eps_A)
        in both:         eps = e + (1 - sum_i w_i) (b - eps_j),  j = k or A, whoever drew,
                         b = the mean of eps_j (eps_A with `target_outside`) and of all who act on the background

    mean_i is the mean of every channel over the box of instance i, w_i = 1_i / max(1, sum_j 1_j) its part of a cell:
    1_i is how much of the cell the box covers, so that overlapping boxes average. In the m steps a secondary changes
    what is constant over an instance, such as its colour, and nothing else: all structure inside the boxes and
    everything outside them is the target's. With several secondaries all their shifts are added. Where no secondary
    acts on instances the target draws inside the boxes from the first step on. In scenes without boxes there is
    nothing to shift, and all is background.

    In the window the predicted x0 may be limited to [-l, l], where guidance drives it out of the range of pictures.
    l is `limit`, for example 1 for pixels; or, image by image, max(1, the `limit_quantile` of |x0|), which follows an
    x0 that is too large as a whole.

    Mixes epsilon. Costs m evaluations more for every secondary that acts on instances, as those of the first r steps
    replace the target's, and r + m for every other; `target_outside` costs r more, and keeps what the target draws
    between the instances. The target is privileged: structure is its own from step r on.
    All share one latent. Source: this project; the limit by a quantile is dynamic thresholding (Imagen, arXiv
    2205.11487) without its rescaling.
    """

    name = "instance_relay"
    summary = "The secondaries draw the first steps, then shift each instance as a whole; then the target alone."
    formula = "eps = eps_k, then eps_A + sum_i 1_i mean_i(eps_k - eps_A) over boxes i, then eps_A"
    space = "epsilon"
    privileged_target = True
    source = "this project"
    options: ClassVar[type[BaseModel]] = InstanceRelayOptions
    settings: InstanceRelayOptions
    needs_regions: ClassVar[bool] = True
    shared_latents: ClassVar[bool] = True

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.drawing: list[int] = []
        expect_length(self.settings.modes, provider_count - 1, "modes", "one per secondary")
        modes = self.settings.modes or ("instances",) * (provider_count - 1)
        self.shifting = [k for k, mode in enumerate(modes, start=1) if mode == "instances"]
        self.background = [k for k, mode in enumerate(modes, start=1) if mode == "background"]
        meaning = "one per secondary that acts on instances"
        expect_length(self.settings.shares, len(self.shifting), "shares", meaning)
        if provider_count == 1:
            return
        first, second = self.settings.secondary_steps, self.settings.instance_steps
        if first + second > num_inference_steps:
            raise InputError(
                [Problem(f"the window of {first} secondary_steps and {second} instance_steps ends at step "
                         f"{first + second}, but the run has {num_inference_steps}: shorten either",
                         "aggregation.secondary_steps")]
            )  # fmt: skip
        relay = Relay(RelayOptions(steps=first, shares=self.settings.shares))
        relay.begin(len(self.shifting) + 1, num_inference_steps)
        turns = [self.shifting[runner - 1] for runner in relay.runner] or [0] * first
        self.drawing = turns + [0] * second

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        if index >= len(self.drawing):
            return {0: Evaluation.GUIDED}
        members = {self.drawing[index], *self.background}
        if index >= self.settings.secondary_steps:
            members.update(self.shifting)
        elif self.settings.target_outside:
            members.add(0)
        return dict.fromkeys(sorted(members), Evaluation.GUIDED)

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        target = states[0]
        if step.index >= len(self.drawing):
            latents = transition.sample(target.latents, target.epsilon, target.noise)
            return Advance([latents] + [None] * (self.provider_count - 1))
        assert step.regions is not None
        masks = step.regions.to(target.latents.dtype)
        drawing = self.drawing[step.index]
        drawn = states[drawing].epsilon
        epsilon = drawn
        # For the trace, which knows nothing of the limit.
        parts = {}
        outside = 1 - masks.sum(1, keepdim=True).clamp(max=1)
        if step.index >= self.settings.secondary_steps:
            for k in self.shifting:
                parts[k] = instance_shift(states[k].epsilon - drawn, masks)
                epsilon = epsilon + parts[k]
        if self.background or self.settings.target_outside:
            own = target.epsilon if self.settings.target_outside else drawn
            together = torch.stack([own, *(states[k].epsilon for k in self.background)]).mean(0)
            epsilon = epsilon + outside * (together - drawn)
        if target.noise_prediction is not None:
            if drawing != 0:
                parts[drawing] = (1 - outside) * (drawn - target.epsilon)
            for k in self.background:
                parts[k] = outside * (states[k].epsilon - target.epsilon) / (1 + len(self.background))
        return advance_together(self._limited(epsilon, target.latents, transition), states, transition, parts)

    def _limited(self, epsilon: torch.Tensor, latents: torch.Tensor, transition: Transition) -> torch.Tensor:
        limit, quantile = self.settings.limit, self.settings.limit_quantile
        if limit is None and quantile is None:
            return epsilon
        original = transition.original_sample(latents, epsilon)
        if limit is not None:
            original = original.clamp(-limit, limit)
        elif quantile is not None:
            own = torch.quantile(original.flatten(1).abs(), quantile, dim=1)
            own = own.clamp(min=SMALLEST_QUANTILE_LIMIT)[:, None, None, None]
            original = original.clamp(-own, own)
        return transition.noise_from_original(latents, original)


def instance_shift(difference: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Replace a difference by its mean over every instance's box, channel by channel, and by 0 outside all boxes.

    Args:
        difference: (B, C, H, W).
        masks: (B, K, H, W) how much of every cell every box covers, in [0, 1]; boxes of absent instances are empty.

    Returns:
        (B, C, H, W); cells that several boxes cover get the average of their means.
    """
    parts = masks / masks.sum(1, keepdim=True).clamp(min=1)
    masks, parts = masks[:, :, None], parts[:, :, None]
    area = masks.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(masks.dtype).tiny)
    means = (masks * difference[:, None]).sum((-2, -1), keepdim=True) / area
    return (parts * means).sum(1)
