"""Scores pictures against the layouts they should show: exact on rendered pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amdm_shapes_zoo.renderer import (
    DARK_TONES_START,
    LIGHT_TONES_START,
    MARK_CLASS,
    action_masks,
    pixel_centres,
    texture_masks,
)
from amdm_shapes_zoo.segmentation import (
    best_shape,
    bounding_box,
    box_overlap,
    is_background,
    is_instance,
    mask_overlap,
    segment,
)
from amdm_shapes_zoo.world import (
    COLOURS,
    MAX_INSTANCES,
    NO_ACTION,
    PALETTES,
    TEXTURES,
    Layouts,
    sample_layouts,
)

_SMALLEST_SHARE = 0.08
_SEARCH_MARGIN = 0.08
_FREE_SHARE = 0.2
_LEAST_MARK = 0.3
_LEAST_TEXTURE = 0.85


@dataclass(frozen=True)
class Verdict:
    """What the judge read from N pictures at the places where the layouts expect something; -1 is nothing."""

    colour: NDArray[np.int64]
    """(N, MAX_INSTANCES), dominant instance colour inside each box."""
    shape: NDArray[np.int64]
    """(N, MAX_INSTANCES), best matching shape of the pixels of that colour."""
    overlap: NDArray[np.float64]
    """(N, MAX_INSTANCES), intersection over union of the box of those pixels with the layout's box."""
    action: NDArray[np.int64]
    """(N,), interaction between the layout's subject and object."""
    palette: NDArray[np.int64]
    """(N,)."""
    texture: NDArray[np.int64]
    """(N,)."""


@dataclass(frozen=True)
class Scores:
    """Success of each part, to be averaged; not a number where the layout asks for nothing."""

    colour: NDArray[np.float64]
    """(N, MAX_INSTANCES), 1 where the colour is right."""
    shape: NDArray[np.float64]
    """(N, MAX_INSTANCES), 1 where the shape is right."""
    overlap: NDArray[np.float64]
    """(N, MAX_INSTANCES), intersection over union of the boxes, whatever the colour."""
    action: NDArray[np.float64]
    """(N,), 1 where the interaction is the right one."""
    style: NDArray[np.float64]
    """(N,), 1 where palette and texture of the background are right."""

    def means(self) -> dict[str, float]:
        """Mean of each part over everything asked for."""
        return {
            name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
            for name, values in vars(self).items()
        }


