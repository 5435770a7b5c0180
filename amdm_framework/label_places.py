"""Where the labels of boxes stand in a picture: near their box, inside the picture, and not on one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""

Size = tuple[float, float]
"""Width and height, in pixels."""

_PASSES = 3
_ANGLES = 16
_DISTANCES = (1.5, 2.5, 4.0, 6.0, 9.0)


def overlap(one: Rectangle, other: Rectangle) -> float:
    """Return the area that two rectangles have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def place_labels(labels: Sequence[Size], boxes: Sequence[Rectangle], picture: Size, inside: bool) -> list[Rectangle]:
    """Find a place for the label of every box.

    Small boxes go first, since few places are theirs; then every label looks again for a better place among the others.

    Args:
        labels: sizes.
        boxes: one for each label.
        picture: which labels do not leave, unless one is larger than it.
        inside: whether a label stands inside its box where there is room; otherwise it stands above.

    Returns:
        A rectangle of the label's size for each.
    """
    places: dict[int, Rectangle] = {}
    order = sorted(range(len(boxes)), key=lambda number: _area(boxes[number]))
    for _ in range(_PASSES):
        for number in order:
            others = [place for other, place in places.items() if other != number]
            other_boxes = [box for other, box in enumerate(boxes) if other != number]
            box = boxes[number]
            candidates = list(_candidates(labels[number], box, picture))
            costs = [
                _cost(candidate, box, others, other_boxes, picture, inside) + 0.002 * rank
                for rank, candidate in enumerate(candidates)
            ]
            places[number] = candidates[costs.index(min(costs))]
    return [places[number] for number in range(len(boxes))]


def nearest_points(one: Rectangle, other: Rectangle) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the two points of two rectangles that lie next to each other; equal ones where the rectangles touch."""
    first, second = [], []
    for low, high in ((0, 2), (1, 3)):
        if one[high] < other[low]:
            ends = one[high], other[low]
        elif other[high] < one[low]:
            ends = one[low], other[high]
        else:
            middle = (max(one[low], other[low]) + min(one[high], other[high])) / 2
            ends = middle, middle
        first.append(ends[0])
        second.append(ends[1])
    return (first[0], first[1]), (second[0], second[1])


def _area(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _candidates(label: Size, box: Rectangle, picture: Size) -> Iterator[Rectangle]:
    width, height = label
    left, top, right, bottom = box
    at = [
        (left, top - height), (left, top), (right - width, top - height), (left, bottom), (right - width, bottom),
        (right - width, top), (left, bottom - height), (right - width, bottom - height),
        (right, top), (left - width, top), (right, bottom - height), (left - width, bottom - height),
        ((left + right - width) / 2, (top + bottom - height) / 2),
    ]  # fmt: skip
    for distance in _DISTANCES:
        for number in range(_ANGLES):
            angle = 2 * math.pi * number / _ANGLES
            across = (right - left + width) / 2 + (distance - 1) * height
            down = (bottom - top + height) / 2 + (distance - 1) * height
            x, y = (left + right) / 2 + across * math.cos(angle), (top + bottom) / 2 + down * math.sin(angle)
            at.append((x - width / 2, y - height / 2))
    for x, y in at:
        x = max(0.0, min(x, picture[0] - width))
        y = max(0.0, min(y, picture[1] - height))
        yield x, y, x + width, y + height


def _cost(
    place: Rectangle,
    box: Rectangle,
    labels: Sequence[Rectangle],
    boxes: Sequence[Rectangle],
    picture: Size,
    inside: bool,
) -> float:
    area = _area(place)
    # Another label below this one makes both unreadable.
    cost = 10 * sum(overlap(place, label) for label in labels) / area
    # A covered box cannot be seen; of a large one a label hides little.
    cost += 2 * sum(overlap(place, other) / _area(other) for other in (box, *boxes))
    if inside and overlap(place, box) > 0.999 * area:
        cost -= 1
    (x, y), (box_x, box_y) = nearest_points(place, box)
    # The line from a label to its box must not run below another label.
    on_the_way = [(x + share * (box_x - x), y + share * (box_y - y)) for share in (0.2, 0.4, 0.6, 0.8)]
    crossed = sum(left < x < right and top < y < bottom for x, y in on_the_way for left, top, right, bottom in labels)
    return cost + crossed + 0.3 * math.dist((x, y), (box_x, box_y)) / (place[3] - place[1])
