"""The world of coloured shapes: what a picture may contain, and seeded sampling of what it does contain.

Coordinates are normalised to [0, 1], boxes are `(left, top, right, bottom)`, y grows downwards. Everything is
held as arrays over pictures, so that rendering is vectorised and independent of the picture size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

PICTURE_SIZE = 64
"""Side of a picture in pixels, unless another is asked for."""

MAX_INSTANCES = 4

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "yellow": (245, 225, 30),
    "green": (30, 170, 50),
    "blue": (40, 60, 225),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "brown": (120, 70, 20),
    "purple": (140, 40, 170),
}
"""Colours of instances, RGB in 0..255."""

SHAPES = ("circle", "square", "triangle", "star")

PALETTES: dict[str, tuple[int, int, int]] = {
    "gray": (150, 150, 150),
    "pink": (255, 170, 190),
    "cyan": (110, 215, 220),
    "tan": (215, 185, 135),
}
"""Light tone of each background palette, RGB in 0..255."""

DARK_TONE = 0.72
"""The dark tone of a background is this multiple of its light tone."""

TEXTURES = ("plain", "stripes", "dots", "noise")
TEXTURE_CELLS = 8
"""Textures are built on a grid of this many cells a side (the grid of the latents at the usual sizes)."""

ACTIONS = ("bar", "ring", "arrow", "hull")
"""Interactions, each a coarse mark of its own place and extent that ties a subject to an object."""

MARK_COLOUR = (255, 0, 220)
"""Magenta, used by interaction marks and by nothing else."""

NO_ACTION = -1
"""Value of `Layouts.action`, `subject` and `object` where a picture has no interaction."""

COLOUR_NAMES = tuple(COLOURS)
PALETTE_NAMES = tuple(PALETTES)

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are for evaluation only: no training or tuning uses them."""

_INSTANCE_COUNT_PROBABILITIES = (0.35, 0.35, 0.20, 0.10)
_INTERACTION_PROBABILITY = 0.45
_OVERLAP_PROBABILITY = 0.12
_ALIGNED_PAIR_PROBABILITY = 0.6
_SIDE_RANGES = ((0.34, 0.56), (0.30, 0.46), (0.26, 0.40), (0.25, 0.38))
_MARGIN = 0.03
_GAP = 0.04
_INTERACTION_GAP = 0.12


@dataclass(frozen=True)
class Layouts:
    """What N pictures contain. Absent instances have `present` false and zeros elsewhere.

    Later instances are drawn over earlier ones, and all of them over the interaction mark.
    """

    boxes: NDArray[np.float64]
    """(N, MAX_INSTANCES, 4), normalised left, top, right, bottom."""
    present: NDArray[np.bool_]
    """(N, MAX_INSTANCES)."""
    shape: NDArray[np.int64]
    """(N, MAX_INSTANCES), index into `SHAPES`."""
    colour: NDArray[np.int64]
    """(N, MAX_INSTANCES), index into `COLOUR_NAMES`."""
    action: NDArray[np.int64]
    """(N,), index into `ACTIONS` or `NO_ACTION`."""
    subject: NDArray[np.int64]
    """(N,), instance the interaction starts from, or `NO_ACTION`."""
    object: NDArray[np.int64]
    """(N,), instance the interaction ends at, or `NO_ACTION`."""
    palette: NDArray[np.int64]
    """(N,), index into `PALETTE_NAMES`."""
    texture: NDArray[np.int64]
    """(N,), index into `TEXTURES`."""
    noise: NDArray[np.bool_]
    """(N, TEXTURE_CELLS, TEXTURE_CELLS), which cells are dark where the texture is noise."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.action)

    def __getitem__(self, index: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Layouts:
        """The pictures selected by a slice, an index array or a mask."""
        return Layouts(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def single(self, index: int) -> Layouts:
        """Picture `index` as a batch of one."""
        return self[np.array([index % len(self)])]

    def replace(self, **changes: NDArray) -> Layouts:
        """A copy in which the named arrays are exchanged."""
        return replace(self, **changes)

    def counts(self) -> NDArray[np.int64]:
        """(N,), number of instances, which is the level of the picture (1 to 4)."""
        return self.present.sum(axis=1)

    @staticmethod
    def concatenate(parts: list[Layouts]) -> Layouts:
        """All pictures of `parts`, in order."""
        return Layouts(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Layouts)}
        )

    def batches(self, size: int) -> Iterator[Layouts]:
        """Consecutive parts of at most `size` pictures."""
        for start in range(0, len(self), size):
            yield self[slice(start, start + size)]


def _overlaps(box: NDArray[np.float64], others: list[NDArray[np.float64]], gap: float) -> bool:
    return any(
        box[0] < other[2] + gap and other[0] < box[2] + gap and box[1] < other[3] + gap and other[1] < box[3] + gap
        for other in others
    )


def _mostly_visible(box: NDArray[np.float64], others: list[NDArray[np.float64]]) -> bool:
    """Whether overlaps with each other box stay below 30 % of the smaller of the two areas."""
    for other in others:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        if width > 0 and height > 0:
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            if width * height > 0.3 * min(areas):
                return False
    return True


def _box(rng: np.random.Generator, centre: NDArray[np.float64], sides: tuple[float, float]) -> NDArray[np.float64]:
    """A nearly square box around `centre`, moved inwards where it would leave the picture."""
    side = rng.uniform(*sides)
    half = side * rng.uniform(0.92, 1.0, size=2) / 2
    centre = np.clip(centre, half + _MARGIN, 1 - half - _MARGIN)
    return np.concatenate([centre - half, centre + half])


def _aligned_centres(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Centres in a clear arrangement: a row or column of two, or distinct quadrants."""
    if count == 2:
        along = np.array([0.26, 0.74])[rng.permutation(2)]
        centres = np.stack([along, np.full(2, 0.5) + rng.uniform(-0.08, 0.08)], axis=1)
        if rng.random() < 1 / 3:
            centres = centres[:, ::-1]
    else:
        corners = np.array([[0.26, 0.26], [0.74, 0.26], [0.26, 0.74], [0.74, 0.74]])
        centres = corners[rng.permutation(4)[:count]]
    return centres + rng.uniform(-0.04, 0.04, size=(count, 2))


