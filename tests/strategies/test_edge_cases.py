"""The corners of the paper's rule: no noise, no distance, extreme weights and windows, half precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies.alternate import Alternate
from amdm_framework.strategies.amdm import AMDM, manifold_step, spherical_coefficients
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy, per_sample_norm
from amdm_framework.strategies.builtin import BUILTIN_STRATEGIES
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.slerp import Slerp, slerp
from amdm_framework.strategies.superdiff import SuperDiffOr
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULE,
    initial_latents,
    make_strategy,
    run_toys,
    toy_providers,
)

SHAPE = (4, 8, 8)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def final_of_two(strategy: AggregationStrategy, eta: float = 0.0, independent: bool = False) -> torch.Tensor:
    providers = toy_providers(2, SHAPE)
    latents = [initial_latents([1, 2], SHAPE), initial_latents([1, 2], SHAPE, salt=3 if independent else 0)]
    final, _ = run_toys(providers, strategy, latents, 10, eta)
    assert final.isfinite().all()
    return final


def distances(strategy: AggregationStrategy, provider: int, eta: float = 0.0) -> list[list[float]]:
    latents = initial_latents([1, 2], SHAPE)
    _, trace = run_toys(toy_providers(2, SHAPE), strategy, [latents, latents], 10, eta)
    return [
        row.metrics["distance_to_mean"]
        for row in trace.rows
        if row.provider == provider and "distance_to_mean" in row.metrics
    ]


def test_without_noise_the_step_runs_along_the_line_to_the_own_sample() -> None:
    aggregate, own = draw(3, *SHAPE), draw(3, *SHAPE, seed=1)
    distance = per_sample_norm(aggregate - own)
    move = manifold_step(aggregate, own, 5.0)
    torch.testing.assert_close(move.latents, own + (1 - 5.0 / distance) * (aggregate - own))
    torch.testing.assert_close(move.distance, distance.flatten())
    torch.testing.assert_close(move.fraction, 5.0 / distance.flatten())


def test_overshoot_lands_beyond_the_mean_and_clamp_stops_at_it() -> None:
    aggregate, mean = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    beyond = manifold_step(aggregate, mean, 100.0)
    side = ((beyond.latents - mean) * (aggregate - mean)).sum((1, 2, 3))
    assert (side < 0).all()
    assert (beyond.fraction > 1).all()
    clamped = manifold_step(aggregate, mean, 100.0, clamp=True)
    torch.testing.assert_close(clamped.latents, mean)
    torch.testing.assert_close(clamped.fraction, torch.ones(2, dtype=torch.float64))
    untouched = manifold_step(aggregate, mean, 1.0, clamp=True)
    assert torch.equal(untouched.latents, manifold_step(aggregate, mean, 1.0).latents)


@pytest.mark.parametrize("step_size", [0.0, 5.0, 1e6])
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("unit", ["absolute", "rms", "fraction"])
def test_no_distance_means_no_step(step_size: float, clamp: bool, unit: Any) -> None:
    aggregate = draw(2, *SHAPE, dtype=torch.float32)
    mean = aggregate.clone()
    mean[1] += 1.0
    move = manifold_step(aggregate, mean, step_size, unit, clamp)
    assert torch.equal(move.latents[0], aggregate[0])
    assert move.latents.isfinite().all()
    assert move.fraction[0] == 0


def test_rounding_noise_is_no_direction() -> None:
    """A mean computed by another formula differs in the last bits; a full step must not follow that difference."""
    transition = transitions(STABLE_DIFFUSION_SCHEDULE, 10)[0]
    latents, epsilon = draw(2, *SHAPE, dtype=torch.float32), draw(2, *SHAPE, seed=1, dtype=torch.float32)
    a, previous = transition.alpha_cumprod, transition.alpha_cumprod_previous
    expanded = (
        math.sqrt(previous / a) * latents + (math.sqrt(1 - previous) - math.sqrt(previous * (1 - a) / a)) * epsilon
    )
    mean = transition.mean(latents, epsilon)
    assert not torch.equal(expanded, mean)
    assert torch.equal(manifold_step(expanded, mean, 45.0).latents, expanded)


def test_a_sample_at_zero_distance_leaves_its_neighbour_alone() -> None:
    aggregate = draw(2, *SHAPE)
    mean = aggregate.clone()
    mean[1] = draw(*SHAPE, seed=5)
    both = manifold_step(aggregate, mean, 5.0)
    assert torch.equal(both.latents[1:], manifold_step(aggregate[1:], mean[1:], 5.0).latents)


def test_norms_are_per_sample_unless_the_batch_is_asked_for() -> None:
    aggregate, mean = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    whole = manifold_step(aggregate, mean, 5.0, norm_scope="batch")
    norm = torch.linalg.vector_norm(aggregate - mean)
    torch.testing.assert_close(whole.latents, aggregate - 5.0 * (aggregate - mean) / norm)
    torch.testing.assert_close(whole.distance, norm.expand(2))


def test_units_of_step_sizes_agree() -> None:
    aggregate, mean = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    root_n = math.sqrt(4 * 8 * 8)
    absolute = manifold_step(aggregate, mean, 0.3515625 * root_n)
    torch.testing.assert_close(manifold_step(aggregate, mean, 0.3515625, "rms").latents, absolute.latents)
    torch.testing.assert_close(
        manifold_step(aggregate, mean, 0.25, "fraction").latents, mean + 0.75 * (aggregate - mean)
    )
    assert 45 / math.sqrt(4 * 64 * 64) == 0.3515625


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_half_precision_latents_do_not_overflow(dtype: torch.dtype) -> None:
    """At 1024 pixels the sum of squares of plain noise exceeds float16's largest number, 65504."""
    aggregate, mean = (draw(1, 4, 128, 128, seed=seed, dtype=torch.float32) for seed in (0, 1))
    move = manifold_step(2 * aggregate.to(dtype), mean.to(dtype), 90.0)
    expected = manifold_step(2 * aggregate, mean, 90.0)
    assert move.latents.dtype == dtype
    torch.testing.assert_close(move.distance, expected.distance, rtol=1e-3, atol=0)
    torch.testing.assert_close(move.latents.float(), expected.latents, rtol=2e-2, atol=2e-2)
    found = slerp(aggregate.to(dtype), mean.to(dtype), 0.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), slerp(aggregate, mean, 0.5), rtol=2e-2, atol=2e-2)


