"""What the code published with the paper computes, which is not what the paper prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .amdm import AMDM, AMDMOptions
from .base import Advance, Evaluation, ProviderState


class AMDMAuthorsOptions(AMDMOptions):
    """Options of the published code's rule: those of the paper's, its window beginning one step later."""

    steps: int | None = Field(
        default=None, ge=0, description="Number of aggregated steps, from the second step on [3: steps 1, 2 and 3]."
    )


class AMDMAuthors(AMDM):
    """The aggregation of the code that was published with the AMDM paper.

    Mixes samples x_{t-1}. Costs N - 1 evaluations more per step up to the window's end. The target is privileged: it
    is the output and survives the window alone. Source: the paper's public repository. Where it departs from the
    paper's rule:

    - The manifold step leads towards the mean of one *training* step, taken from the state x_i that enters the
      sampling step with the noise prediction of the step before:
      m = (x_i - (1 - alpha) / sqrt(1 - a) eps_(i-1)) / sqrt(alpha), alpha and a at the timestep of the step before.
      This is nearly x_i itself, so the pull is towards where the model came from.
    - The first step has no step before it and is never aggregated.
    - Before the window every member follows its own trajectory; the published code also gives each its own initial
      noise (`initial_noise: independent` of the sampler).

    Inside and after the window the target's result is the published code's. The secondaries, which the published code
    evaluates to the end without using them, stop at the window's end. Norms are per sample, which is the same for one
    image; `norm_scope: batch` is the published arithmetic for several.
    """

    name = "amdm_authors"
    summary = "The published code's rule: the paper's, but steps towards a mean of the previous prediction."
    formula = "x' = sum_k c_k x^k;  x^k = x' - step_k (x' - m_k) / |x' - m_k|,  m_k from x_t and eps_(t+1)"
    source = "Aggregation of Multi Diffusion Models, published code"
    options: ClassVar[type[AMDMOptions]] = AMDMAuthorsOptions
    first_index: ClassVar[int] = 1

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self._previous: tuple[Transition, list[torch.Tensor]] | None = None

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        if self.start < self.stop and index < self.stop:
            return self.evaluated_in_window(index)
        return {0: Evaluation.GUIDED}

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        if step.index >= self.stop or self.start == self.stop:
            self._previous = None
            return super().advance(step, states, transition)
        if self.in_window(step.index):
            advance = self.aggregate(step, states, transition)
        else:
            advance = Advance([transition.sample(state.latents, state.epsilon, state.noise) for state in states])
        self._previous = transition, [state.epsilon for state in states]
        return advance

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        assert self._previous is not None
        previous_transition, previous_epsilons = self._previous
        samples = [transition.sample(state.latents, state.epsilon, state.noise) for state in states]
        means = [
            training_step_mean(state.latents, epsilon, previous_transition)
            for state, epsilon in zip(states, previous_epsilons, strict=True)
        ]
        return self.mix(samples, means)


def training_step_mean(latents: torch.Tensor, epsilon: torch.Tensor, transition: Transition) -> torch.Tensor:
    """Return the mean of the DDPM transition over one training step at a transition's timestep, (B, C, H, W)."""
    factor = (1 - transition.alpha) / math.sqrt(1 - transition.alpha_cumprod)
    return (latents - factor * epsilon) / math.sqrt(transition.alpha)
