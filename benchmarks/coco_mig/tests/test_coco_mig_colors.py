"""The colour test against the documented table, on pixels whose hue Python's own `colorsys` says."""

from __future__ import annotations

import colorsys
import itertools

import cv2
import numpy as np
import pytest
from coco_mig_cases import GREY, PAINTS

from amdm_bench_coco_mig.colors import COLOR_RANGES, color_fraction

STEPS = range(0, 256, 15)
CUBE = np.array([list(itertools.product(STEPS, STEPS, STEPS))], np.uint8)
"""18 values of red, green and blue each, black and white among them: (1, 5832, 3)."""


def names_of(pixel: tuple[int, int, int]) -> set[str]:
    """The colours that a picture of one pixel has."""
    picture, mask = np.array([[pixel]], np.uint8), np.ones((1, 1), dtype=bool)
    return {color for color in COLOR_RANGES if color_fraction(picture, mask, color) == 1}


def pixel_of(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    """A pixel with exactly these values in OpenCV's convention, found among its neighbours."""
    close = np.array(colorsys.hsv_to_rgb(hue / 180, saturation / 255, value / 255)) * 255
    around = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3))) + close.round()
    candidates = np.clip(around, 0, 255).astype(np.uint8)[None]
    values = cv2.cvtColor(candidates, cv2.COLOR_RGB2HSV)[0]
    exact = np.flatnonzero((values == (hue, saturation, value)).all(axis=1))
    assert len(exact), (hue, saturation, value)
    return tuple(candidates[0, exact[0]].tolist())


def test_hue_saturation_and_value_are_those_of_the_textbook() -> None:
    values = cv2.cvtColor(CUBE, cv2.COLOR_RGB2HSV)[0].astype(float)
    expected = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in CUBE[0]]) * (180, 255, 255)
    distance = np.abs(values - expected)
    distance[:, 0] = np.minimum(distance[:, 0], 180 - distance[:, 0])
    # Rounded; OpenCV divides in fixed point.
    assert distance.max() <= 0.6


@pytest.mark.parametrize("color", PAINTS)
def test_a_plain_colour_is_itself_alone(color: str) -> None:
    assert names_of(PAINTS[color]) == {color}


def test_the_grey_of_the_background_is_no_colour() -> None:
    assert names_of(GREY) == set()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((5, 200, 200), {"red"}),
        ((6, 200, 200), {"red", "brown"}),
        ((9, 200, 200), {"red", "brown"}),
        ((10, 200, 200), {"brown"}),
        ((24, 200, 200), {"brown"}),
        ((25, 200, 200), {"brown", "yellow"}),
        ((26, 200, 200), {"yellow"}),
        ((35, 200, 200), {"yellow"}),
        ((36, 200, 200), {"green"}),
        ((89, 200, 200), {"green"}),
        ((90, 200, 200), {"blue"}),
        ((128, 200, 200), {"blue"}),
        ((129, 200, 200), set()),
        ((158, 200, 200), set()),
        ((159, 200, 200), {"red"}),
        ((0, 50, 255), {"red"}),
        ((0, 49, 255), set()),
        ((0, 200, 70), {"red"}),
        ((0, 200, 69), set()),
        ((12, 43, 100), {"brown"}),
        ((12, 42, 200), set()),
        ((12, 255, 35), {"brown"}),
        ((12, 255, 34), set()),
        ((0, 0, 30), {"black"}),
        ((0, 0, 31), set()),
        ((0, 0, 220), set()),
        ((0, 0, 221), {"white"}),
        ((60, 43, 240), {"white"}),
        ((60, 44, 240), set()),
    ],
)
def test_bounds_are_inclusive(values: tuple[int, int, int], names: set[str]) -> None:
    assert names_of(pixel_of(*values)) == names


def test_only_the_mask_counts() -> None:
    picture = np.full((10, 10, 3), PAINTS["blue"], np.uint8)
    picture[:, :2] = PAINTS["green"]
    mask = np.zeros((10, 10), dtype=bool)
    mask[:5, :4] = True
    assert color_fraction(picture, mask, "green") == 0.5
    assert color_fraction(picture, ~mask, "green") == pytest.approx(10 / 80)
    assert color_fraction(picture, mask, "red") == 0


def test_painting_the_background_grey_first_changes_nothing() -> None:
    # As the published code does it, written out.
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    mask = generator.random((40, 40)) < 0.3
    painted = np.where(mask[..., None], picture, np.uint8(127))
    values = cv2.cvtColor(painted, cv2.COLOR_RGB2HSV).astype(int)
    for color, ranges in COLOR_RANGES.items():
        inside = [((values >= low) & (values <= high)).all(axis=2) for low, high in ranges]
        assert color_fraction(picture, mask, color) == np.any(inside, axis=0).sum() / mask.sum()
