"""Who moved the latents how far: the figures of a step against steps in which members are of no opinion of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from amdm_framework.latents import NoiseSchedule
from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition, transitions
from amdm_framework.strategies.alternate import Alternate
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.base import Advance, AggregationStrategy, ProviderState
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.instance_relay import InstanceRelay
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.slerp import Slerp, slerp_with_coefficients
from amdm_framework.strategies.superdiff import SuperDiffAnd, SuperDiffOr
from amdm_framework.testing.closed_form import make_strategy, run_toys, toy_providers

SHAPE = (2, 4, 8, 8)
SCALES = (3.0, 2.0, 5.0)
SCHEDULE = NoiseSchedule.from_scheduler_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085,
                                                "beta_end": 0.012})  # fmt: skip


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.square().mean(dim=(1, 2, 3)).sqrt()


def states(count: int, shared: bool) -> list[ProviderState]:
    """Members with latents, predictions and noise of their own, or with the target's latents."""
    made = []
    for k in range(count):
        latents, noise = draw(0 if shared else k), draw(200 + k)
        made.append(ProviderState(latents, draw(100 + k), draw(300), SCALES[k], lambda noise=noise: noise))
    return made


def step_of(
    strategy: AggregationStrategy, given: list[ProviderState], index: int, eta: float
) -> tuple[Advance, Transition]:
    strategy.begin(len(given), 10)
    transition = transitions(SCHEDULE, 10, eta)[index]
    masks = torch.zeros(SHAPE[0], 2, 8, 8, dtype=torch.float64)
    masks[:, 0, 1:5, 1:6], masks[:, 1, 3:7, 4:8] = 1, 1
    needed = strategy.evaluated(index)
    seen = [state if k in needed else replace(state, noise_prediction=None) for k, state in enumerate(given)]
    return strategy.advance(Step(index, 10, transition.timestep, regions=masks), seen, transition), transition


# Rules that are linear in what every member predicts, so that a part of a step is what goes without that member.
LINEAR: list[tuple[type[AggregationStrategy], dict[str, Any], int, float, bool]] = [
    (Linear, {"shares": [1, 2, 3]}, 1, 0.0, False),
    (Linear, {}, 1, 1.0, True),
    (EpsilonAverage, {"shares": [1, 2, 3]}, 0, 0.5, True),
    (AMDM, {"weights": [0.6, 0.7], "step_sizes": [0.3, 0.4, 0.5], "step_size_unit": "fraction"}, 2, 0.0, False),
    (InstanceRelay, {"secondary_steps": 2, "instance_steps": 3}, 3, 1.0, True),
    (InstanceRelay, {"instance_steps": 3, "modes": ["instances", "background"]}, 4, 0.0, True),
    (InstanceRelay, {"target_outside": True, "modes": ["instances", "background"]}, 1, 0.0, True),
]


@pytest.mark.parametrize(("cls", "options", "index", "eta", "shared"), LINEAR)
def test_a_pull_is_what_goes_with_a_members_own_opinion(
    cls: type[AggregationStrategy], options: dict[str, Any], index: int, eta: float, shared: bool
) -> None:
    given = states(3, shared)
    advance, _ = step_of(make_strategy(cls, **options), given, index, eta)
    assert advance.metrics["pull"][0] is None
    for k in (1, 2):
        # In place of its own: what the target sees, predicts and draws.
        without = [given[0] if other == k else state for other, state in enumerate(given)]
        other, _ = step_of(make_strategy(cls, **options), without, index, eta)
        moved = rms(advance.latents[0] - other.latents[0])  # type: ignore[operator]
        found = advance.metrics["pull"][k]
        assert found is not None and found.min() > 0.001
        torch.testing.assert_close(found, moved, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("cls", "options", "index", "eta", "shared"), [
    *LINEAR,
    (Slerp, {"weights": [0.5, 0.3]}, 1, 0.7, False),
    (AMDM, {}, 0, 1.0, True),
])  # fmt: skip
def test_the_displacement_is_the_way_from_where_the_target_alone_would_be(
    cls: type[AggregationStrategy], options: dict[str, Any], index: int, eta: float, shared: bool
) -> None:
    given = states(3, shared)
    advance, transition = step_of(make_strategy(cls, **options), given, index, eta)
    alone = transition.sample(given[0].latents, given[0].epsilon, given[0].noise)
    found, *others = advance.metrics["displacement"]
    assert found is not None and others == [None, None]
    torch.testing.assert_close(found, rms(advance.latents[0] - alone), rtol=1e-9, atol=1e-9)  # type: ignore[operator]


