"""The relay by instances against formulas written out in numpy, its identities with relay and target, its errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.regions import instance_masks
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.plan import evaluation_plan
from amdm_framework.scene import Instance, Scene
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.instance_relay import InstanceRelay, instance_shift
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, toy_providers

SHAPE = (4, 8, 8)
STEPS = 8

# Edges that cut through cells; two boxes that overlap; a box smaller than a cell; a scene without boxes.
BOXES: dict[int, list[tuple[float, float, float, float]]] = {
    1: [(0.0, 0.05, 0.55, 0.6), (0.3, 0.3, 0.9, 0.95)],
    2: [(0.51, 0.52, 0.57, 0.6)],
    3: [],
}


def regions(seeds: list[int]) -> torch.Tensor:
    scenes = [
        Scene(instances={f"i{k}": Instance(phrase="x", box=box) for k, box in enumerate(BOXES[seed])}) for seed in seeds
    ]
    return instance_masks(scenes, *SHAPE[1:], torch.device("cpu"))


def run(
    count: int, seeds: list[int] | None = None, cls: Any = InstanceRelay, eta: float = 0.0, **options: Any
) -> tuple[torch.Tensor, list[StepReport]]:
    seeds = seeds or [1, 2, 3]
    seen: list[StepReport] = []
    latents = initial_latents(seeds, SHAPE).double()
    final, _ = run_toys(
        toy_providers(count, SHAPE),
        make_strategy(cls, **options),
        [latents] * count,
        STEPS,
        eta,
        regions=regions(seeds),
        on_step_end=seen.append,
    )
    assert final.isfinite().all()
    return final, seen


def stepped(report: StepReport, epsilon: np.ndarray) -> np.ndarray:
    """A deterministic DDIM step from a report's latents, written anew."""
    a, after = report.transition.alpha_cumprod, report.transition.alpha_cumprod_previous
    original = (report.states[0].latents.numpy() - np.sqrt(1 - a) * epsilon) / np.sqrt(a)
    return np.sqrt(after) * original + np.sqrt(1 - after) * epsilon


def expected_epsilon(
    report: StepReport, masks: np.ndarray, drawing: int, shifting: list[int], background: list[int], outside: int
) -> np.ndarray:
    """The strategy's formula cell by cell, without its limit."""
    predictions = [
        None if state.noise_prediction is None else state.noise_prediction.numpy() for state in report.states
    ]
    epsilon = predictions[drawing].copy()
    for image, channel, row, column in np.ndindex(epsilon.shape):
        cover = masks[image, :, row, column]
        drawn = predictions[drawing][image, channel]
        total = drawn[row, column]
        for k in shifting:
            for i in np.flatnonzero(cover):
                mean = np.average(predictions[k][image, channel] - drawn, weights=masks[image, i])
                total += cover[i] / max(1.0, cover.sum()) * mean
        if background or outside != drawing:
            other = np.mean([predictions[k][image, channel, row, column] for k in (outside, *background)])
            total += max(0.0, 1 - cover.sum()) * (other - drawn[row, column])
        epsilon[image, channel, row, column] = total
    return epsilon


@pytest.mark.parametrize(
    ("count", "options", "drawing", "shifting", "background"),
    [
        (2, {}, [1, 1, 1, 0, 0, 0], [1], []),
        (2, {"secondary_steps": 1, "instance_steps": 2}, [1, 0, 0], [1], []),
        (2, {"modes": ["background"], "secondary_steps": 2, "instance_steps": 1}, [0, 0, 0], [], [1]),
        (3, {}, [1, 1, 2, 0, 0, 0], [1, 2], []),
        (3, {"shares": [0, 1], "secondary_steps": 2, "instance_steps": 2}, [2, 2, 0, 0], [1, 2], []),
        (3, {"modes": ["instances", "background"]}, [1, 1, 1, 0, 0, 0], [1], [2]),
        (3, {"modes": ["background", "instances"], "shares": [2]}, [2, 2, 2, 0, 0, 0], [2], [1]),
        (3, {"modes": ["background", "background"], "instance_steps": 1}, [0, 0, 0, 0], [], [1, 2]),
        (2, {"target_outside": True}, [1, 1, 1, 0, 0, 0], [1], []),
        (3, {"target_outside": True, "modes": ["instances", "background"]}, [1, 1, 1, 0, 0, 0], [1], [2]),
    ],
)
def test_every_step_follows_the_formula(
    count: int, options: dict[str, Any], drawing: list[int], shifting: list[int], background: list[int]
) -> None:
    masks = regions([1, 2, 3]).double().numpy()
    first = options.get("secondary_steps", 3)
    _, seen = run(count, **options)
    for index, report in enumerate(seen):
        found = report.latents[0]
        assert found is not None
        if index >= len(drawing):
            expected = report.states[0].epsilon.numpy()
        else:
            outside = 0 if options.get("target_outside") else drawing[index]
            shifted = shifting if index >= first else []
            expected = expected_epsilon(report, masks, drawing[index], shifted, background, outside)
        np.testing.assert_allclose(found.numpy(), stepped(report, expected), rtol=0, atol=1e-10)


