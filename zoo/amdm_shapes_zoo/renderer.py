"""Draws layouts: vectorised over pictures and instances, at any picture size, without anti-aliasing.

Every pixel has exactly one colour of a palette of 17, so that the judge can read a rendered picture back
without error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amdm_shapes_zoo.world import (
    ACTIONS,
    COLOURS,
    DARK_TONE,
    MARK_COLOUR,
    MAX_INSTANCES,
    NO_ACTION,
    PALETTES,
    PICTURE_SIZE,
    SHAPES,
    TEXTURE_CELLS,
    TEXTURES,
    Layouts,
)

LIGHT_TONES_START = len(COLOURS)
DARK_TONES_START = LIGHT_TONES_START + len(PALETTES)
MARK_CLASS = DARK_TONES_START + len(PALETTES)

PIXEL_COLOURS: NDArray[np.uint8] = np.array(
    [
        *COLOURS.values(),
        *PALETTES.values(),
        *[tuple(round(DARK_TONE * channel) for channel in tone) for tone in PALETTES.values()],
        MARK_COLOUR,
    ],
    dtype=np.uint8,
)
"""(17, 3) RGB of the pixel classes: instance colours, light background tones, dark ones, interaction mark."""

_RING_MARGIN = 0.07
_RING_THICKNESS = 0.065
_BAR_THICKNESS = 0.15
_HULL_MARGIN = 0.03
_ARROW_HALF_WIDTH = 0.15
_STAR_WAIST = 0.31


def pixel_centres(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normalised x of shape (1, size) and y of shape (size, 1) of the pixel centres."""
    centres = (np.arange(size) + 0.5) / size
    return centres[None, :], centres[:, None]


def shape_masks(boxes: NDArray[np.float64], size: int = PICTURE_SIZE) -> NDArray[np.bool_]:
    """Masks of all shapes in all boxes: (..., 4) normalised boxes to (..., number of shapes, size, size)."""
    x, y = pixel_centres(size)
    left, top, right, bottom = (boxes[..., k, None, None] for k in range(4))
    u = (2 * x - left - right) / np.maximum(right - left, 1e-9)
    v = (2 * y - top - bottom) / np.maximum(bottom - top, 1e-9)
    inside = (abs(u) <= 1) & (abs(v) <= 1)
    circle = u**2 + v**2 <= 1
    triangle = inside & (2 * abs(u) <= v + 1)
    # A star with four points: straight edges from each point to the waist on the diagonal.
    long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    star = long + short * (1 / _STAR_WAIST - 1) <= 1
    masks = {"circle": circle, "square": inside, "triangle": triangle, "star": star}
    return np.stack([masks[name] for name in SHAPES], axis=-3)


