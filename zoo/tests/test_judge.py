"""The judges: exact on rendered pictures, at chance on shuffled ones."""

import numpy as np
import pytest

from amdm_shapes_zoo.captions import full_description
from amdm_shapes_zoo.judge import judge
from amdm_shapes_zoo.prompt_judge import judge_prompts
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.segmentation import find_regions, segment
from amdm_shapes_zoo.world import COLOURS, PALETTES, SHAPES, TEXTURES, Layouts, sample_layouts


@pytest.fixture(scope="module")
def layouts() -> Layouts:
    return sample_layouts(500, seed=17)


@pytest.mark.parametrize("size", [32, 64])
def test_exact_on_rendered_pictures(layouts: Layouts, size: int) -> None:
    means = judge(render(layouts, size), layouts).means()
    for part in ("colour", "shape", "action", "style"):
        assert means[part] >= 0.995, part
    # Pixels are coarse, and tips of stars and overlapped corners are lost.
    assert means["overlap"] >= (0.92 if size == 64 else 0.85)


def test_chance_where_attributes_are_shuffled(layouts: Layouts) -> None:
    """The same boxes with attributes of other pictures: right only by accident."""
    pictures = render(layouts)
    rng = np.random.default_rng(0)
    shuffled = layouts.replace(
        colour=rng.integers(len(COLOURS), size=layouts.colour.shape),
        shape=rng.integers(len(SHAPES), size=layouts.shape.shape),
        palette=rng.permutation(layouts.palette),
        texture=rng.permutation(layouts.texture),
    )
    means = judge(pictures, shuffled).means()
    assert means["colour"] == pytest.approx(1 / len(COLOURS), abs=0.04)
    assert means["shape"] == pytest.approx(1 / len(SHAPES), abs=0.05)
    assert means["style"] == pytest.approx(1 / (len(PALETTES) * len(TEXTURES)), abs=0.04)


def test_other_pictures_do_not_pass(layouts: Layouts) -> None:
    means = judge(render(layouts)[np.roll(np.arange(len(layouts)), 1)], layouts).means()
    assert means["colour"] < 0.15 and means["shape"] < 0.25 and means["action"] < 0.1 and means["style"] < 0.12


def test_small_errors_of_colour_do_not_matter(layouts: Layouts) -> None:
    part = layouts[slice(0, 60)]
    noise = np.random.default_rng(0).normal(0, 12, size=(60, 64, 64, 3))
    noisy = np.clip(render(part) + noise, 0, 255).astype(np.uint8)
    means = judge(noisy, part).means()
    assert min(means[name] for name in ("colour", "shape", "action", "style")) >= 0.97


def test_regions_are_the_instances(layouts: Layouts) -> None:
    for index in range(30):
        regions = find_regions(segment(render(layouts.single(index)))[0])
        assert len(regions) == layouts.counts()[index]


def test_prompt_judge_exact_and_strict(layouts: Layouts) -> None:
    part = layouts[slice(0, 120)]
    pictures = render(part)
    descriptions = [full_description(part, index) for index in range(120)]
    assert min(judge_prompts(pictures, descriptions).values()) >= 0.99
    others = judge_prompts(pictures[np.roll(np.arange(120), 1)], descriptions)
    assert others["all"] == 0 and others["colour"] < 0.3