@pytest.mark.parametrize("unconditional", ["target", "own"])
def test_composable_adds_to_the_targets_own_guidance(unconditional: str) -> None:
    given = states(3, shared=True)
    for k, state in enumerate(given):
        state.unconditional = draw(300 + k)
    strategy = make_strategy(Composable, unconditional=unconditional)
    advance, transition = step_of(strategy, given, 0, 1.0)
    target = given[0]
    guided = target.unconditional_epsilon + SCALES[0] * (target.epsilon - target.unconditional_epsilon)
    alone = transition.sample(target.latents, guided, target.noise)
    torch.testing.assert_close(advance.metrics["displacement"][0], rms(advance.latents[0] - alone))  # type: ignore[operator]
    for k in (1, 2):
        without, _ = step_of(make_strategy(Composable, unconditional=unconditional,
                                           scales=[0 if other == k else SCALES[other] for other in range(3)]),
                             given, 0, 1.0)  # fmt: skip
        torch.testing.assert_close(advance.metrics["pull"][k], rms(advance.latents[0] - without.latents[0]))  # type: ignore[operator]


def coefficients_of(mixed: torch.Tensor, basis: list[torch.Tensor]) -> torch.Tensor:
    """Return, for every image, the coefficients (B, K) of the sum of K tensors that another one is."""
    columns = torch.stack([one.flatten(1) for one in basis], dim=-1)
    solved = torch.linalg.lstsq(columns, mixed.flatten(1).unsqueeze(-1)).solution
    # It is that sum, and nothing else.
    torch.testing.assert_close(columns @ solved, mixed.flatten(1).unsqueeze(-1))
    return solved.squeeze(-1)


# Rules whose weights, or lengths of steps, depend themselves on what the members predict.
DEPENDENT: list[tuple[type[AggregationStrategy], dict[str, Any], float]] = [
    (Slerp, {}, 0.0),
    (Slerp, {"weights": [0.5, 0.3]}, 0.7),
    (AMDM, {}, 0.0),
    (AMDM, {}, 0.7),
    (AMDM, {"weights": [0.6, 0.7], "step_sizes": [3.0, 4.0, 5.0], "clamp": True}, 0.7),
    (SuperDiffAnd, {"step": "ddpm"}, 1.0),
    (SuperDiffAnd, {"step": "euler"}, 1.0),
    (SuperDiffOr, {"step": "ddpm"}, 1.0),
    (SuperDiffOr, {"step": "euler"}, 1.0),
]


