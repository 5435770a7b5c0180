"""Bootstrap intervals against the distribution they approach."""

from math import comb

import numpy as np
import pytest

from amdm_shapes_zoo.bench.intervals import bootstrap_interval


def binomial_quantile(size: int, rate: float, level: float) -> float:
    """The smallest share of successes whose cumulated binomial probability reaches `level`."""
    total = 0.0
    for successes in range(size + 1):
        total += comb(size, successes) * rate**successes * (1 - rate) ** (size - successes)
        if total >= level:
            return successes / size
    return 1.0


@pytest.mark.parametrize(("successes", "size"), [(30, 60), (12, 80), (95, 100)])
def test_one_trial_a_scene_gives_binomial_quantiles(successes: int, size: int) -> None:
    # Drawing n of n trials with replacement makes the number of successes binomial with the observed rate.
    values = np.repeat([1.0, 0.0], [successes, size - successes])
    low, high = bootstrap_interval(values, np.ones(size))
    assert low == pytest.approx(binomial_quantile(size, successes / size, 0.025), abs=1.01 / size)
    assert high == pytest.approx(binomial_quantile(size, successes / size, 0.975), abs=1.01 / size)


def test_scenes_and_not_instances_are_resampled() -> None:
    # Four instances that always share one fate are one observation: the interval is as wide as with single ones.
    fate = np.repeat([1.0, 0.0], 20)
    assert bootstrap_interval(4 * fate, np.full(40, 4.0)) == bootstrap_interval(fate, np.ones(40))


def test_certainty_and_nothing_asked() -> None:
    assert bootstrap_interval(np.ones(10), np.ones(10)) == (1.0, 1.0)
    assert bootstrap_interval(np.zeros(10), np.zeros(10)) is None


def test_same_seed_same_interval() -> None:
    values, counts = np.arange(12.0) % 3, np.full(12, 3.0)
    assert bootstrap_interval(values, counts) == bootstrap_interval(values, counts)
    assert bootstrap_interval(values, counts, seed=1) != bootstrap_interval(values, counts, seed=2)
