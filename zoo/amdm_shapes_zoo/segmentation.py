"""Reads pixels: nearest colour of the world's palette, connected regions of one colour, their shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amdm_shapes_zoo.renderer import LIGHT_TONES_START, MARK_CLASS, PIXEL_COLOURS, shape_masks

_SMALLEST_AREA = 0.008
_CHUNK = 64


def segment(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, height, width, 3) pictures in 0..255 to (N, height, width) pixel classes, by nearest RGB colour."""
    colours = PIXEL_COLOURS.astype(np.float32)
    classes = np.empty(pictures.shape[:3], dtype=np.uint8)
    for start in range(0, len(pictures), _CHUNK):
        pixels = pictures[start : start + _CHUNK].astype(np.float32)
        # |p - c|^2 without |p|^2, which is the same for every colour.
        distance = np.square(colours).sum(axis=-1) - 2 * pixels @ colours.T
        classes[start : start + _CHUNK] = distance.argmin(axis=-1)
    return classes


def is_instance(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the pixel classes are colours of instances."""
    return classes < LIGHT_TONES_START


def is_background(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the pixel classes are tones of backgrounds."""
    return (classes >= LIGHT_TONES_START) & (classes < MARK_CLASS)


def bounding_box(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Normalised box (4,) of the true pixels of a (height, width) mask; zeros where none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4)
    height, width = mask.shape
    return np.array([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])


def box_overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if (sides <= 0).any():
        return 0.0
    areas = [np.prod(box[2:] - box[:2]) for box in (first, second)]
    return float(np.prod(sides) / (sum(areas) - np.prod(sides)))


def mask_overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of masks over their last two axes."""
    intersection = (first & second).sum(axis=(-2, -1))
    return intersection / np.maximum((first | second).sum(axis=(-2, -1)), 1)


def best_shape(mask: NDArray[np.bool_], boxes: NDArray[np.float64], visible: NDArray[np.bool_] | None = None) -> int:
    """The shape whose mask in one of the candidate `boxes` (K, 4) is most like `mask` (size, size).

    `visible` (size, size) leaves out pixels where other things hide or imitate the instance.
    """
    templates = shape_masks(boxes, mask.shape[-1])
    if visible is not None:
        templates, mask = templates & visible, mask & visible
    return int(mask_overlap(templates, mask).max(axis=0).argmax())


@dataclass(frozen=True)
class Region:
    """A connected region of one instance colour."""

    colour: int
    """Index into `COLOUR_NAMES`."""
    shape: int
    """Index into `SHAPES`, the most similar one."""
    box: NDArray[np.float64]
    """Normalised bounding box."""
    area: int
    """Pixels."""


def _labels(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(height, width) labels that agree exactly within connected regions of one class."""
    height, width = classes.shape
    labels = np.arange(height * width).reshape(height, width)
    down, across = classes[1:] == classes[:-1], classes[:, 1:] == classes[:, :-1]
    while True:
        before = labels.copy()
        for start, stop in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            labels[start] = np.where(down, np.minimum(labels[start], labels[stop]), labels[start])
            labels[:, start] = np.where(across, np.minimum(labels[:, start], labels[:, stop]), labels[:, start])
        if (labels == before).all():
            return labels
        # Each label is itself a pixel: following it shortens long ways.
        labels = labels.ravel()[labels]


def find_regions(classes: NDArray[np.uint8]) -> list[Region]:
    """The instances seen in one segmented picture (height, width), largest first; specks are left out."""
    labels = np.where(is_instance(classes), _labels(classes), -1)
    names, areas = np.unique(labels[labels >= 0], return_counts=True)
    regions = []
    for name, area in zip(names, areas, strict=True):
        if area < _SMALLEST_AREA * classes.size:
            continue
        mask = labels == name
        box = bounding_box(mask)
        colour = int(classes.ravel()[name])
        regions.append(Region(colour, best_shape(mask, box[None]), box, int(area)))
    return sorted(regions, key=lambda region: -region.area)
