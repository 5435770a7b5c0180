"""The strategy: whom it evaluates in its window, and what becomes of their predictions.

Change: the options, what the class says of itself, `begin` where options must fit the run, and `aggregate`. A strategy
that does not need every member at every step of the window overrides `evaluated_in_window`, from which `amdm check`
counts what a run costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.base import (
    Advance,
    ProviderState,
    Weight,
    WindowedStrategy,
    WindowOptions,
    advance_together,
    weighted_sum,
)
from pydantic import Field


class ExampleOptions(WindowOptions):
    """Options of the fading average; `steps` and `window` come from `WindowOptions`."""

    keep: Weight = Field(
        default=0.5, description="The target's part at the window's first step; 1 is the target alone."
    )


class Example(WindowedStrategy):
    """An average of noise predictions in which the secondaries fade out over the window.

    Mixes epsilon, on latents that all members share. Costs N - 1 evaluations more per step of the window. The first
    member is privileged: its part grows from `keep` to nearly 1, so that nothing jumps where the window ends. Source:
    say here which paper or code yours comes from.
    """

    name = "example"
    summary = "Average of the noise predictions in which the secondaries fade out over the window."
    formula = "eps = (1 - f) eps_1 + f mean(eps_2 .. eps_N),  f = (1 - keep) (stop - t) / (stop - start)"
    space = "epsilon"
    privileged_target = True
    source = "the template of `amdm new-plugin`"
    options: ClassVar[type[WindowOptions]] = ExampleOptions
    settings: ExampleOptions
    # All members look at the target's latents; without it they would start from noise of their own.
    shared_latents: ClassVar[bool] = True
    # A text: what it names needs pytest, and is imported by `amdm plugin-check` alone.
    contract: ClassVar[str] = "amdm_strategy_example.contract:ExampleContract"

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        fading = (self.stop - step.index) / (self.stop - self.start)
        secondaries = (1 - self.settings.keep) * fading
        coefficients = [1 - secondaries] + [secondaries / (len(states) - 1)] * (len(states) - 1)
        epsilon = weighted_sum(coefficients, [state.epsilon for state in states])
        return advance_together(epsilon, states, transition)
