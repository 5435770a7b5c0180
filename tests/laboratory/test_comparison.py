"""Whether a difference may be chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amdm_framework.laboratory.comparison import Comparison, Measured, measure
from amdm_framework.laboratory.drawing import Laboratory
from toy_benchmark import GREYS, cases, grey_registry


def measured(monkeypatch: pytest.MonkeyPatch, greys: list[float], seed: int = 0) -> Measured:
    """What pictures of some greys in 0..255 reach."""
    pictures = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in greys])
    monkeypatch.setattr(Laboratory, "draw_cases", lambda *arguments: (None, pictures))
    return measure(Laboratory(grey_registry()), None, GREYS, cases(len(greys), seed), 8)  # type: ignore[arg-type]


def test_the_interval_of_a_mean_is_that_of_the_paired_differences(monkeypatch):
    chance = np.random.default_rng(0)
    first, second = chance.integers(100, 200, 12), chance.integers(120, 180, 12)
    start, best = measured(monkeypatch, first.tolist()), measured(monkeypatch, second.tolist())
    compared = Comparison(12, 0, start, best)
    wanted = np.array([case.truth for case in cases(12, 0)])
    near = [100 * (1 - (greys / 255 - wanted) ** 2) for greys in (first, second)]
    assert (start.score, best.score) == pytest.approx(tuple(map(np.mean, near)))
    differences = near[1] - near[0]
    assert compared.difference == pytest.approx(differences.mean())
    # For a mean the jackknife is the usual standard error.
    half = 1.96 * differences.std(ddof=1) / math.sqrt(12)
    assert compared.interval() == pytest.approx((differences.mean() - half, differences.mean() + half))


def test_many_cases_are_left_out_in_groups(monkeypatch):
    found = measured(monkeypatch, list(range(100, 150)))
    assert len(found.without) == 20
    assert np.mean(found.without) == pytest.approx(found.score, abs=0.05)
    assert Comparison(50, 0, found, found).interval() == (0, 0)


def test_there_is_no_interval_of_few_cases(monkeypatch):
    few = measured(monkeypatch, [100, 110, 120])
    assert Comparison(3, 0, few, few).interval() is None
    lone = Measured({}, 50.0, [None, 50.0])
    assert Comparison(8, 0, lone, lone).interval() is None
    nothing = Measured({}, None, [None, None])
    assert Comparison(8, 0, nothing, nothing).difference is None
    assert Comparison(8, 0, nothing, nothing).interval() is None
