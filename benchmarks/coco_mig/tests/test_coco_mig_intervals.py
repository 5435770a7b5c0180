"""The bootstrap against what it must come to in cases that can be computed."""

from __future__ import annotations

import numpy as np
import pytest

from amdm_bench_coco_mig.intervals import interval_of_mean


def normal_interval(levels: list[np.ndarray]) -> tuple[float, float]:
    """The usual interval of a stratified mean: 1.96 standard errors of the sums of pictures."""
    size = sum(values.size for values in levels)
    mean = sum(values.sum() for values in levels) / size
    error = np.sqrt(sum(len(values) * values.sum(axis=1).var() for values in levels)) / size
    return mean - 1.96 * error, mean + 1.96 * error


def test_many_pictures_give_the_normal_interval() -> None:
    generator = np.random.default_rng(0)
    levels = [generator.random((160, level)) < 0.2 + 0.1 * level for level in range(2, 7)]
    found = interval_of_mean([values.astype(float) for values in levels])
    assert found == pytest.approx(normal_interval([values.astype(float) for values in levels]), abs=0.002)


def test_pictures_and_not_instances_are_drawn() -> None:
    # Six instances that always share one fate are one observation: the interval is that of single ones.
    fate = (np.arange(160) % 4 == 0).astype(float)
    assert interval_of_mean([np.repeat(fate[:, None], 6, axis=1)]) == interval_of_mean([fate[:, None]])


def test_differences_between_levels_do_not_widen_it() -> None:
    # Which level a picture has is not left to chance: a level that is certain halves the interval of another.
    varied = np.repeat((np.arange(160) % 4 == 0).astype(float)[:, None], 2, axis=1)
    low, high = interval_of_mean([varied])
    assert interval_of_mean([varied, np.ones((160, 2))]) == pytest.approx(((low + 1) / 2, (high + 1) / 2))


def test_where_drawing_again_says_nothing_there_is_no_interval() -> None:
    varied = np.random.default_rng(0).random((10, 3))
    assert interval_of_mean([np.zeros((160, 3)), np.ones((160, 2))]) is None
    assert interval_of_mean([np.tile([1.0, 0.0, 0.0, 0.0], (160, 1))]) is None
    assert interval_of_mean([varied[:1]]) is None and interval_of_mean([varied, varied[:1]]) is None
    assert interval_of_mean([varied, np.ones((2, 2))]) is not None


def test_levels_without_pictures_and_equal_seeds() -> None:
    values = np.random.default_rng(0).random((10, 3))
    assert interval_of_mean([values, np.zeros((0, 4))]) == interval_of_mean([values])
    assert interval_of_mean([values], seed=1) != interval_of_mean([values], seed=2)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    # 80 pictures of two instances that agree half of the time.
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        first = generator.random(80) < 0.5
        second = np.where(generator.random(80) < 0.5, first, generator.random(80) < 0.5)
        low, high = interval_of_mean([np.stack([first, second], axis=1).astype(float)], seed)
        covered += low <= 0.5 <= high
    # 95 of 100 expected, with a standard deviation of 2.2.
    assert 88 <= covered <= 99
