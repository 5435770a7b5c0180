"""How far a measured mean can be trusted, where whole pictures are drawn and not single instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95


def interval_of_mean(levels: Sequence[NDArray[np.float64]], seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over all instances, pictures drawn with replacement.

    Instances of one picture share its noise and disturb each other, so they are not independent and pictures are drawn.
    How many pictures a level has is fixed by the benchmark, so each level is drawn from its own.

    Args:
        levels: of each level the values of its instances, (pictures, instances).
        seed: of the resampling.

    Returns:
        Lower and upper end of the 95 % interval. It has no width where all pictures are equal.
    """
    generator = np.random.default_rng(seed)
    sums = np.zeros(RESAMPLES)
    for values in levels:
        count = len(values)
        if count:
            times = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
            sums += times @ values.sum(axis=1)
    means = sums / sum(values.size for values in levels)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