@pytest.mark.parametrize(("cls", "options", "eta"), DEPENDENT)
def test_a_pull_holds_the_weights_and_lengths_of_its_step(
    cls: type[AggregationStrategy], options: dict[str, Any], eta: float
) -> None:
    on_noise = cls in (SuperDiffAnd, SuperDiffOr)
    given = states(3, shared=on_noise)
    advance, transition = step_of(make_strategy(cls, **options), given, 2, eta)
    target = given[0]
    if on_noise:
        mixed = [state.epsilon for state in given]
        others = [target.latents, target.unconditional_epsilon, target.noise()]
    else:
        mixed = [transition.sample(state.latents, state.epsilon, state.noise) for state in given]
        others = [transition.mean(target.latents, target.epsilon)] if cls is AMDM and eta > 0 else []
    taken = advance.latents[0]
    assert taken is not None
    # What the members had in this step is found from its outcome alone.
    weights = coefficients_of(taken, [*mixed, *others])
    for k in (1, 2):
        replaced = [mixed[0] if other == k else one for other, one in enumerate(mixed)]
        columns = torch.stack([*replaced, *others], dim=1)
        without = (weights[:, :, None, None, None] * columns).sum(1)
        found = advance.metrics["pull"][k]
        assert found is not None and found.min() > 0.001
        torch.testing.assert_close(found, rms(taken - without), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("cls", [SuperDiffAnd, SuperDiffOr])
def test_superdiff_is_displaced_from_the_targets_own_guided_step(cls: type[AggregationStrategy]) -> None:
    given = states(3, shared=True)
    advance, transition = step_of(make_strategy(cls, step="ddpm"), given, 0, 1.0)
    target = given[0]
    guided = target.unconditional_epsilon + SCALES[0] * (target.epsilon - target.unconditional_epsilon)
    alone = transition.sample(target.latents, guided, target.noise)
    torch.testing.assert_close(advance.metrics["displacement"][0], rms(advance.latents[0] - alone))  # type: ignore[operator]


def test_the_coefficients_of_a_spherical_mean_of_three_orthogonal_samples() -> None:
    given = states(3, shared=False)
    # Unit vectors along three axes after the step: sqrt(1/2) of each of two, then the third a third of the way.
    strategy = make_strategy(Slerp)
    strategy.begin(3, 10)
    transition = transitions(SCHEDULE, 10, 0.0)[0]
    for k, state in enumerate(given):
        aim = torch.zeros(SHAPE, dtype=torch.float64)
        aim[:, 0, 0, k] = 1
        state.noise_prediction = torch.zeros(SHAPE, dtype=torch.float64)
        state.latents = aim * math.sqrt(transition.alpha_cumprod / transition.alpha_cumprod_previous)
    advance = strategy.advance(Step(0, 10, transition.timestep), given, transition)
    n = math.prod(SHAPE[1:])
    # Two units that are orthogonal lie sqrt(2) apart.
    second = math.sin(math.pi / 3) * math.sqrt(1 / 2) * math.sqrt(2 / n)
    third = math.sin(math.pi / 6) * math.sqrt(2 / n)
    for found, expected in zip(advance.metrics["pull"][1:], (second, third), strict=True):
        torch.testing.assert_close(found, torch.full((2,), expected, dtype=torch.float64))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_tensor_on_the_arc_is_the_weighted_sum_it_says(fraction: float) -> None:
    first, second = draw(1), 2 * draw(2)
    second[1] = 3 * first[1]
    between, kept, joined = slerp_with_coefficients(first, second, fraction)
    torch.testing.assert_close(between, kept * first + joined * second)
    zero = torch.zeros_like(first)
    _, kept, joined = slerp_with_coefficients(zero, second, 0.3)
    assert torch.as_tensor(kept).isfinite().all() and torch.as_tensor(joined).isfinite().all()


@pytest.mark.parametrize("cls", [Linear, EpsilonAverage, AMDM, Slerp, Composable, Alternate, Relay])
def test_a_trace_has_pulls_where_the_target_says_what_it_would_have_done(cls: type[AggregationStrategy]) -> None:
    latents = draw(0).float()
    _, trace = run_toys(toy_providers(3), make_strategy(cls, steps=4), [latents] * 3, 6)
    known = {(row.index, row.provider) for row in trace.rows if "pull" in row.metrics}
    taking_turns = cls in (Alternate, Relay)
    assert known == (set() if taking_turns else {(index, k) for index in range(4) for k in (1, 2)})
    assert all(len(row.metrics["pull"]) == 2 for row in trace.rows if "pull" in row.metrics)


def test_the_mean_moves_with_the_noise_prediction_by_its_weight() -> None:
    for eta in (0.0, 0.6, 1.0):
        for transition in transitions(SCHEDULE, 10, eta):
            latents, epsilon, change = draw(1), draw(2), draw(3)
            moved = transition.mean(latents, epsilon + change) - transition.mean(latents, epsilon)
            torch.testing.assert_close(moved, transition.noise_weight * change)
