"""Finds a picture inside a larger one, pixel by pixel."""

from __future__ import annotations

import numpy as np
from PIL import Image


def places_of(picture: Image.Image, page: Image.Image, enlarged: int) -> list[tuple[int, int]]:
    """Return every (left, top) at which a page shows a picture enlarged by a whole number."""
    wanted = np.asarray(picture.convert("RGB")).repeat(enlarged, 0).repeat(enlarged, 1)
    shown = np.asarray(page.convert("RGB"))
    height, width = wanted.shape[:2]
    if height > shown.shape[0] or width > shown.shape[1]:
        return []
    # Few places have the right pixels in their corners; all others need no further look.
    candidates = np.ones((shown.shape[0] - height + 1, shown.shape[1] - width + 1), bool)
    for row in (0, height // 2, height - 1):
        for column in (0, width // 2, width - 1):
            part = shown[row : row + candidates.shape[0], column : column + candidates.shape[1]]
            candidates &= (part == wanted[row, column]).all(-1)
    return [
        (int(left), int(top))
        for top, left in np.argwhere(candidates)
        if np.array_equal(shown[top : top + height, left : left + width], wanted)
    ]