def _sample_boxes(rng: np.random.Generator, count: int, overlapping: bool, gap: float) -> NDArray[np.float64]:
    """(count, 4) boxes by rejection; `overlapping` allows partial overlaps."""
    sides = _SIDE_RANGES[count - 1]
    aligned = count > 1 and not overlapping and rng.random() < _ALIGNED_PAIR_PROBABILITY
    while True:
        centres = _aligned_centres(rng, count) if aligned else rng.uniform(0.1, 0.9, size=(count, 2))
        boxes: list[NDArray[np.float64]] = []
        for centre in centres:
            for _ in range(12):
                box = _box(rng, centre, sides)
                if not _overlaps(box, boxes, gap) or (overlapping and _mostly_visible(box, boxes)):
                    boxes.append(box)
                    break
                if not aligned:
                    centre = rng.uniform(0.1, 0.9, size=2)
        if len(boxes) == count:
            return np.stack(boxes)


def _sample_pair(rng: np.random.Generator, boxes: NDArray[np.float64]) -> tuple[int, int] | None:
    """A subject and an object with enough room between them and no third instance in the way, or None."""
    pairs = [(i, j) for i in range(len(boxes)) for j in range(len(boxes)) if i != j]
    for index in rng.permutation(len(pairs)):
        first, second = pairs[index]
        if _overlaps(boxes[first], [boxes[second]], _INTERACTION_GAP):
            continue
        start, end = (boxes[k].reshape(2, 2).mean(axis=0) for k in (first, second))
        points = start + np.linspace(0, 1, 17)[:, None] * (end - start)
        others = [boxes[k] for k in range(len(boxes)) if k not in (first, second)]
        if not any(_overlaps(np.concatenate([point, point]), others, _GAP) for point in points):
            return first, second
    return None


def sample_layouts(count: int, seed: int) -> Layouts:
    """`count` random pictures. The same `seed` and `count` give the same pictures on every machine."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((count, MAX_INSTANCES, 4))
    present = np.zeros((count, MAX_INSTANCES), dtype=bool)
    pairs = np.full((count, 2), NO_ACTION)
    action = np.full(count, NO_ACTION)
    for index in range(count):
        number = int(rng.choice(MAX_INSTANCES, p=_INSTANCE_COUNT_PROBABILITIES)) + 1
        wants_action = number > 1 and rng.random() < _INTERACTION_PROBABILITY
        overlapping = number > 1 and not wants_action and rng.random() < _OVERLAP_PROBABILITY
        gap = _INTERACTION_GAP if wants_action and number == 2 else _GAP
        boxes[index, :number] = _sample_boxes(rng, number, overlapping, gap)
        present[index, :number] = True
        pair = _sample_pair(rng, boxes[index, :number]) if wants_action else None
        if pair is not None:
            pairs[index] = pair
            action[index] = rng.integers(len(ACTIONS))
    shape = rng.integers(len(SHAPES), size=present.shape) * present
    colour = rng.integers(len(COLOURS), size=present.shape) * present
    return Layouts(
        boxes=boxes,
        present=present,
        shape=shape,
        colour=colour,
        action=action,
        subject=pairs[:, 0],
        object=pairs[:, 1],
        palette=rng.integers(len(PALETTES), size=count),
        texture=rng.integers(len(TEXTURES), size=count),
        noise=rng.random((count, TEXTURE_CELLS, TEXTURE_CELLS)) < 0.5,
    )