def _segment_coordinates(
    start: NDArray[np.float64], end: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Position of each pixel along the segment, its distance beside the line, and the segment's length."""
    x, y = pixel_centres(size)
    delta = end - start
    length = np.maximum(np.linalg.norm(delta, axis=-1), 1e-9)[..., None, None]
    direction = delta[..., None, None, :] / length[..., None]
    along = (x - start[..., 0, None, None]) * direction[..., 0] + (y - start[..., 1, None, None]) * direction[..., 1]
    beside = (y - start[..., 1, None, None]) * direction[..., 0] - (x - start[..., 0, None, None]) * direction[..., 1]
    return along, beside, length


def _exit_distance(box: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the centre of a box to its border in a direction: (..., 4), (..., 2) to (...)."""
    half = (box[..., 2:] - box[..., :2]) / 2
    return (half / np.maximum(abs(direction), 1e-9)).min(axis=-1)


def action_masks(
    subject: NDArray[np.float64], object_: NDArray[np.float64], size: int = PICTURE_SIZE
) -> NDArray[np.bool_]:
    """Masks of all interaction marks, before instances cover them.

    Args:
        subject: (..., 4) normalised boxes of the subjects.
        object_: (..., 4) normalised boxes of the objects.
        size: side of the picture in pixels.

    Returns:
        (..., number of actions, size, size).
    """
    x, y = pixel_centres(size)
    start = (subject[..., :2] + subject[..., 2:]) / 2
    end = (object_[..., :2] + object_[..., 2:]) / 2
    along, beside, length = _segment_coordinates(start, end, size)
    bar = (along >= 0) & (along <= length) & (abs(beside) <= _BAR_THICKNESS / 2)

    low = np.minimum(subject[..., :2], object_[..., :2])[..., None, None, :]
    high = np.maximum(subject[..., 2:], object_[..., 2:])[..., None, None, :]
    points = np.stack(np.broadcast_arrays(x, y), axis=-1)
    centre, half = (low + high) / 2, (high - low) / 2
    outer = (abs(points - centre) <= half + _RING_MARGIN).all(axis=-1)
    inner = (abs(points - centre) <= half + _RING_MARGIN - _RING_THICKNESS).all(axis=-1)
    # The ring stays visible where it would leave the picture: it is drawn along the border there.
    border = (np.minimum(points, 1 - points) <= _RING_THICKNESS / 2).any(axis=-1)
    ring = outer & (~inner | border)

    direction = (end - start) / length[..., 0]
    near_subject = _exit_distance(subject, direction)[..., None, None]
    near_object = length - _exit_distance(object_, direction)[..., None, None]
    reach = np.clip((near_object - along) / np.maximum(near_object - near_subject, 1e-9), 0, None)
    arrow = (along >= near_subject) & (along <= near_object) & (abs(beside) <= _ARROW_HALF_WIDTH * reach)

    hull = _hull_masks(subject, object_, size)
    return np.stack([{"bar": bar, "ring": ring, "arrow": arrow, "hull": hull}[name] for name in ACTIONS], axis=-3)


def _hull_masks(first: NDArray[np.float64], second: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """The convex hull of two boxes, slightly enlarged: the union of all boxes between them.

    A pixel belongs to it if one t in [0, 1] puts it inside the box (1 - t) first + t second. Each of the four
    sides of that box limits t from one side, so the limits have to leave an interval.
    """
    x, y = pixel_centres(size)
    lowest, highest = np.zeros((1, 1)), np.ones((1, 1))
    impossible = np.zeros((1, 1), dtype=bool)
    for side, sign in ((0, 1), (1, 1), (2, -1), (3, -1)):
        # sign * (side at t) <= sign * coordinate + margin, that is slope * t <= room.
        coordinate = x if side % 2 == 0 else y
        start = sign * first[..., side, None, None]
        slope = sign * second[..., side, None, None] - start
        room = sign * coordinate + _HULL_MARGIN - start
        flat = abs(slope) < 1e-9
        limit = room / np.where(flat, 1, slope)
        highest = np.where(~flat & (slope > 0), np.minimum(highest, limit), highest)
        lowest = np.where(~flat & (slope < 0), np.maximum(lowest, limit), lowest)
        impossible = impossible | (flat & (room < 0))
    return (lowest <= highest) & ~impossible


def visible_masks(layouts: Layouts, size: int = PICTURE_SIZE) -> NDArray[np.bool_]:
    """(N, MAX_INSTANCES, size, size): the pixels of each instance that no later instance covers."""
    masks = np.zeros((len(layouts), MAX_INSTANCES, size, size), dtype=bool)
    covered = np.zeros((len(layouts), size, size), dtype=bool)
    pictures = np.arange(len(layouts))
    for instance in reversed(range(MAX_INSTANCES)):
        shapes = shape_masks(layouts.boxes[:, instance], size)[pictures, layouts.shape[:, instance]]
        shapes &= layouts.present[:, instance, None, None]
        masks[:, instance] = shapes & ~covered
        covered |= shapes
    return masks


def texture_masks(layouts: Layouts, size: int = PICTURE_SIZE) -> NDArray[np.bool_]:
    """(N, size, size): where the background has its dark tone."""
    x, y = pixel_centres(size)
    column = np.minimum((x * TEXTURE_CELLS).astype(int), TEXTURE_CELLS - 1)
    row = np.minimum((y * TEXTURE_CELLS).astype(int), TEXTURE_CELLS - 1)
    # Fractions of two cells: a dot fills most of every fourth cell.
    u, v = (x * TEXTURE_CELLS) % 2 - 1.5, (y * TEXTURE_CELLS) % 2 - 1.5
    fixed = {
        "plain": np.zeros((size, size), dtype=bool),
        "stripes": np.broadcast_to(row % 2 == 1, (size, size)),
        "dots": u**2 + v**2 <= 0.55**2,
        "noise": np.zeros((size, size), dtype=bool),
    }
    dark = np.stack([fixed[name] for name in TEXTURES])[layouts.texture]
    noise = layouts.noise[:, row, column] & (layouts.texture == TEXTURES.index("noise"))[:, None, None]
    return dark | noise


def render_classes(layouts: Layouts, size: int = PICTURE_SIZE) -> NDArray[np.uint8]:
    """(N, size, size): the pixel class of each pixel, an index into `PIXEL_COLOURS`."""
    pictures = np.arange(len(layouts))
    dark = texture_masks(layouts, size)
    classes = np.where(dark, DARK_TONES_START, LIGHT_TONES_START) + layouts.palette[:, None, None]
    with_mark = np.flatnonzero(layouts.action != NO_ACTION)
    if len(with_mark):
        subjects = layouts.boxes[with_mark, layouts.subject[with_mark]]
        objects = layouts.boxes[with_mark, layouts.object[with_mark]]
        marks = action_masks(subjects, objects, size)[np.arange(len(with_mark)), layouts.action[with_mark]]
        classes[with_mark] = np.where(marks, MARK_CLASS, classes[with_mark])
    visible = visible_masks(layouts, size)
    for instance in range(MAX_INSTANCES):
        colour = layouts.colour[pictures, instance, None, None]
        classes = np.where(visible[:, instance], colour, classes)
    return classes.astype(np.uint8)


def render(layouts: Layouts, size: int = PICTURE_SIZE) -> NDArray[np.uint8]:
    """(N, size, size, 3): RGB pictures in 0..255."""
    return PIXEL_COLOURS[render_classes(layouts, size)]
