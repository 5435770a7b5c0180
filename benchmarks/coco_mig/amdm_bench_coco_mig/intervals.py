"""How far a measured mean can be trusted, where whole pictures are drawn and not single instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95


def interval_of_mean(levels: Sequence[NDArray[np.float64]], seed: int = 0) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of the mean over all instances, pictures drawn with replacement.

    Instances of one picture share its noise and disturb each other, so they are not independent and pictures are drawn.
    How many pictures a level has is fixed by the benchmark, so each level is drawn from its own.

    Args:
        levels: of each level the values of its instances, (pictures, instances).
        seed: of the resampling.

    Returns:
        Lower and upper end of the 95 % interval. None where drawing pictures again says nothing about it: all of each
        level are equal, or a level has a single one.
    """
    pictures = [values.sum(axis=1) for values in levels if len(values)]
    if any(len(totals) == 1 for totals in pictures) or all(np.ptp(totals) == 0 for totals in pictures):
        return None
    generator = np.random.default_rng(seed)
    sums = np.zeros(RESAMPLES)
    for totals in pictures:
        count = len(totals)
        sums += generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) @ totals
    means = sums / sum(values.size for values in levels)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
