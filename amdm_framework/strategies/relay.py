"""The secondaries go first, each alone, then hand over to the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import ClassVar

from pydantic import Field

from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    Evaluation,
    ProviderState,
    Share,
    WindowedStrategy,
    WindowOptions,
    advance_together,
    expect_length,
    resolve_shares,
)


class RelayOptions(WindowOptions):
    """Options of the relay."""

    shares: tuple[Share, ...] | None = Field(
        default=None,
        json_schema_extra={"per": "secondary", "relative": True},
        description="Every secondary's share of the window, in their order, scaled to sum to 1 [equal].",
    )


class Relay(WindowedStrategy):
    """Each secondary samples alone for its share of the window, one after the other; then the target takes over.

    Mixes epsilon, over time. Costs no extra evaluations: a secondary's step replaces the target's. The target is
    privileged: it is not evaluated inside the window, but draws everything after it. All share one latent. The first
    steps decide layout and colours, so that a secondary's skills there survive a target that knows nothing of them.
    Source: switching prompts during sampling, as known from community user interfaces; eDiff-I (arXiv 2211.01324)
    trains one expert per stretch of the schedule.
    """

    name = "relay"
    summary = "The secondaries draw the first steps, each alone; then the target takes over."
    formula = "eps = eps_k(x_t),  k = whose share of the window step i falls into"
    space = "epsilon"
    privileged_target = True
    source = "prompt switching of community user interfaces; eDiff-I, arXiv 2211.01324"
    options: ClassVar[type[WindowOptions]] = RelayOptions
    settings: RelayOptions
    shared_latents: ClassVar[bool] = True

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.runner: list[int] = []
        expect_length(self.settings.shares, provider_count - 1, "shares", "one per secondary")
        if provider_count == 1:
            return
        shares = resolve_shares(self.settings.shares, provider_count - 1, "one per secondary")
        length = self.stop - self.start
        ends = [math.floor(length * share + 0.5) for share in accumulate(shares)]
        ends[-1] = length
        for k, end in enumerate(ends, start=1):
            self.runner += [k] * (end - len(self.runner))

    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        return {self.runner[index - self.start]: Evaluation.GUIDED}

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        return advance_together(states[self.runner[step.index - self.start]].epsilon, states, transition)
