"""How strong the grounding is at every step of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StrengthSchedule:
    """Full strength first, then falling, then off.

    The two forms in use are `alpha_type: [a, b, c]` (the original) and `scheduled_sampling_beta: a` (diffusers), which
    is [a, 0, 1 - a]. Step counts are truncated as both do: 0.58 of 50 steps are 28.

    Attributes:
        strength: the full strength; 1 as trained, 0 switches grounding off.
        full: a, the share of the steps at full strength.
        falling: b, the share of the steps after them over which it falls linearly. The first falling step is below
            full already and the last one is 0.
    """

    strength: float = 1.0
    full: float = 1.0
    falling: float = 0.0

    def at(self, index: int, count: int) -> float:
        """Return the strength at a step of a grid of `count` steps, the noisiest of which has index 0."""
        full_steps, falling_steps = int(self.full * count), int(self.falling * count)
        if index < full_steps:
            return self.strength
        if index < full_steps + falling_steps:
            return self.strength * (falling_steps - 1 - (index - full_steps)) / falling_steps
        return 0.0
