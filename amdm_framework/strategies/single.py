"""The target alone: what every aggregation is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from ..provider import Step
from ..sampling.transition import Transition
from ..scene import StrictModel
from .base import Advance, AggregationStrategy, Evaluation, ProviderState


class SingleOptions(StrictModel):
    """The target alone has nothing to set."""


class Single(AggregationStrategy):
    """Plain sampling of the target; the other providers are never evaluated.

    Mixes nothing. Costs no extra evaluations. Only the target plays a part. Source: DDIM, arXiv 2010.02502.
    """

    name = "single"
    summary = "The target alone; the other members are never evaluated."
    formula = "x = mean(x_t, eps_1) + std z"
    space = "x_{t-1}"
    privileged_target = True
    source = "DDIM, arXiv 2010.02502"
    options: ClassVar[type[BaseModel]] = SingleOptions

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return {0: Evaluation.GUIDED}

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        target = states[0]
        latents = transition.sample(target.latents, target.epsilon, target.noise)
        return Advance([latents] + [None] * (len(states) - 1))
