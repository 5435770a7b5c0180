"""Overlaps and suppression of doubles on boxes whose areas can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from amdm_bench_coco_mig.boxes import overlaps, suppress_doubles


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((0, 0, 5, 10), 0.5),
        ((5, 0, 15, 10), 50 / 150),
        ((5, 5, 15, 15), 25 / 175),
        ((2, 2, 4, 4), 4 / 100),
        ((10, 0, 20, 10), 0.0),
        ((20, 20, 30, 30), 0.0),
        ((3, 3, 3, 3), 0.0),
    ],
)
def test_overlap_is_the_shared_area_over_the_covered_area(other: tuple[int, ...], expected: float) -> None:
    box, boxes = np.array([0.0, 0, 10, 10]), np.array([other], dtype=float)
    assert overlaps(boxes, box) == pytest.approx([expected], abs=1e-15)
    assert overlaps(box[None], boxes[0]) == pytest.approx([expected], abs=1e-15)


def test_no_boxes_and_empty_boxes() -> None:
    assert overlaps(np.zeros((0, 4)), np.array([0.0, 0, 1, 1])).shape == (0,)
    assert overlaps(np.zeros((1, 4)), np.zeros(4)).tolist() == [0.0]


def test_of_doubles_the_highest_score_stays() -> None:
    # The second overlaps the first by 0.9, the third by exactly 0.8, the fourth not at all.
    boxes = np.array([[0, 0, 10, 10], [0, 0, 9, 10], [0, 0, 8, 10], [50, 50, 60, 60]], dtype=float)
    assert suppress_doubles(boxes, np.array([0.9, 0.8, 0.7, 0.95]), 0.8).tolist() == [3, 0, 2]
    # The second is the best now. It overlaps the third by 8/9, and the first by 0.9.
    assert suppress_doubles(boxes, np.array([0.5, 0.8, 0.7, 0.1]), 0.8).tolist() == [1, 3]


def test_what_a_suppressed_box_overlaps_stays() -> None:
    # A chain: neighbours overlap by 9/11, ends by 8/12. The middle is gone before it could suppress the last.
    boxes = np.array([[0, 0, 10, 1], [1, 0, 11, 1], [2, 0, 12, 1]], dtype=float)
    assert suppress_doubles(boxes, np.array([0.9, 0.8, 0.7]), 0.8).tolist() == [0, 2]
    assert suppress_doubles(boxes, np.array([0.8, 0.9, 0.7]), 0.8).tolist() == [1]


def test_equal_scores_and_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], dtype=float)
    assert suppress_doubles(boxes, np.array([0.5, 0.5]), 0.8).tolist() == [0]
    assert suppress_doubles(np.zeros((0, 4)), np.zeros(0), 0.8).tolist() == []
