"""Whether each instance of a picture is where it should be, in the colour it should have.

The steps and their order are those of the evaluation code of the benchmark's repository, LeyRio/MIG_Bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amdm_bench_coco_mig.boxes import overlaps, suppress_doubles
from amdm_bench_coco_mig.colors import color_fraction
from amdm_bench_coco_mig.interfaces import Detector, Segmenter
from amdm_framework.batch.coco_mig import Segment

DOUBLE_OVERLAP = 0.8
"""Detections that overlap by more are one."""

POSITION_OVERLAP = 0.5
"""How far a detection must overlap an instance's box at least."""

COLOR_FRACTION = 0.2
"""Which part of an instance must have its colour at least."""

Outcome = Literal["success", "not_detected", "misplaced", "empty_mask", "wrong_color"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class InstanceScore:
    """What became of one instance.

    Attributes:
        label: of the instance.
        outcome: `success`, or the step at which it failed.
        detected_iou: intersection over union of its box and the best detection, 0 without any.
        iou: what counts for the mean: `detected_iou`, but 0 where place is right and colour wrong.
        color_fraction: part of its mask in its colour, None where that was not looked at.
    """

    label: str
    outcome: Outcome
    detected_iou: float
    iou: float
    color_fraction: float | None = None


def judge_picture(
    picture: NDArray[np.uint8], instances: Sequence[Segment], detector: Detector, segmenter: Segmenter
) -> list[InstanceScore]:
    """Judge every instance of a picture, each on its own: one detection may serve several.

    1. The detector looks for the object's name, without its colour; doubles are dropped.
    2. The best overlap with the instance's box is below 0.5: failed, this overlap counts.
    3. The segmenter masks what is in the instance's box (not in the detected one).
    4. The mask is empty, or less than 0.2 of it has the colour: failed, an overlap of 0 counts.

    Args:
        picture: (H, W, 3) red, green, blue.
        instances: what the picture should show.
        detector: finds things.
        segmenter: finds their pixels.
    """
    height, width = picture.shape[:2]
    boxes = np.array([instance.bbox for instance in instances]) * [width, height, width, height]
    found = {thing: _detect(picture, thing, detector) for thing in dict.fromkeys(one.thing for one in instances)}
    best = [
        float(overlaps(found[instance.thing], box).max(initial=0.0))
        for instance, box in zip(instances, boxes, strict=True)
    ]
    placed = [position for position, iou in enumerate(best) if iou >= POSITION_OVERLAP]
    masks = dict(zip(placed, segmenter.segment(picture, boxes[placed]), strict=True)) if placed else {}
    scores = []
    for position, (instance, iou) in enumerate(zip(instances, best, strict=True)):
        if not len(found[instance.thing]):
            scores.append(InstanceScore(instance.label, "not_detected", 0.0, 0.0))
        elif position not in masks:
            scores.append(InstanceScore(instance.label, "misplaced", iou, iou))
        elif not masks[position].any():
            scores.append(InstanceScore(instance.label, "empty_mask", iou, 0.0))
        else:
            fraction = color_fraction(picture, masks[position], instance.color)
            right = fraction >= COLOR_FRACTION
            outcome: Outcome = "success" if right else "wrong_color"
            scores.append(InstanceScore(instance.label, outcome, iou, iou if right else 0.0, fraction))
    return scores


def _detect(picture: NDArray[np.uint8], thing: str, detector: Detector) -> NDArray[np.float64]:
    detections = detector.detect(picture, thing)
    return detections.boxes[suppress_doubles(detections.boxes, detections.scores, DOUBLE_OVERLAP)]
