"""Figures of the benchmark from verdicts written by hand."""

import numpy as np
import pytest

from amdm_shapes_zoo.bench.figures import figures
from amdm_shapes_zoo.judge import Verdict, judge, score
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.world import NO_ACTION, sample_layouts


def two_scenes():
    """A level 1 and a level 3 with an interaction, and a verdict that reads both without a mistake."""
    layouts = sample_layouts(200, seed=7)
    first = int(np.flatnonzero(layouts.counts() == 1)[0])
    second = int(np.flatnonzero((layouts.counts() == 3) & (layouts.action != NO_ACTION))[0])
    layouts = layouts[np.array([first, second])]
    verdict = Verdict(
        colour=layouts.colour.copy(),
        shape=layouts.shape.copy(),
        overlap=np.array([[0.8, 0, 0, 0], [0.6, 0.4, 0.2, 0]]),
        action=layouts.action.copy(),
        palette=layouts.palette.copy(),
        texture=layouts.texture.copy(),
    )
    return layouts, verdict


def test_everything_right() -> None:
    layouts, verdict = two_scenes()
    result = figures(score(verdict, layouts), layouts.counts())
    assert (result["isr"], result["shape"], result["action"], result["style"]) == (100, 100, 100, 100)
    assert result["miou"] == pytest.approx(50.0)
    assert result["isr_interval"] == result["style_interval"] == [100, 100]
    assert list(result["levels"]) == ["1", "3"]
    assert result["levels"]["1"] == {"isr": 100.0, "miou": 80.0, "shape": 100.0, "action": None, "style": 100.0}
    assert result["levels"]["3"]["miou"] == pytest.approx(40.0)


def test_instances_are_pooled_and_a_wrong_colour_costs_the_overlap() -> None:
    layouts, verdict = two_scenes()
    verdict.colour[1, 0] = (layouts.colour[1, 0] + 1) % 8
    verdict.shape[1, 2] = -1
    result = figures(score(verdict, layouts), layouts.counts())
    # Three of four instances, not the mean of 1/1 and 2/3.
    assert result["isr"] == result["shape"] == 75.0
    assert result["levels"]["3"]["isr"] == pytest.approx(66.67)
    assert result["miou"] == pytest.approx(100 * (0.8 + 0 + 0.4 + 0.2) / 4)


def test_action_counts_scenes_with_an_interaction_and_style_needs_both_parts() -> None:
    layouts, verdict = two_scenes()
    verdict.action[1] = NO_ACTION
    verdict.texture[0] = (layouts.texture[0] + 1) % 4
    result = figures(score(verdict, layouts), layouts.counts())
    assert result["action"] == 0.0
    assert result["style"] == 50.0


def test_rendered_pictures_are_perfect() -> None:
    layouts = sample_layouts(60, seed=8)
    result = figures(judge(render(layouts), layouts), layouts.counts())
    assert (result["isr"], result["shape"], result["action"], result["style"]) == (100, 100, 100, 100)
