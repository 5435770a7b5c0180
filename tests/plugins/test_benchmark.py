"""What a benchmark returns is checked before anybody believes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from amdm_framework.benchmark import Benchmark, BenchmarkCase
from amdm_framework.errors import PluginError
from amdm_framework.scene import Scene

CASE = BenchmarkCase(Scene(caption="a"), 1)
PICTURES = np.zeros((1, 8, 8, 3), np.uint8)


def benchmark(cases: Callable[..., Any] = lambda count, seed: [CASE] * count, **found: Any) -> Benchmark:
    """A benchmark of two figures that always finds the same."""
    figures = {"first": "the first", "second": "the second"}
    return Benchmark("toy", "A toy.", "first", figures, cases, lambda pictures, judged: found)


def test_figures_come_in_the_order_in_which_they_are_named():
    measured = benchmark(second=None, first=np.float32(12.5)).measure(PICTURES, [CASE])
    assert list(measured.items()) == [("first", 12.5), ("second", None)]
    assert type(measured["first"]) is float


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"first": 1.0}, "score returned first; expected first, second"),
        ({"first": 1.0, "second": 2.0, "third": 3.0}, "score returned first, second, third; expected first, second"),
        ({"first": float("nan"), "second": 2.0}, "figure first is nan, expected 0 to 100 or None"),
        ({"first": 100.5, "second": 2.0}, "figure first is 100.5"),
        ({"first": 1.0, "second": -1}, "figure second is -1"),
    ],
)
def test_figures_that_are_none_are_refused(found, message):
    with pytest.raises(PluginError, match=f"benchmark toy: {message}"):
        benchmark(**found).measure(PICTURES, [CASE])


def test_cases_are_as_many_as_were_asked_for():
    assert benchmark().draw_cases(3, 0) == [CASE] * 3
    with pytest.raises(PluginError, match="cases returned 2 values, expected 3 cases"):
        benchmark(lambda count, seed: (CASE,) * 2).draw_cases(3, 0)
    with pytest.raises(PluginError, match="expected 2 cases"):
        benchmark(lambda count, seed: [CASE, "scene"]).draw_cases(2, 0)