def test_weight_one_without_noise_leaves_the_target_untouched_and_its_distance_zero() -> None:
    strategy = make_strategy(AMDM, weights=[1.0], step_sizes=[45.0, 55.0])
    assert distances(strategy, 0) == [[0.0, 0.0]] * 3
    alone = final_of_two(make_strategy(AMDM, steps=0))
    assert torch.equal(final_of_two(strategy), alone)


def test_weight_one_with_noise_still_moves_the_target_to_its_mean() -> None:
    strategy = make_strategy(AMDM, weights=[1.0])
    assert min(min(row) for row in distances(strategy, 0, eta=1.0)) > 1
    assert not torch.equal(final_of_two(strategy, 1.0), final_of_two(make_strategy(AMDM, steps=0), 1.0))


def test_weight_zero_without_noise_leaves_the_secondary_at_its_own_sample() -> None:
    strategy = make_strategy(AMDM, weights=[0.0], step_sizes=[2.0, 2.0])
    assert distances(strategy, 1) == [[0.0, 0.0]] * 3
    seen: list[StepReport] = []
    latents = initial_latents([1], SHAPE)
    run_toys(toy_providers(2, SHAPE), strategy, [latents, latents], 10, on_step_end=seen.append)
    state, transition = seen[0].states[1], seen[0].transition
    jumped = transition.mean(state.latents, state.epsilon)
    assert seen[0].latents[1] is not None and torch.equal(seen[0].latents[1], jumped)


def test_step_size_zero_is_aggregation_alone() -> None:
    seen: list[StepReport] = []
    latents = [initial_latents([1], SHAPE), initial_latents([1], SHAPE, salt=9)]
    strategy = make_strategy(AMDM, weights=[0.6], step_sizes=[0.0, 0.0])
    run_toys(toy_providers(2, SHAPE), strategy, latents, 10, on_step_end=seen.append)
    means = [seen[0].transition.mean(state.latents, state.epsilon) for state in seen[0].states]
    for found in seen[0].latents:
        torch.testing.assert_close(found, 0.6 * means[0] + 0.8 * means[1])


def test_a_window_over_the_whole_run_aggregates_the_last_step_too() -> None:
    latents = initial_latents([1], SHAPE)
    providers = toy_providers(2, SHAPE)
    _, trace = run_toys(providers, make_strategy(AMDM, steps=10), [latents, latents], 10)
    assert [len(provider.calls) for provider in providers] == [10, 10]
    assert "distance_to_mean" in trace.rows[-1].metrics


