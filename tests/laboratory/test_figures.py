"""Figures of a trace, by hand."""

from __future__ import annotations

from amdm_framework.laboratory.figures import Figures, figures_of, mean_figures
from amdm_framework.sampling.trace import Trace, TraceRow


def row(index: int, provider: int, evaluated: str = "guided", **metrics: list[float]) -> TraceRow:
    return TraceRow(index, 999 - index, provider, f"m{provider}", evaluated, 0.1, metrics)


TRACE = Trace(
    [
        row(0, 0, norm_ratio=[1.1, 2.1], cosine=[1.0, 1.0], step_over_distance=[0.2, 0.3], distance_to_mean=[5.0, 1.0]),
        row(0, 1, cosine=[0.9, 0.5], step_over_distance=[0.8, 1.4], distance_to_mean=[7.0, 9.0]),
        row(1, 0, norm_ratio=[1.2, 2.2], cosine=[1.0, 1.0], step_over_distance=[0.1, 0.1], distance_to_mean=[1.0, 1.0]),
        row(1, 1, cosine=[0.7, 0.6], step_over_distance=[0.4, 0.2], distance_to_mean=[2.0, 2.0]),
        row(2, 0),
        row(2, 1, evaluated=""),
    ],
    ("m0", "m1"),
)


def test_figures_of_each_image_are_its_own() -> None:
    assert figures_of(TRACE, 0) == Figures(5, 1.2, 0.8, 0.7, 7.0)
    assert figures_of(TRACE, 1) == Figures(5, 2.2, 1.4, 0.5, 9.0)


def test_what_a_strategy_does_not_know_is_none() -> None:
    alone = Trace([row(0, 0, cosine=[1.0]), row(1, 0)], ("m0",))
    assert figures_of(alone, 0) == Figures(2, None, None, None, None)


def test_means_are_taken_over_the_pictures_that_have_a_figure() -> None:
    first, second = Figures(4, 1.0, None, 0.5, None), Figures(6, 2.0, None, None, None)
    assert mean_figures([first, second]) == Figures(5, 1.5, None, 0.5, None)
