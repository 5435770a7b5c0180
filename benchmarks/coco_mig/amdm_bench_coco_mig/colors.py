"""The colour test: which part of a mask has a colour, in hue, saturation and value as OpenCV counts them.

Hue runs from 0 to 180, saturation and value from 0 to 255. Ranges as in the evaluation code of the benchmark's
repository, LeyRio/MIG_Bench; an older edition had others, so published scores are not all comparable to the point.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Bound = tuple[int, int, int]

COLOR_RANGES: Mapping[str, tuple[tuple[Bound, Bound], ...]] = {
    "red": (((0, 50, 70), (9, 255, 255)), ((159, 50, 70), (180, 255, 255))),
    "brown": (((6, 43, 35), (25, 255, 255)),),
    "yellow": (((25, 50, 70), (35, 255, 255)),),
    "green": (((36, 50, 70), (89, 255, 255)),),
    "blue": (((90, 50, 70), (128, 255, 255)),),
    "black": (((0, 0, 0), (180, 255, 30)),),
    "white": (((0, 0, 221), (180, 43, 255)),),
}
"""Lowest and highest hue, saturation and value of each colour, both inclusive. Red has two ranges."""


def color_fraction(picture: NDArray[np.uint8], mask: NDArray[np.bool_], color: str) -> float:
    """Return the part of a mask that has a colour.

    The published code paints what is outside the mask grey (127) first; that grey is in no range, so it is not done here.

    Args:
        picture: (H, W, 3) red, green, blue.
        mask: (H, W), not empty.
        color: a key of `COLOR_RANGES`.
    """
    values = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    found = np.zeros(mask.shape, dtype=bool)
    for lowest, highest in COLOR_RANGES[color]:
        found |= cv2.inRange(values, np.array(lowest), np.array(highest)) > 0
    return float(found[mask].mean())
