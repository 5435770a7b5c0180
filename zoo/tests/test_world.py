"""The renderer and the captions: deterministic, vectorised, at any size, true."""

import numpy as np
import pytest

from amdm_shapes_zoo.captions import (
    VOCABULARY,
    full_description,
    partial_description,
    position_holds,
    position_of,
)
from amdm_shapes_zoo.renderer import PIXEL_COLOURS, render, render_classes, visible_masks
from amdm_shapes_zoo.world import ACTIONS, MAX_INSTANCES, NO_ACTION, Layouts, sample_layouts


@pytest.fixture(scope="module")
def layouts() -> Layouts:
    return sample_layouts(400, seed=5)


def test_same_seed_same_pictures(layouts: Layouts) -> None:
    again = sample_layouts(400, seed=5)
    assert np.array_equal(render(layouts[slice(0, 40)]), render(again[slice(0, 40)]))
    assert not np.array_equal(layouts.boxes, sample_layouts(400, seed=6).boxes)


def test_a_batch_is_its_single_pictures(layouts: Layouts) -> None:
    batch = render(layouts[slice(0, 40)])
    singles = [render(layouts.single(index))[0] for index in range(40)]
    assert np.array_equal(batch, np.stack(singles))


@pytest.mark.parametrize("size", [32, 64, 100])
def test_any_size_and_palette_colours_only(layouts: Layouts, size: int) -> None:
    pictures = render(layouts[slice(0, 10)], size)
    assert pictures.shape == (10, size, size, 3)
    found = np.unique(pictures.reshape(-1, 3), axis=0)
    assert {tuple(colour) for colour in found} <= {tuple(colour) for colour in PIXEL_COLOURS}


def test_boxes_lie_in_the_picture_and_levels_occur(layouts: Layouts) -> None:
    boxes = layouts.boxes[layouts.present]
    assert (boxes >= 0).all() and (boxes <= 1).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert set(layouts.counts()) == set(range(1, MAX_INSTANCES + 1))


def test_every_instance_is_visible(layouts: Layouts) -> None:
    areas = visible_masks(layouts).sum(axis=(2, 3))
    assert (areas[layouts.present] > 40).all()
    assert (areas[~layouts.present] == 0).all()


def test_marks_appear_only_with_an_action(layouts: Layouts) -> None:
    marked = (render_classes(layouts) == len(PIXEL_COLOURS) - 1).sum(axis=(1, 2))
    acting = layouts.action != NO_ACTION
    assert (marked[acting] > 30).all()
    assert (marked[~acting] == 0).all()
    assert set(layouts.action[acting]) == set(range(len(ACTIONS)))
    assert (layouts.subject[acting] != layouts.object[acting]).all()


def test_captions_use_the_vocabulary_and_all_of_it(layouts: Layouts) -> None:
    rng = np.random.default_rng(0)
    captions = [full_description(layouts, index).text() for index in range(len(layouts))]
    captions += [partial_description(layouts, index, rng).text() for index in range(len(layouts))]
    words = {word for caption in captions for word in caption.replace(",", " ,").split()}
    assert words == set(VOCABULARY)


def test_partial_captions_are_true(layouts: Layouts) -> None:
    rng = np.random.default_rng(1)
    for index in range(len(layouts)):
        full, part = full_description(layouts, index), partial_description(layouts, index, rng)
        assert part.palette in (None, full.palette)
        assert part.texture in (None, full.texture)
        assert part.action in (None, full.action)
        remaining = list(full.instances)
        for named in part.instances:
            fitting = [
                whole
                for whole in remaining
                if named.colour in (None, whole.colour)
                and named.shape in (None, whole.shape)
                and (named.position is None or set(named.position.split()) <= set(whole.position.split()))
            ]
            assert fitting


def test_positions() -> None:
    assert position_of(0.2, 0.5) == "left"
    assert position_of(0.8, 0.9) == "bottom right"
    assert position_of(0.5, 0.5) == "center"
    assert position_holds("left", 0.2, 0.9) and not position_holds("left", 0.5, 0.9)
    assert position_holds("top left", 0.2, 0.2) and not position_holds("center", 0.2, 0.5)
