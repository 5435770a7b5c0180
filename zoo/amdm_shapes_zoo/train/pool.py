"""The pool of rendered pictures that all trainings draw from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amdm_shapes_zoo.renderer import PIXEL_COLOURS, render_classes
from amdm_shapes_zoo.world import PICTURE_SIZE, Layouts, sample_layouts

_CHUNK = 512


@dataclass(frozen=True)
class Pool:
    """Layouts and their pictures, kept as pixel classes (one byte a pixel)."""

    layouts: Layouts
    classes: NDArray[np.uint8]
    """(N, size, size)."""

    def pictures(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(indices), size, size, 3) RGB."""
        return PIXEL_COLOURS[self.classes[indices]]


def load_pool(count: int, seed: int, cache: Path) -> Pool:
    """The pool of `count` pictures for `seed`; rendered once, then read from the folder `cache`."""
    layouts = sample_layouts(count, seed)
    path = cache / f"pool_{seed}_{count}_{PICTURE_SIZE}.npy"
    if path.exists():
        return Pool(layouts, np.load(path))
    parts = tqdm(layouts.batches(_CHUNK), total=-(-count // _CHUNK), desc="rendering", mininterval=2)
    classes = np.concatenate([render_classes(part) for part in parts])
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, classes)
    return Pool(layouts, classes)
