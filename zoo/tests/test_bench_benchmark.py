"""The zoo as a benchmark of the framework's own commands."""

import numpy as np
import pytest

from amdm_framework.errors import InputError
from amdm_framework.plugins import discover
from amdm_shapes_zoo.bench.benchmark import BENCHMARK
from amdm_shapes_zoo.bench.scenes import LARGEST_SEED, sample_bench_scenes
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.world import Layouts


def layouts_of(cases) -> Layouts:
    return Layouts.concatenate([case.truth for case in cases])


def test_it_is_registered_and_says_what_its_figures_mean():
    assert discover().benchmark("shapes") is BENCHMARK
    assert BENCHMARK.objective == "score" and all(BENCHMARK.figures.values())


def test_its_cases_are_development_scenes_of_the_bench():
    cases, bench = BENCHMARK.draw_cases(6, seed=3), sample_bench_scenes(6, 3, held_out=False)
    assert tuple(case.seed for case in cases) == bench.seeds
    assert np.array_equal(render(layouts_of(cases)), render(bench.layouts))
    for case, layout in zip(cases, bench.layouts.batches(1), strict=True):
        boxes = [instance.box for instance in case.scene.instances.values()]
        assert np.allclose(boxes, layout.boxes[0, : len(boxes)])
        assert [reference.role for reference in case.scene.references] == ["style"]
    with pytest.raises(InputError, match="--seed"):
        BENCHMARK.draw_cases(1, LARGEST_SEED + 1)


def test_rendered_pictures_get_everything_right():
    cases = BENCHMARK.draw_cases(8, seed=0)
    measured = BENCHMARK.measure(render(layouts_of(cases)), cases)
    assert measured.pop("miou") > 90
    assert set(measured.values()) == {100.0}


def test_the_score_is_the_mean_of_what_was_asked_for():
    cases = BENCHMARK.draw_cases(8, seed=0)
    pictures = render(layouts_of(cases))
    # The picture of another scene in place of each: backgrounds and instances of somebody else.
    wrong = BENCHMARK.measure(pictures[::-1], cases)
    assert wrong["score"] == pytest.approx((wrong["isr"] + wrong["action"] + wrong["style"]) / 3, abs=0.01)
    assert wrong["score"] < 60
    # A single instance has no interaction, so that the score is that of the other two.
    lone = BENCHMARK.measure(pictures[:1], cases[:1])
    assert lone["action"] is None and lone["score"] == 100.0
    grey = BENCHMARK.measure(np.full_like(pictures[:1], 128), cases[:1])
    assert grey["score"] == pytest.approx((grey["isr"] + grey["style"]) / 2, abs=0.01)
