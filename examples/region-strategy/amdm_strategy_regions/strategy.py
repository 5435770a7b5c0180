"""Spherical interpolation of the samples, restricted to the boxes of instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.base import (
    Advance,
    ProviderState,
    Weight,
    WindowedStrategy,
    WindowOptions,
    expect_length,
    sample_metrics,
)
from amdm_framework.strategies.slerp import slerp

Positions = tuple[Annotated[int, Field(ge=0)], ...]


class RegionsOptions(WindowOptions):
    """Options of the restricted interpolation."""

    weights: tuple[Weight, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary"},
        description="w_1 .. w_(N-1): 1 keeps what the boxes hold so far, 0 takes the next member [equal shares].",
    )
    instances: tuple[Positions, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary"},
        description="For every secondary, the instances in whose boxes it acts, by position in the scene; 0 is the "
        "first [all instances].",
    )
    softness: float = Field(
        default=0.0625,
        ge=0,
        le=0.5,
        description="Depth inside a box, as a fraction of the picture, at which a secondary acts fully.",
    )


class Regions(WindowedStrategy):
    """Spherical interpolation of the members' samples inside boxes; the target's own sample everywhere else.

    Members join one after the other, secondary k inside its mask m_k:

        A_1 = x^1,    A_(k+1) = (1 - m_k) A_k + m_k slerp(A_k, x^(k+1), f_k)

    f_k is (2/pi) acos(w_k), or 1 / (k + 1) where no weights are given, as in `slerp`: with masks of 1 everywhere the
    two are the same rule. Outside the boxes every step is the target's. All members go on from the last A.

    Mixes samples x_{t-1}. Costs N - 1 evaluations more per aggregated step. The target is privileged: it draws alone
    outside the boxes and after the window. Source: this example; MultiDiffusion (arXiv 2302.08113) averages by regions.
    """

    name = "regions"
    summary = "Spherical interpolation inside the boxes of instances; the target alone outside them."
    formula = "x = (1 - m) x^1 + m slerp(x^1, x^2, f),  m: soft masks of the boxes"
    space = "x_{t-1}"
    privileged_target = True
    source = "an example of amdm-framework; by regions in MultiDiffusion, arXiv 2302.08113"
    options: ClassVar[type[WindowOptions]] = RegionsOptions
    settings: RegionsOptions
    needs_regions: ClassVar[bool] = True
    contract: ClassVar[str] = "amdm_strategy_regions.contract:RegionsContract"

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        weights = self.settings.weights
        expect_length(weights, provider_count - 1, "weights", "one less than there are providers")
        expect_length(self.settings.instances, provider_count - 1, "instances", "one list per secondary")
        if weights is None:
            self.fractions = [1 / (k + 1) for k in range(1, provider_count)]
        else:
            self.fractions = [2 / math.pi * math.acos(weight) for weight in weights]

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        assert step.regions is not None
        masks = soft_masks(step.regions, self.settings.softness).to(states[0].latents.dtype)
        samples = [transition.sample(state.latents, state.epsilon, state.noise) for state in states]
        aggregate = samples[0]
        for k, (sample, fraction) in enumerate(zip(samples[1:], self.fractions, strict=True)):
            mask = self._union(masks, k)
            aggregate = (1 - mask) * aggregate + mask * slerp(aggregate, sample, fraction)
        return Advance([aggregate] * len(states), sample_metrics(aggregate, samples))

    def _union(self, masks: torch.Tensor, secondary: int) -> torch.Tensor:
        if self.settings.instances is not None:
            known = [i for i in self.settings.instances[secondary] if i < masks.shape[1]]
            masks = masks[:, known]
        # 1 - prod(1 - m_i) is 0 for a scene without instances.
        return 1 - (1 - masks).prod(1, keepdim=True)


def soft_masks(masks: torch.Tensor, softness: float) -> torch.Tensor:
    """Let masks of boxes rise from their edges inwards; outside a box nothing changes.

    Args:
        masks: (B, K, H, W) how much of every cell every box covers, in [0, 1].
        softness: depth inside a box at which its mask is whole, as a fraction of the height and of the width. Boxes
            thinner than twice that stay below 1.

    Returns:
        (B, K, H, W) in [0, 1].
    """
    if softness == 0:
        return masks
    height, width = masks.shape[-2:]
    rows, columns = masks.amax(-1, keepdim=True), masks.amax(-2, keepdim=True)
    return masks * _ramp(rows, -2, softness * height) * _ramp(columns, -1, softness * width)


def _ramp(covered: torch.Tensor, dimension: int, depth: float) -> torch.Tensor:
    # How far the middle of a cell's covered part lies from the nearer of the box's two edges, in cells.
    from_start = covered.cumsum(dimension) - covered / 2
    to_end = covered.sum(dimension, keepdim=True) - from_start
    return (torch.minimum(from_start, to_end) / depth).clamp(0, 1)