def test_a_shift_leaves_everything_outside_the_boxes_and_all_differences_inside_them() -> None:
    _, seen = run(2, [1], secondary_steps=0, instance_steps=1)
    target, found = seen[0].states[0].epsilon, seen[0].latents[0]
    assert found is not None
    change = (found - seen[0].transition.mean(seen[0].states[0].latents, target)).numpy()[0]
    # Cells of the 8 x 8 grid that belong to no box, and to the first alone: its edges are at 4.4 and 0.4 to 4.8.
    assert not change[:, 5:, :2].any() and not change[:, :2, 6:].any()
    inside = change[:, 1:4, 0:2].reshape(4, -1)
    np.testing.assert_allclose(inside, inside[:, :1].repeat(6, 1), rtol=0, atol=1e-12)
    assert (np.abs(inside[:, 0]) > 1e-3).all()


def test_overlapping_boxes_average_and_partly_covered_cells_take_their_part() -> None:
    difference = torch.tensor([[[[1.0, 3.0, 5.0, 7.0, 100.0]]]])
    masks = torch.tensor([[[[1.0, 1.0, 0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0, 0.5, 0.0]], [[0.0] * 5]]])
    # Means over the boxes: (1 + 3) / 2 = 2 and (3 + 5 + 7 / 2) / 2.5 = 4.6; the third box is absent.
    expected = torch.tensor([[[[2.0, 3.3, 4.6, 2.3, 0.0]]]])
    torch.testing.assert_close(instance_shift(difference, masks), expected)


@pytest.mark.parametrize("options", [{"limit": 0.9}, {"limit_quantile": 0.9}])
def test_the_predicted_x0_is_limited_in_the_window_and_nowhere_else(options: dict[str, float]) -> None:
    masks = regions([1, 2, 3]).double().numpy()
    _, seen = run(2, secondary_steps=2, instance_steps=2, **options)
    limits = []
    for index, report in enumerate(seen):
        if index < 4:
            epsilon = expected_epsilon(report, masks, int(index < 2), [1] if index >= 2 else [], [], int(index < 2))
            a, x = report.transition.alpha_cumprod, report.states[0].latents.numpy()
            original = (x - np.sqrt(1 - a) * epsilon) / np.sqrt(a)
            for image in range(3):
                own = options.get("limit") or max(1.0, np.quantile(np.abs(original[image]), options["limit_quantile"]))
                original[image] = np.clip(original[image], -own, own)
                limits.append(own)
            epsilon = (x - np.sqrt(a) * original) / np.sqrt(1 - a)
        else:
            epsilon = report.states[0].epsilon.numpy()
        found = report.latents[0]
        assert found is not None
        np.testing.assert_allclose(found.numpy(), stepped(report, epsilon), rtol=0, atol=1e-10)
    unlimited, _ = run(2, secondary_steps=2, instance_steps=2)
    assert not torch.equal(seen[-1].latents[0], unlimited)
    assert "limit" in options or min(limits) == 1.0 < max(limits)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("count", "shares"), [(2, None), (3, None), (3, (3.0, 1.0))])
def test_without_instance_steps_it_is_the_relay(count: int, shares: tuple[float, ...] | None, eta: float) -> None:
    for steps in (3, STEPS):
        found, _ = run(count, eta=eta, secondary_steps=steps, instance_steps=0, shares=shares)
        expected, _ = run(count, eta=eta, cls=Relay, steps=steps, shares=shares)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_empty_window_one_provider_or_no_boxes_is_the_target_alone(eta: float) -> None:
    for options in ({"limit": 0.1}, {"limit_quantile": 0.5}, {}):
        for count in (2, 3):
            alone, _ = run(count, eta=eta, cls=Single)
            empty, _ = run(count, eta=eta, secondary_steps=0, instance_steps=0, **options)
            assert torch.equal(empty, alone)
        alone, _ = run(1, eta=eta, cls=Single)
        assert torch.equal(run(1, eta=eta, **options)[0], alone)
    assert regions([3]).shape == (1, 0, 8, 8)
    alone, _ = run(3, [3], eta=eta, cls=Single)
    assert torch.equal(run(3, [3], eta=eta, secondary_steps=0, instance_steps=4)[0], alone)