def box_masks(boxes: NDArray[np.float64], size: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """(..., size, size) masks of normalised boxes (..., 4), enlarged by `margin` on every side."""
    x, y = pixel_centres(size)
    left, top, right, bottom = (boxes[..., k, None, None] for k in range(4))
    return (x >= left - margin) & (x <= right + margin) & (y >= top - margin) & (y <= bottom + margin)


def read_instances(
    classes: NDArray[np.uint8], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(K,) colours, shapes and box overlaps of one segmented picture (size, size) at K `boxes` (K, 4)."""
    size, count = classes.shape[-1], len(boxes)
    inside, around = box_masks(boxes, size), box_masks(boxes, size, _SEARCH_MARGIN)
    colours, shapes, overlaps = np.full(count, -1), np.full(count, -1), np.zeros(count)
    for k in range(count):
        others = np.delete(inside, k, axis=0).any(axis=0)
        free = inside[k] & ~others
        # Where others hide nearly everything, all pixels of the box have to do.
        clear = ~others if free.sum() >= _FREE_SHARE * inside[k].sum() else np.ones_like(others)
        seen = inside[k] & clear
        votes = np.bincount(classes[seen & is_instance(classes)], minlength=len(COLOURS))
        if votes.max() < _SMALLEST_SHARE * max(seen.sum(), 1):
            continue
        colours[k] = votes.argmax()
        mask = (classes == colours[k]) & around[k] & clear
        # What lies under a neighbour's box still belongs to the instance where it has the instance's colour.
        whole = bounding_box((classes == colours[k]) & (inside[k] | mask))
        shapes[k] = best_shape(mask, np.stack([boxes[k], bounding_box(mask)]), clear)
        overlaps[k] = box_overlap(whole, boxes[k])
    return colours, shapes, overlaps


def read_actions(
    classes: NDArray[np.uint8], subjects: NDArray[np.float64], objects: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(N,) interactions in segmented pictures (N, size, size) between boxes (N, 4)."""
    templates = action_masks(subjects, objects, classes.shape[-1]) & ~is_instance(classes)[:, None]
    likeness = mask_overlap(templates, (classes == MARK_CLASS)[:, None])
    return np.where(likeness.max(axis=1) >= _LEAST_MARK, likeness.argmax(axis=1), NO_ACTION)


def read_backgrounds(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) palettes and textures of segmented pictures (N, size, size); -1 where no background is seen."""
    size, palettes = classes.shape[-1], len(PALETTES)
    background = is_background(classes)
    tone = (classes.astype(int) - LIGHT_TONES_START) % palettes
    votes = np.stack([(background & (tone == k)).sum(axis=(1, 2)) for k in range(palettes)], axis=1)
    palette = votes.argmax(axis=1)
    own = background & (tone == palette[:, None, None])
    dark = classes >= DARK_TONES_START
    # Noise differs from picture to picture: it is what fits none of the fixed textures.
    fixed = [k for k, name in enumerate(TEXTURES) if name != "noise"]
    one_of_each = sample_layouts(1, 0)[np.zeros(len(fixed), dtype=int)].replace(texture=np.array(fixed))
    patterns = texture_masks(one_of_each, size)
    agreement = np.stack(
        [((dark == pattern) & own).sum(axis=(1, 2)) / np.maximum(own.sum(axis=(1, 2)), 1) for pattern in patterns],
        axis=1,
    )
    texture = np.where(
        agreement.max(axis=1) >= _LEAST_TEXTURE,
        np.array(fixed)[agreement.argmax(axis=1)],
        TEXTURES.index("noise"),
    )
    seen = votes.max(axis=1) > 0
    return np.where(seen, palette, -1), np.where(seen, texture, -1)


def read_pictures(pictures: NDArray[np.uint8], layouts: Layouts) -> Verdict:
    """Reads pictures (N, size, size, 3) in 0..255 at the boxes of their layouts."""
    classes = segment(pictures)
    shape = (len(layouts), MAX_INSTANCES)
    colour, shapes, overlap = np.full(shape, -1), np.full(shape, -1), np.zeros(shape)
    for index, count in enumerate(layouts.counts()):
        read = read_instances(classes[index], layouts.boxes[index, :count])
        colour[index, :count], shapes[index, :count], overlap[index, :count] = read
    action = np.full(len(layouts), NO_ACTION)
    asked = np.flatnonzero(layouts.action != NO_ACTION)
    if len(asked):
        subjects = layouts.boxes[asked, layouts.subject[asked]]
        objects = layouts.boxes[asked, layouts.object[asked]]
        action[asked] = read_actions(classes[asked], subjects, objects)
    return Verdict(colour, shapes, overlap, action, *read_backgrounds(classes))


def score(verdict: Verdict, layouts: Layouts) -> Scores:
    """Compares what was read with what the layouts ask for."""
    present, asked = layouts.present, layouts.action != NO_ACTION
    return Scores(
        colour=np.where(present, verdict.colour == layouts.colour, np.nan),
        shape=np.where(present, verdict.shape == layouts.shape, np.nan),
        overlap=np.where(present, verdict.overlap, np.nan),
        action=np.where(asked, verdict.action == layouts.action, np.nan),
        style=((verdict.palette == layouts.palette) & (verdict.texture == layouts.texture)).astype(float),
    )


def judge(pictures: NDArray[np.uint8], layouts: Layouts) -> Scores:
    """Scores pictures (N, size, size, 3) in 0..255 against their layouts."""
    return score(read_pictures(pictures, layouts), layouts)
