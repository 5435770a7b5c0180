"""What is searched where nobody says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amdm_framework.errors import InputError
from amdm_framework.laboratory.default_space import default_space
from amdm_framework.laboratory.settings import check_space, variant_of
from amdm_framework.laboratory.variants import Source, Variant, VariantChecker
from toy_plugin import toy_registry

PLUGINS = toy_registry()


def space_of(
    aggregation: dict[str, Any], members: int = 2, sampler: dict[str, Any] | None = None, **block: Any
) -> dict:
    """The default space of a composition of toys."""
    content: dict[str, Any] = {"providers": [{"use": "toy", **block} for _ in range(members)]}
    content |= {"aggregation": aggregation, "sampler": {"steps": 8, **(sampler or {})}}
    source = Source(content, "", Path())
    checker = VariantChecker(source, [], PLUGINS, "cpu", "float32")

    def accepts(point: dict[str, str]) -> bool:
        try:
            checker.resolve(variant_of(source, point, PLUGINS))
        except InputError:
            return False
        return True

    space = default_space(content, checker.resolve(Variant("", content)), accepts)
    # Whatever is found fits.
    check_space(source, space, checker, PLUGINS)
    return {one.key.removeprefix("aggregation."): str(one) for one in space}


GUIDANCE = {"sampler.guidance_scale": "1.0..15.0"}


@pytest.mark.parametrize(
    ("aggregation", "members", "expected"),
    [
        ({"strategy": "amdm"}, 2, {"steps": "0..8", "weights.0": "0.0..1.0"}),
        ({"strategy": "amdm"}, 3, {"steps": "0..8", "weights.0": "0.0..1.0", "weights.1": "0.0..1.0"}),
        (
            {"strategy": "amdm", "step_sizes": [40, 0.5], "steps": 2},
            2,
            {"steps": "0..8", "weights.0": "0.0..1.0", "step_sizes.0": "0.0..80.0", "step_sizes.1": "0.0..1.0"},
        ),
        # Its window begins after the first step.
        ({"strategy": "amdm_authors"}, 2, {"steps": "0..7", "weights.0": "0.0..1.0"}),
        ({"strategy": "slerp", "window": [1, 3]}, 2, {"window.0": "0..8", "window.1": "0..8", "weights.0": "0.0..1.0"}),
        ({"strategy": "linear"}, 2, {"steps": "0..8", "shares.0": "0.0..1.0", "shares.1": "0.0..1.0"}),
        ({"strategy": "relay"}, 3, {"steps": "0..8", "shares.0": "0.0..1.0", "shares.1": "0.0..1.0"}),
        ({"strategy": "composable"}, 2, {"steps": "0..8"}),
        (
            {"strategy": "composable", "scales": [3, 5]},
            2,
            {"steps": "0..8", "scales.0": "0.0..6.0", "scales.1": "0.0..10.0"},
        ),
        ({"strategy": "superdiff_or"}, 2, {"steps": "0..8", "temperature": "0.0..2.0"}),
        (
            {"strategy": "instance_relay", "limit_quantile": 0.9},
            2,
            # Each beside the other's usual three steps; one secondary's share is all there is.
            {"secondary_steps": "0..5", "instance_steps": "0..5", "limit_quantile": "0.01..0.99"},
        ),
        ({"strategy": "single"}, 2, {}),
    ],
)
def test_the_numbers_of_a_strategy(aggregation, members, expected):
    assert space_of(aggregation, members) == expected | GUIDANCE


def test_step_sizes_and_guidance_stay_where_they_were_written():
    space = space_of({"strategy": "amdm"}, step_size=0.4, guidance_scale=3)
    assert space["providers.0.step_size"] == space["providers.1.step_size"] == "0.0..0.8"
    assert space["providers.0.guidance_scale"] == "1.0..6.0"
    # Nobody uses the sampler's, and step sizes stand in one place.
    assert "sampler.guidance_scale" not in space and "step_sizes.0" not in space
    assert space_of({"strategy": "single"}, sampler={"guidance": {"kind": "apg", "scale": 5}}) == {
        "sampler.guidance.scale": "1.0..10.0"
    }
    assert space_of({"strategy": "single"}, sampler={"guidance_scale": 1}) == {}


def test_long_runs_are_searched_where_rules_act():
    assert space_of({"strategy": "slerp"}, sampler={"steps": 50})["steps"] == "0..10"
    assert space_of({"strategy": "slerp", "steps": 20}, sampler={"steps": 50})["steps"] == "0..20"