def test_coefficients_have_closed_forms() -> None:
    w, v = 0.47, 0.5
    rest_w, rest_v = math.sqrt(1 - w * w), math.sqrt(1 - v * v)
    assert spherical_coefficients([w], "paper") == pytest.approx([w, rest_w])
    assert spherical_coefficients([w], "unit") == pytest.approx([w, rest_w])
    assert spherical_coefficients([w, v], "paper") == pytest.approx([w * v, rest_w * v, rest_w * rest_v])
    assert spherical_coefficients([w, v], "unit") == pytest.approx([w * v, rest_w * v, rest_v])
    assert spherical_coefficients([], "paper") == [1.0]
    squares = sum(c * c for c in spherical_coefficients([w, v], "paper"))
    assert squares == pytest.approx(1 - w * w * (1 - v * v))
    assert math.sqrt(squares) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize("weights", [[0.3], [0.3, 0.9], [0.0, 1.0, 0.5], [0.2, 0.4, 0.6, 0.8]])
def test_unit_coefficients_lie_on_the_sphere(weights: list[float]) -> None:
    assert sum(c * c for c in spherical_coefficients(weights, "unit")) == pytest.approx(1.0)


def test_only_the_batch_scope_makes_an_image_depend_on_its_neighbours() -> None:
    def first_image(seeds: list[int], scope: str) -> torch.Tensor:
        latents = initial_latents(seeds, SHAPE)
        strategy = make_strategy(AMDM, norm_scope=scope)
        return run_toys(toy_providers(2, SHAPE), strategy, [latents, latents], 10)[0][0]

    torch.testing.assert_close(first_image([1, 2], "sample"), first_image([1], "sample"), rtol=0, atol=1e-6)
    assert not torch.allclose(first_image([1, 2], "batch"), first_image([1], "batch"), atol=1e-2)


