"""The rows of the benchmark: every rule fits every aggregate, at the cost the algorithms have."""

import pytest

from amdm_framework.plugins import PluginRegistry, discover
from amdm_shapes_zoo.bench.measure import COMPOSITION, count_evaluations, resolve_row, rows_that_fit
from amdm_shapes_zoo.bench.rows import AGGREGATES, RULES, rows_aggregated, rows_alone, windows_at_all_positions


@pytest.fixture(scope="module")
def plugins() -> PluginRegistry:
    return discover()


def evaluations(key: str, rule: str, plugins: PluginRegistry, window: int = 3, steps: int = 10) -> int:
    row = rows_aggregated([key], [rule], [window])[0]
    return count_evaluations(resolve_row(row, steps, COMPOSITION, plugins))


def test_every_rule_fits_every_aggregate(plugins: PluginRegistry) -> None:
    rows = rows_aggregated(list(AGGREGATES), list(RULES), [1, 3, 5])
    fitting, left_out = rows_that_fit(rows, 10, COMPOSITION, plugins)
    assert left_out == [] and fitting == rows
    for row in fitting:
        resolved = resolve_row(row, 10, COMPOSITION, plugins)
        assert [member.name for member in resolved.members] == list(row.members)
        assert resolved.composition.sampler.guidance_scale == 3


@pytest.mark.parametrize(("key", "count"), [("migc", 2), ("ip_adapter", 2), ("both", 3)])
def test_costs(key: str, count: int, plugins: PluginRegistry) -> None:
    for rule in ("amdm", "amdm_stochastic", "slerp", "linear", "epsilon_average", "composable"):
        assert evaluations(key, rule, plugins) == 10 + (count - 1) * 3
    assert evaluations(key, "relay", plugins) == 10
    # The published code follows every member from the first step on, and aggregates one step later.
    assert evaluations(key, "amdm_authors", plugins) == 10 + (count - 1) * 4


def test_the_target_is_measured_alone_with_every_noise_that_rules_use() -> None:
    rows = rows_alone(["both"], ["amdm", "amdm_stochastic"])
    assert [(row.label, row.rule) for row in rows] == [
        ("InteractDiffusion", "alone"),
        ("InteractDiffusion", "alone_stochastic"),
        ("MIGC", "alone"),
        ("IP-Adapter", "alone"),
    ]
    assert [row.label for row in rows_alone(["migc"], ["amdm"])] == ["InteractDiffusion", "MIGC"]


def test_windows_at_all_positions() -> None:
    assert windows_at_all_positions([1, 3], 4) == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (1, 4)]


def test_rules_that_do_not_fit_a_window_are_left_out_with_the_reason(plugins: PluginRegistry) -> None:
    rows = rows_aggregated(["migc"], ["slerp", "amdm_authors"], [4])
    fitting, left_out = rows_that_fit(rows, 4, COMPOSITION, plugins)
    assert [row.rule for row in fitting] == ["slerp"]
    assert len(left_out) == 1 and "amdm_authors" in left_out[0] and "has 4" in left_out[0]
