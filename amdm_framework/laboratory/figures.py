"""What a trace says about one picture, in a few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..sampling.trace import Trace


@dataclass(frozen=True)
class Figures:
    """Figures of one picture, or their means over several; None where the strategy does not know such a thing.

    Attributes:
        evaluations: network evaluations; a guided one counts once.
        norm_ratio: norm of the aggregate over sqrt(n) at the last aggregated step; about 1 for samples of any one model
            in the noisy steps.
        step_over_distance: the longest manifold step of any member, as a fraction of the distance to its mean; above 1
            it overshot.
        cosine: the least cosine of any secondary's sample (or noise prediction, where those are mixed) with the
            target's.
        distance_to_mean: the largest distance of the aggregate to any member's mean, in latent units.
    """

    evaluations: float
    norm_ratio: float | None
    step_over_distance: float | None
    cosine: float | None
    distance_to_mean: float | None


def figures_of(trace: Trace, image: int) -> Figures:
    """Return the figures of one image of a batch."""

    def values(metric: str, first_member: int = 0) -> list[float]:
        return [
            row.metrics[metric][image]
            for row in trace.rows
            if metric in row.metrics and row.provider >= first_member
        ]  # fmt: skip

    # The target's cosine with itself says nothing.
    cosines = values("cosine", first_member=1)
    # Written in the order of the steps.
    norms = values("norm_ratio")
    steps = values("step_over_distance")
    distances = values("distance_to_mean")
    return Figures(
        trace.total_evaluations,
        norms[-1] if norms else None,
        max(steps, default=None),
        min(cosines, default=None),
        max(distances, default=None),
    )


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """Return the mean of every figure over the pictures that have it."""
    means: dict[str, float | None] = {}
    for field in fields(Figures):
        known = [value for one in figures if (value := getattr(one, field.name)) is not None]
        means[field.name] = sum(known) / len(known) if known else None
    return Figures(**means)  # type: ignore[arg-type]  # every picture has its evaluations
