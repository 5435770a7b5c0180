"""Values of a search put into a composition."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from amdm_framework.errors import InputError
from amdm_framework.laboratory.search_space import parse_space
from amdm_framework.laboratory.settings import check_space, propose, variant_of
from amdm_framework.laboratory.variants import Source, VariantChecker
from toy_plugin import toy_registry

PLUGINS = toy_registry()


def source_of(aggregation: dict[str, Any], members: int = 2, **block: Any) -> Source:
    content = {"providers": [{"use": "toy", **block}] * members, "aggregation": aggregation, "sampler": {"steps": 4}}
    return Source(content, "own.yaml", Path())


def problems_of(source: Source, *varied: str) -> list[str]:
    """What is wrong with a space."""
    checker = VariantChecker(source, [], PLUGINS, "cpu", "float32")
    try:
        check_space(source, parse_space(varied), checker, PLUGINS)
    except InputError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_values_are_set_and_missing_lists_made():
    source = source_of({"strategy": "amdm"}, members=3)
    variant = variant_of(source, {"aggregation.weights.0": "0.5", "aggregation.weights.1": "1.0e-05"}, PLUGINS)
    assert variant.content["aggregation"] == {"strategy": "amdm", "weights": [0.5, 1e-5]}
    assert source.content["aggregation"] == {"strategy": "amdm"}
    with pytest.raises(InputError, match=r"aggregation\.weights is not in the composition: give it there, or vary all"):
        variant_of(source, {"aggregation.weights.1": "0.5"}, PLUGINS)


def test_another_strategy_keeps_the_options_that_it_has():
    source = source_of({"strategy": "amdm", "steps": 2, "weights": [0.3]}, step_size=0.4)
    point = {"aggregation.strategy": "linear"}
    content = variant_of(source, point, PLUGINS).content
    assert content["aggregation"] == {"strategy": "linear", "steps": 2}
    assert all("step_size" not in block for block in content["providers"])
    assert variant_of(source, {"aggregation.strategy": "slerp"}, PLUGINS).content["aggregation"]["weights"] == [0.3]
    # Where the strategy does not vary, what it does not have is a mistake.
    assert variant_of(source, {"aggregation.steps": "1"}, PLUGINS).content["aggregation"]["weights"] == [0.3]


def test_only_options_of_the_chosen_strategy_are_asked_for():
    space = parse_space(
        [
            "aggregation.weights.0=0.0..1.0",
            "aggregation.shares.0=0.0..1.0",
            "providers.0.step_size=0.1..1.0",
            "providers.0.strength=0.0..1.0",
            "aggregation.strategy=amdm,linear",
        ]
    )
    asked = {}
    for seed in range(8):
        chance = random.Random(seed)
        point = propose(space, lambda one, chance=chance: one.draw(chance), PLUGINS)
        asked[point["aggregation.strategy"]] = set(point)
    always = {"aggregation.strategy", "providers.0.strength"}
    assert asked == {
        "amdm": always | {"aggregation.weights.0", "providers.0.step_size"},
        "linear": always | {"aggregation.shares.0"},
    }


def test_a_space_that_fits_is_accepted():
    source = source_of({"strategy": "amdm", "window": [1, 2]})
    # Starts behind the window's end are valid together with other ends only.
    assert problems_of(source, "aggregation.window.0=0..4", "aggregation.window.1=0..4") == []
    assert problems_of(source_of({"strategy": "amdm"}, 3), "aggregation.weights.0=0.0..1.0",
                       "aggregation.weights.1=0.0..1.0", "aggregation.strategy=amdm,slerp,linear") == []  # fmt: skip


def test_all_that_does_not_fit_is_named():
    source = source_of({"strategy": "amdm", "weights": [0.5]})
    problems = problems_of(
        source,
        "aggregation.stepz=1..3",
        "aggregation.steps=1..9",
        "aggregation.weights.0=0.0..1.5",
        "aggregation.weights.3=0.0..1.0",
        "providers.0.strength=-1.0..1.0",
        "sampler.eta=0.0..1.0",
        "providers.5.strength=0.0..1.0",
        "aggregation.clamp=true,maybe",
        "sampler.steps=2.0..4.0",
    )
    starts = [
        "aggregation.stepz: 1 does not fit: own.yaml: aggregation.stepz: unknown key. Did you mean 'steps'?",
        "aggregation.steps: 9 does not fit: own.yaml: aggregation.steps: the window ends at step 9, but the run has 4",
        "aggregation.weights.0: 1.5 does not fit: own.yaml: aggregation.weights.0: input should be less than",
        "aggregation.weights.3: 0.0 does not fit: aggregation.weights.3: '3' is no position in a list of 1",
        "providers.0.strength: -1.0 does not fit: own.yaml: providers.0.strength: input should be greater than",
        "providers.5.strength: 0.0 does not fit: providers.5.strength: '5' is no position in a list of 2",
        "aggregation.clamp: maybe does not fit: own.yaml: aggregation.clamp: expected true or false, found",
        "sampler.steps: 2.764 does not fit: own.yaml: sampler.steps: expected a whole number, found 2.764",
    ]
    assert [problem for problem, start in zip(problems, starts, strict=True) if not problem.startswith(start)] == []
    # With a strategy that varies, options that none of them has are no options at all.
    (problem,) = problems_of(source, "aggregation.weigths.0=0.0..1.0", "aggregation.strategy=amdm,slerp")
    assert "no strategy of the search has such an option. Did you mean 'weights'?" in problem
    (problem,) = problems_of(source, "aggregation.strategy=amdm,slurp")
    assert problem.startswith("aggregation.strategy: slurp does not fit") and "Did you mean 'slerp'?" in problem
