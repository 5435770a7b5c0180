"""Every way in which an instance succeeds or fails, on pictures drawn by program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from coco_mig_cases import PAINTS, FakeDetector, FakeSegmenter, paint

from amdm_bench_coco_mig.judging import InstanceScore, judge_picture
from amdm_framework.batch.coco_mig import Segment

# 256 pixels wide and 128 high, at 64, 64.
CHAIR = Segment(label="a red chair", bbox=(0.125, 0.125, 0.625, 0.375))
EXACT = [64, 64, 320, 192, 0.9]


def judge(*boxes: list[float], segments: tuple[Segment, ...] = (CHAIR,), **given: Any) -> list[InstanceScore]:
    """Judge a picture in which all segments are painted; boxes are what the detector sees for `chair`."""
    picture = given.get("picture", paint(segments))
    return judge_picture(picture, segments, FakeDetector({"chair": boxes}), given.get("segmenter", FakeSegmenter()))


def test_right_place_and_right_colour() -> None:
    assert judge(EXACT) == [InstanceScore("a red chair", "success", 1.0, 1.0, 1.0)]


def test_nothing_is_detected() -> None:
    assert judge() == [InstanceScore("a red chair", "not_detected", 0.0, 0.0)]


def test_a_wrong_place_keeps_its_overlap_and_nobody_looks_at_the_colour() -> None:
    segmenter = FakeSegmenter()
    # Half the width less one pixel.
    scores = judge([64, 64, 191, 192, 0.9], segmenter=segmenter)
    assert scores == [InstanceScore("a red chair", "misplaced", 127 / 256, 127 / 256)]
    assert segmenter.boxes == []


def test_a_detection_that_does_not_touch_is_misplaced() -> None:
    assert judge([400, 400, 500, 500, 0.9]) == [InstanceScore("a red chair", "misplaced", 0.0, 0.0)]


def test_an_overlap_of_exactly_one_half_is_right() -> None:
    assert judge([64, 64, 192, 192, 0.9]) == [InstanceScore("a red chair", "success", 0.5, 0.5, 1.0)]


def test_the_best_of_several_detections_counts_whatever_its_score() -> None:
    (score,) = judge([64, 64, 192, 192, 0.99], [400, 400, 500, 500, 0.98], [64, 64, 320, 192, 0.3])
    assert (score.outcome, score.iou) == ("success", 1.0)


def test_a_double_of_a_surer_detection_is_dropped() -> None:
    # The exact box overlaps the surer one by 0.875, more than 0.8, and so does not count.
    (score,) = judge([64, 64, 288, 192, 0.9], [*EXACT[:4], 0.8])
    assert score.iou == 0.875
    # By 0.75 it stays.
    (score,) = judge([64, 64, 256, 192, 0.9], [*EXACT[:4], 0.8])
    assert score.iou == 1.0


def test_a_wrong_colour_counts_as_no_overlap() -> None:
    picture = paint([CHAIR], {CHAIR.label: PAINTS["blue"]})
    assert judge(EXACT, picture=picture) == [InstanceScore("a red chair", "wrong_color", 1.0, 0.0, 0.0)]


@pytest.mark.parametrize(("rows", "outcome", "iou"), [(2, "success", 1.0), (1, "wrong_color", 0.0)])
def test_a_fifth_of_the_mask_is_enough(rows: int, outcome: str, iou: float) -> None:
    # A mask of ten rows, some of which are red.
    mask = np.zeros((512, 512), dtype=bool)
    mask[64:74, 64:320] = True
    picture = paint([CHAIR], {CHAIR.label: PAINTS["green"]})
    picture[64 : 64 + rows] = PAINTS["red"]
    (score,) = judge(EXACT, picture=picture, segmenter=FakeSegmenter(mask))
    assert (score.outcome, score.iou, score.color_fraction) == (outcome, iou, rows / 10)


def test_an_empty_mask_counts_as_no_overlap() -> None:
    nothing = FakeSegmenter(np.zeros((512, 512), dtype=bool))
    assert judge(EXACT, segmenter=nothing) == [InstanceScore("a red chair", "empty_mask", 1.0, 0.0)]


@pytest.mark.parametrize("color", ["red", "brown"])
def test_where_red_and_brown_overlap_both_are_right(color: str) -> None:
    segment = Segment(label=f"a {color} chair", bbox=CHAIR.bbox)
    # Hue 8 of 180.
    picture = paint([segment], {segment.label: (200, 84, 43)})
    (score,) = judge(EXACT, segments=(segment,), picture=picture)
    assert (score.outcome, score.color_fraction) == ("success", 1.0)


def test_the_given_box_is_segmented_and_not_the_detected_one() -> None:
    segmenter = FakeSegmenter()
    judge([64, 64, 300, 192, 0.9], segmenter=segmenter)
    assert segmenter.boxes == [EXACT[:4]]


def test_the_detector_is_asked_for_the_object_without_its_colour_once_a_picture() -> None:
    boxes = (0.0, 0.0, 0.25, 0.25), (0.5, 0.5, 0.75, 0.75), (0.25, 0.5, 0.5, 0.75)
    labels = "a red dining table", "a blue dining table", "a white cup"
    segments = [Segment(label=label, bbox=box) for label, box in zip(labels, boxes, strict=True)]
    detector = FakeDetector({"dining table": [[0, 0, 128, 128, 0.5], [256, 256, 384, 384, 0.5]]})
    scores = judge_picture(paint(segments), segments, detector, FakeSegmenter())
    assert detector.asked == ["dining table", "cup"]
    assert [score.outcome for score in scores] == ["success", "success", "not_detected"]


def test_one_detection_may_serve_several_instances() -> None:
    segments = (CHAIR, Segment(label="a red chair", bbox=(0.125, 0.125, 0.6, 0.375)))
    scores = judge(EXACT, segments=segments)
    assert [score.outcome for score in scores] == ["success", "success"]
    assert scores[1].iou == pytest.approx(0.475 / 0.5)


@pytest.mark.parametrize("color", PAINTS)
def test_every_colour_is_told_from_every_other(color: str) -> None:
    segment = Segment(label=f"a {color} chair", bbox=CHAIR.bbox)
    for painted in PAINTS:
        picture = paint([segment], {segment.label: PAINTS[painted]})
        (score,) = judge(EXACT, segments=(segment,), picture=picture)
        assert score.outcome == ("success" if painted == color else "wrong_color")
