"""How far a measured rate can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95


def bootstrap_interval(
    values: NDArray[np.float64], counts: NDArray[np.float64], seed: int = 0
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of sum(values) / sum(counts), scenes drawn with replacement.

    Args:
        values: (N,) what each scene contributes, such as its number of successes.
        counts: (N,) out of how many; 0 where a scene asks for nothing.
        seed: of the resampling.

    Returns:
        Lower and upper end of the 95 % interval, None where nothing was asked for.
    """
    size = len(values)
    times = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    drawn = times @ counts
    ratios = (times @ values)[drawn > 0] / drawn[drawn > 0]
    if not len(ratios):
        return None
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