@pytest.mark.parametrize(
    ("strategy", "options", "key"),
    [
        (AMDM, {"weights": [1.2]}, "weights"),
        (AMDM, {"weights": [-0.1]}, "weights"),
        (AMDM, {"weights": [math.nan]}, "weights"),
        (AMDM, {"step_sizes": [-1.0, 2.0]}, "step_sizes"),
        (AMDM, {"step_sizes": [math.nan, 2.0]}, "step_sizes"),
        (AMDM, {"step_sizes": [math.inf, 2.0]}, "step_sizes"),
        (AMDM, {"step_size_unit": "fraction"}, "give step_sizes as fractions"),
        (AMDM, {"steps": -1}, "steps"),
        (AMDM, {"steps": 2, "window": [0, 2]}, "not both"),
        (AMDM, {"window": [4, 2]}, "start <= stop"),
        (AMDM, {"window": [-1, 2]}, "start <= stop"),
        (AMDM, {"stepsizes": [1.0]}, "stepsizes"),
        (Slerp, {"weights": [2.0]}, "weights"),
        (Linear, {"shares": [-1.0, 2.0]}, "shares"),
        (Alternate, {"order": []}, "order"),
        (Alternate, {"order": [-1]}, "order"),
        (Composable, {"scales": [math.inf]}, "scales"),
        (SuperDiffOr, {"temperature": -1.0}, "temperature"),
    ],
)
def test_impossible_options_are_refused_by_name(
    strategy: type[AggregationStrategy], options: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValidationError, match=key):
        strategy.options(**options)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        (AMDM, {"steps": 11}, "aggregation.steps: the window ends at step 11, but the run has 10"),
        (AMDM, {"window": [2, 12]}, "aggregation.window: the window ends at step 12"),
        (AMDM, {"weights": [0.5, 0.5]}, r"aggregation.weights: found 2 values \[0.5, 0.5\], expected 1"),
        (AMDM, {"step_sizes": [1.0]}, "aggregation.step_sizes: found 1 values"),
        (AMDMAuthors, {"window": [0, 3]}, "aggregation.window: the window starts at step 0"),
        (AMDMAuthors, {"steps": 10}, "aggregation.steps: the window ends at step 11"),
        (Slerp, {"weights": [0.5, 0.5]}, "aggregation.weights: found 2"),
        (Linear, {"shares": [1.0]}, "aggregation.shares: found 1"),
        (Linear, {"shares": [0.0, 0.0]}, "aggregation.shares: .* sum to 0"),
        (Relay, {"shares": [0.5, 0.5]}, "aggregation.shares: found 2 .*one per secondary"),
        (Composable, {"scales": [1.0]}, "aggregation.scales: found 1"),
        (Alternate, {"order": [0, 2]}, "aggregation.order: there is no provider 2, expected 0 to 1"),
        (SuperDiffOr, {"log_priors": [0.0]}, "aggregation.log_priors: found 1"),
    ],
)
def test_options_that_do_not_fit_the_run_are_refused_before_it(
    strategy: type[AggregationStrategy], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_strategy(strategy, **options).begin(2, 10)


def test_overshooting_is_reported() -> None:
    latents = initial_latents([1], SHAPE)
    providers = toy_providers(2, SHAPE)
    for step_sizes, warned in (([1e3, 1e-3], ["toy0"]), ([1e3, 1e3], ["toy0", "toy1"]), ([1e-3, 1e-3], [])):
        strategy = make_strategy(AMDM, step_sizes=step_sizes)
        _, trace = run_toys(providers, strategy, [latents, latents], 10)
        sentences = strategy.review(trace)
        assert len(sentences) == bool(warned)
        if warned:
            assert ", ".join(warned) + " were longer than the distance" in sentences[0]
            assert "clamp" in sentences[0]
        clamped = make_strategy(AMDM, step_sizes=step_sizes, clamp=True)
        _, trace = run_toys(providers, clamped, [latents, latents], 10)
        assert clamped.review(trace) == []


def test_the_printed_rule_with_shared_noise_overshoots() -> None:
    """With samples this alike the published step is longer than the distance it is meant to cross."""
    latents = initial_latents([1], (4, 64, 64))
    providers = toy_providers(2, (4, 64, 64))
    strategy = make_strategy(AMDM, weights=[0.5], step_sizes=[45.0, 55.0])
    _, trace = run_toys(providers, strategy, [latents, latents], 50)
    assert strategy.review(trace)


def test_slerp_has_closed_forms() -> None:
    first, second = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    assert slerp(first, second, 0.0) is first
    assert slerp(first, second, 1.0) is second
    n = 64
    x = torch.zeros(1, 1, 1, n, dtype=torch.float64)
    x[..., 0] = 2.0
    for degrees in (1e-9, 1e-3, 1.0, 60.0, 90.0, 179.0):
        angle = math.radians(degrees)
        y = torch.zeros_like(x)
        y[..., 0], y[..., 1] = 2 * math.cos(angle), 2 * math.sin(angle)
        found = slerp(x, y, 0.25)
        assert float(per_sample_norm(found)) == pytest.approx(2.0, abs=1e-9)
        turned = math.degrees(math.atan2(float(found[..., 1]), float(found[..., 0])))
        assert turned == pytest.approx(degrees / 4, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_survives_equal_opposite_and_empty_samples(dtype: torch.dtype) -> None:
    x = draw(1, *SHAPE, dtype=dtype)
    torch.testing.assert_close(slerp(x, x.clone(), 0.3), x)
    torch.testing.assert_close(slerp(x, 3 * x, 0.5), 2 * x)
    assert slerp(x, -x, 0.3).isfinite().all()
    assert slerp(x, torch.zeros_like(x), 0.3).isfinite().all()
    assert slerp(torch.zeros_like(x), torch.zeros_like(x), 0.3).isfinite().all()


def test_slerp_measures_the_angle_that_the_papers_rule_assumes() -> None:
    """Spherical aggregation inflates similar samples by w + sqrt(1 - w^2); slerp keeps their norm."""
    x = draw(1, 4, 64, 64)
    similar = x + 1e-3 * draw(1, 4, 64, 64, seed=1)
    c = spherical_coefficients([0.5], "paper")
    ratio = per_sample_norm(c[0] * x + c[1] * similar) / per_sample_norm(x)
    assert float(ratio) == pytest.approx(1.366, abs=1e-3)
    kept = per_sample_norm(slerp(x, similar, 2 / math.pi * math.acos(0.5))) / per_sample_norm(x)
    assert float(kept) == pytest.approx(1.0, abs=1e-3)


def test_strategies_without_a_window_show_no_window_options() -> None:
    windowless = {cls.name for cls in BUILTIN_STRATEGIES if not {"steps", "window"} & set(cls.options.model_fields)}
    assert windowless == {"instance_relay", "single"}


def test_every_strategy_and_option_says_what_it_is() -> None:
    assert len({cls.name for cls in BUILTIN_STRATEGIES}) == len(BUILTIN_STRATEGIES) == 12
    for cls in BUILTIN_STRATEGIES:
        for text in (cls.summary, cls.formula, cls.source):
            assert text and "\n" not in text
        assert cls.__doc__ is not None
        assert "Mixes" in cls.__doc__ and "Costs" in cls.__doc__ and "Source" in cls.__doc__
        assert "privileged" in cls.__doc__ or cls.name == "single"
        assert cls.options.model_config["extra"] == "forbid"
        for name, field in cls.options.model_fields.items():
            assert field.description and "\n" not in field.description, name
        cls(cls.options())
