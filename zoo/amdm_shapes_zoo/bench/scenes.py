"""The scenes that are drawn: as many of each level, half of them with an interaction, each with a style reference."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from amdm_framework.errors import InputError, Problem
from amdm_framework.scene import Scene
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.scenes import scene_of
from amdm_shapes_zoo.world import HELD_OUT_SEED, MAX_INSTANCES, NO_ACTION, Layouts, sample_layouts

DEVELOPMENT_SEED = 500_000
"""Rules are compared and tuned on scenes of seeds from here on, so that held-out ones stay unseen."""

SEEDS_EACH = 1000
"""Every seed of the benchmark has this many seeds of scenes to itself."""

LARGEST_SEED = (HELD_OUT_SEED - DEVELOPMENT_SEED) // SEEDS_EACH - 2
"""Seeds up to this one keep development scenes apart from held-out ones, and from the sheets' just below those."""

_BLOCK = 250


@dataclass(frozen=True)
class BenchScenes:
    """N scenes.

    Attributes:
        layouts: what the pictures should show; their backgrounds are those of the references.
        references: other pictures, whose style is asked for.
        seeds: of the noise, one per picture, whatever batch it is drawn in.
    """

    layouts: Layouts
    references: Layouts
    seeds: tuple[int, ...]

    def scenes(self) -> list[Scene]:
        """The scenes, with rendered references."""
        pictures = [Image.fromarray(picture) for picture in render(self.references)]
        return [scene_of(self.layouts, index, picture) for index, picture in enumerate(pictures)]


def first_seed(seed: int, held_out: bool) -> int:
    """The first seed of scenes and noise that belongs to a seed of the benchmark.

    Raises:
        InputError: a seed that is too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError([Problem(f"found {seed}, expected 0 to {LARGEST_SEED}", "--seed")])
    return (HELD_OUT_SEED if held_out else DEVELOPMENT_SEED) + seed * SEEDS_EACH


def sample_bench_scenes(count: int, seed: int, held_out: bool) -> BenchScenes:
    """The first `count` scenes of a seed: levels in turn, every other round of levels with interactions."""
    first = first_seed(seed, held_out)
    kinds = [(i % MAX_INSTANCES + 1, i % MAX_INSTANCES > 0 and i // MAX_INSTANCES % 2 == 0) for i in range(count)]
    found: dict[tuple[int, bool], list[int]] = defaultdict(list)
    blocks: list[Layouts] = []
    while any(len(found[kind]) < kinds.count(kind) for kind in set(kinds)):
        block = sample_layouts(_BLOCK, first + len(blocks))
        for index, level in enumerate(block.counts()):
            found[int(level), bool(block.action[index] != NO_ACTION)].append(len(blocks) * _BLOCK + index)
        blocks.append(block)
    candidates = Layouts.concatenate(blocks)
    taken = {kind: iter(indices) for kind, indices in found.items()}
    chosen = np.array([next(taken[kind]) for kind in kinds])
    # A neighbour, of whatever kind, has a style that knows nothing of the scene.
    references = candidates[np.where(chosen > 0, chosen - 1, 1)]
    layouts = candidates[chosen].replace(palette=references.palette, texture=references.texture, noise=references.noise)
    return BenchScenes(layouts, references, tuple(range(first, first + count)))
