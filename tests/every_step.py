"""The code published with the paper evaluates every model at every step: its cost, for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import Advance, Evaluation, ProviderState


class EveryStep(AMDMAuthors):
    """`amdm_authors` at the published code's cost: all models are evaluated to the end, and all trajectories go on."""

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return dict.fromkeys(range(self.provider_count), Evaluation.GUIDED)

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        if step.index < self.stop:
            return super().advance(step, states, transition)
        return Advance([transition.sample(state.latents, state.epsilon, state.noise) for state in states])