def test_without_boxes_all_is_background() -> None:
    """Of a batch too, where other scenes do have boxes: the mean of both for six steps, then the target."""
    expected, _ = run(2, cls=EpsilonAverage, steps=6, shares=[0.5, 0.5])
    for seeds, position in (([3], 0), ([1, 2, 3], 2)):
        found, _ = run(2, seeds, modes=["background"])
        torch.testing.assert_close(found[position], expected[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("options", [{"modes": ["background", "instances"], "limit_quantile": 0.8}, {"limit": 1.0}, {}])
def test_an_image_of_a_batch_equals_the_single_run(options: dict[str, Any], eta: float) -> None:
    noise = {seed: torch.randn(STEPS, *SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in BOXES}

    def final(seeds: list[int]) -> torch.Tensor:
        latents = initial_latents(seeds, SHAPE)
        return run_toys(
            toy_providers(3, SHAPE),
            make_strategy(InstanceRelay, **options),
            [latents] * 3,
            STEPS,
            eta,
            lambda provider, step: torch.stack([noise[seed][step.index] for seed in seeds]),
            regions=regions(seeds),
        )[0]

    batch = final([1, 2, 3])
    for position, seed in enumerate(BOXES):
        torch.testing.assert_close(batch[position : position + 1], final([seed]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (2, {}, [47, 6]),
        (2, {"secondary_steps": 4, "instance_steps": 0}, [46, 4]),
        (2, {"modes": ["background"]}, [50, 6]),
        (3, {}, [47, 5, 4]),
        (3, {"modes": ["instances", "background"], "secondary_steps": 2}, [48, 5, 5]),
        (3, {"shares": [1, 0], "instance_steps": 1}, [47, 4, 1]),
        (2, {"target_outside": True, "secondary_steps": 4, "instance_steps": 0}, [50, 4]),
    ],
)
def test_evaluations_are_those_declared(count: int, options: dict[str, Any], expected: list[int]) -> None:
    providers, latents = toy_providers(count, SHAPE), initial_latents([1], SHAPE)
    strategy = make_strategy(InstanceRelay, **options)
    _, trace = run_toys(providers, strategy, [latents] * count, 50, regions=regions([1]))
    assert [len(provider.calls) for provider in providers] == expected
    assert list(trace.evaluations.values()) == expected
    plan = evaluation_plan(strategy, [Guidance(scale=3.0)] * count, 50)
    assert [sum(k in step for step in plan) for k in range(count)] == expected
    assert all(halves == 2 for step in plan for halves in step.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secondary_steps": -1}, "secondary_steps"),
        ({"instance_steps": -1}, "instance_steps"),
        ({"limit": 0.0}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"limit_quantile": 1.0}, "limit_quantile"),
        ({"limit": 1.0, "limit_quantile": 0.99}, "give `limit` or `limit_quantile`, not both"),
        ({"modes": ["everywhere"]}, "modes"),
        ({"shares": [-1.0]}, "shares"),
        ({"steps": 3}, "steps"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InstanceRelay.options(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"secondary_steps": 6, "instance_steps": 5},
            "aggregation.secondary_steps: the window of 6 secondary_steps and 5 instance_steps ends at step 11, but "
            "the run has 10: shorten either",
        ),
        ({"modes": ["instances"]}, "aggregation.modes: found 1 values ['instances'], expected 2 (one per secondary)"),
        ({"shares": [1.0]}, "aggregation.shares: found 1 values [1.0], expected 2 (one per secondary that acts on"),
        ({"modes": ["instances", "background"], "shares": [0.5, 0.5]}, "aggregation.shares: found 2 values"),
        ({"modes": ["background", "background"], "shares": [1.0]}, "expected 0"),
        ({"shares": [0.0, 0.0]}, "sum to 0"),
    ],
)
def test_options_that_do_not_fit_the_run_are_refused_before_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make_strategy(InstanceRelay, **options).begin(3, 10)
