"""What judging needs of a detector and of a segmenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Where a detector saw a thing.

    Attributes:
        boxes: (N, 4) left, top, right, bottom in pixels.
        scores: (N,) how sure it is, in [0, 1].
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


class Detector(Protocol):
    """Finds things by their names."""

    def detect(self, picture: NDArray[np.uint8], name: str) -> Detections:
        """Return all places above the detector's own thresholds, which may overlap.

        Args:
            picture: (H, W, 3) red, green, blue.
            name: of the thing, such as `dining table`.
        """


class Segmenter(Protocol):
    """Finds the pixels of what is in a box."""

    def segment(self, picture: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the mask of what is in each of K boxes, as (K, H, W).

        Args:
            picture: (H, W, 3) red, green, blue.
            boxes: (K, 4) left, top, right, bottom in pixels; K is at least 1.
        """
