"""The scenes of the benchmark: balanced, unseen by training, and the same whatever surrounds them."""

import numpy as np
import pytest

from amdm_framework.errors import InputError
from amdm_shapes_zoo.bench.scenes import LARGEST_SEED, sample_bench_scenes
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.train.__main__ import DATA_SEED
from amdm_shapes_zoo.world import HELD_OUT_SEED, NO_ACTION, Layouts, sample_layouts


def boxes_of(layouts: Layouts) -> set[bytes]:
    """Boxes are drawn from a continuum: pictures that share them are the same."""
    return {boxes.tobytes() for boxes in layouts.boxes}


def test_levels_are_equal_and_half_of_the_upper_ones_have_an_interaction() -> None:
    layouts = sample_bench_scenes(48, seed=0, held_out=False).layouts
    levels, acts = layouts.counts(), layouts.action != NO_ACTION
    assert np.bincount(levels).tolist() == [0, 12, 12, 12, 12]
    assert [int(acts[levels == level].sum()) for level in (1, 2, 3, 4)] == [0, 6, 6, 6]


def test_no_scene_is_seen_in_training_and_held_out_ones_are_apart() -> None:
    development = sample_bench_scenes(40, seed=0, held_out=False)
    held_out = sample_bench_scenes(40, seed=0, held_out=True)
    training = boxes_of(sample_layouts(5000, DATA_SEED))
    parts = [boxes_of(development.layouts), boxes_of(held_out.layouts), training]
    assert [len(part) for part in parts] == [40, 40, 5000]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert min(held_out.seeds) >= HELD_OUT_SEED
    last = sample_bench_scenes(4, seed=LARGEST_SEED, held_out=False)
    assert min(development.seeds) > DATA_SEED and max(last.seeds) + 1000 < HELD_OUT_SEED
    with pytest.raises(InputError, match="--seed"):
        sample_bench_scenes(4, LARGEST_SEED + 1, held_out=False)


def test_fewer_scenes_are_the_first_of_more() -> None:
    few, more = (sample_bench_scenes(count, seed=3, held_out=False) for count in (8, 200))
    for part, whole in ((few.layouts, more.layouts), (few.references, more.references)):
        assert np.array_equal(render(part), render(whole[slice(0, 8)]))
    assert few.seeds == more.seeds[:8]
    other = sample_bench_scenes(8, seed=4, held_out=False)
    assert not boxes_of(few.layouts) & boxes_of(other.layouts)
    assert not set(more.seeds) & set(other.seeds)


def test_style_is_that_of_the_reference_which_is_another_scene() -> None:
    bench = sample_bench_scenes(80, seed=0, held_out=False)
    assert np.array_equal(bench.layouts.palette, bench.references.palette)
    assert np.array_equal(bench.layouts.texture, bench.references.texture)
    assert all((one != other).any() for one, other in zip(bench.layouts.boxes, bench.references.boxes, strict=True))
    assert len(set(zip(bench.layouts.palette.tolist(), bench.layouts.texture.tolist(), strict=True))) >= 14
    scene = bench.scenes()[5]
    assert [reference.role for reference in scene.references] == ["style"]
    assert np.array_equal(np.asarray(scene.references[0].open()), render(bench.references)[5])
    assert "background" not in scene.caption
