"""Members take turns: one network per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from ..errors import InputError, Problem
from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    Evaluation,
    ProviderState,
    WholeRunOptions,
    WindowedStrategy,
    WindowOptions,
    advance_together,
)


class AlternateOptions(WholeRunOptions):
    """Options of taking turns."""

    order: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        min_length=1,
        json_schema_extra={"holds": "positions"},
        description="Whose turn it is, in a cycle, by position in the composition; 0 is the target [0, 1, ..].",
    )


class Alternate(WindowedStrategy):
    """Members take turns on latents they share: at every step one of them predicts the noise.

    Mixes epsilon, over time. Costs no extra evaluations. No member is privileged inside the window, but whoever comes
    last draws the details. Source: alternating words, as known from community user interfaces for Stable Diffusion.
    """

    name = "alternate"
    summary = "Members take turns, one network per step."
    formula = "eps = eps_k(x_t),  k = order[i mod len(order)]"
    space = "epsilon"
    privileged_target = False
    source = "alternating words of community user interfaces"
    options: ClassVar[type[WindowOptions]] = AlternateOptions
    settings: AlternateOptions
    shared_latents: ClassVar[bool] = True
    default_steps: ClassVar[int | None] = None

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.order = self.settings.order if self.settings.order is not None else tuple(range(provider_count))
        unknown = [k for k in self.order if k >= provider_count]
        if unknown:
            raise InputError(
                [Problem(f"there is no provider {unknown[0]}, expected 0 to {provider_count - 1}", "aggregation.order")]
            )

    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        return {self._turn(index): Evaluation.GUIDED}

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        return advance_together(states[self._turn(step.index)].epsilon, states, transition)

    def _turn(self, index: int) -> int:
        return self.order[(index - self.start) % len(self.order)]
