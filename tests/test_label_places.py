"""Where labels stand: near their boxes, inside the picture, and not on one another."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from amdm_framework.label_places import Rectangle, nearest_points, overlap, place_labels

PICTURE = (500.0, 400.0)


def inside_picture(place: Rectangle) -> bool:
    return place[0] >= 0 and place[1] >= 0 and place[2] <= PICTURE[0] and place[3] <= PICTURE[1]


@pytest.mark.parametrize(
    ("one", "other", "area"),
    [
        ((0, 0, 10, 10), (5, 6, 20, 20), 20),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (2, 3, 4, 5), 4),
        ((0, 0, 1, 1), (5, 5, 6, 6), 0),
    ],
)
def test_overlap(one: Rectangle, other: Rectangle, area: float) -> None:
    assert overlap(one, other) == overlap(other, one) == area


def test_nearest_points() -> None:
    assert nearest_points((0, 0, 10, 10), (20, 40, 30, 50)) == ((10, 10), (20, 40))
    assert nearest_points((20, 0, 30, 10), (0, 5, 10, 10)) == ((20, 7.5), (10, 7.5))
    first, second = nearest_points((0, 0, 10, 10), (5, 5, 15, 15))
    assert first == second


def test_a_label_stands_inside_its_box_or_above_it() -> None:
    box = (100.0, 100.0, 300.0, 300.0)
    assert place_labels([(80, 20)], [box], PICTURE, inside=True) == [(100, 100, 180, 120)]
    assert place_labels([(80, 20)], [box], PICTURE, inside=False) == [(100, 80, 180, 100)]
    # There is no room above, nor inside.
    assert place_labels([(80, 20)], [(100.0, 0.0, 130.0, 30.0)], PICTURE, inside=True) == [(100, 30, 180, 50)]


def test_a_label_does_not_cover_a_small_box_beside_its_own() -> None:
    large, small = (100.0, 100.0, 300.0, 300.0), (110.0, 85.0, 120.0, 95.0)
    places = place_labels([(80, 20), (40, 20)], [large, small], PICTURE, inside=False)
    assert all(overlap(place, small) == 0 for place in places) and overlap(*places) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("inside", [True, False])
def test_labels_of_many_boxes_are_apart_near_and_in_the_picture(seed: int, inside: bool) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 0.8, (15, 2)) * PICTURE
    boxes = [(float(x), float(y), float(x + w), float(y + h)) for (x, y), (w, h) in
             zip(corners, random.uniform(8, 80, (15, 2)), strict=True)]  # fmt: skip
    labels = [(float(width), 18.0) for width in random.uniform(30, 120, 15)]
    places = place_labels(labels, boxes, PICTURE, inside)
    assert all(overlap(one, other) == 0 for one, other in itertools.combinations(places, 2))
    for place, box, (width, height) in zip(places, boxes, labels, strict=True):
        assert inside_picture(place)
        assert (place[2] - place[0], place[3] - place[1]) == pytest.approx((width, height))
        assert math.dist(*nearest_points(place, box)) < 6 * height


def test_a_label_larger_than_the_picture_begins_in_it() -> None:
    assert place_labels([(900, 20)], [(10.0, 50.0, 60.0, 90.0)], PICTURE, inside=False)[0][0] == 0
