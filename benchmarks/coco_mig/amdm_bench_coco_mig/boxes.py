"""How far boxes overlap, and which of many detections of one thing stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each of N boxes with one.

    Args:
        boxes: (N, 4) left, top, right, bottom in any unit.
        box: (4,) in the same unit.

    Returns:
        (N,) in [0, 1]; 0 where both boxes are empty.
    """
    corner = np.maximum(boxes[:, :2], box[:2])
    opposite = np.minimum(boxes[:, 2:], box[2:])
    intersection = np.prod(np.maximum(opposite - corner, 0), axis=1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - intersection
    ratio = np.zeros(len(boxes))
    np.divide(intersection, union, out=ratio, where=union > 0)
    return ratio


def suppress_doubles(boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Choose boxes of which no two overlap by more than a threshold (non-maximum suppression).

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,) of boxes that overlap, the one with the highest score stays; of equal scores the first.
        threshold: intersection over union up to which both stay.

    Returns:
        Positions of the boxes that stay, the highest score first.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[overlaps(boxes[waiting], boxes[best]) <= threshold]
    return np.array(kept, dtype=np.intp)
