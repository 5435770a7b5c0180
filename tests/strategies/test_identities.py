"""Identities between strategies and with the target alone, and the declared cost, beyond the contract of them all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import StepReport
from amdm_framework.strategies.alternate import Alternate
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy, WindowedStrategy
from amdm_framework.strategies.builtin import BUILTIN_STRATEGIES
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.instance_relay import InstanceRelay
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.strategies.slerp import Slerp, slerp
from amdm_framework.strategies.superdiff import SuperDiffAnd, SuperDiffOr
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, seeded_noise, toy_providers

SHAPE = (4, 8, 8)
STEPS = 6
GUIDANCE = Guidance(scale=3.0)
WINDOWED = [cls for cls in BUILTIN_STRATEGIES if issubclass(cls, WindowedStrategy)]


def by_name(cls: type[AggregationStrategy]) -> str:
    return cls.name


def run(
    strategy: AggregationStrategy,
    seeds: list[int],
    eta: float,
    count: int = 2,
    independent: bool = False,
    **arguments: Any,
) -> torch.Tensor:
    latents = [initial_latents(seeds, SHAPE, salt=k if independent else 0) for k in range(count)]
    noise = seeded_noise(seeds, SHAPE)
    masks = torch.zeros(len(seeds), 2, *SHAPE[1:])
    for image, seed in enumerate(seeds):
        masks[image, 0, seed % 4 : seed % 4 + 3, 1:5] = 1
    final, _ = run_toys(toy_providers(count, SHAPE), strategy, latents, STEPS, eta, noise, GUIDANCE, masks, **arguments)
    assert final.isfinite().all()
    return final


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (AMDM, {"weights": [1.0], "steps": STEPS}),
        (Slerp, {"weights": [1.0], "steps": STEPS}),
        (Linear, {"shares": [1.0, 0.0], "steps": STEPS}),
        (Linear, {"shares": [1.0, 0.0], "steps": STEPS, "keep_norm": True}),
        (EpsilonAverage, {"shares": [1.0, 0.0], "steps": STEPS}),
        (Alternate, {"order": [0]}),
    ],
    ids=lambda value: value.name if isinstance(value, type) else "-".join(value),
)
@pytest.mark.parametrize("count", [2, 3])
def test_all_weight_on_the_target_is_the_target_alone_bit_for_bit(
    cls: type[AggregationStrategy], options: dict[str, Any], count: int
) -> None:
    padded = dict(options)
    if count == 3 and "weights" in options:
        padded["weights"] = [1.0, 1.0]
    if count == 3 and "shares" in options:
        padded["shares"] = [1.0, 0.0, 0.0]
    alone = run(make_strategy(Single), [1, 2], 0.0, count)
    assert torch.equal(run(make_strategy(cls, **padded), [1, 2], 0.0, count), alone)


def evaluations(cls: type[AggregationStrategy], n: int, t: int, s: int) -> list[int]:
    """What every provider of n costs over t steps with a window of the first s steps, as the docstrings say."""
    if cls is AMDMAuthors:
        return [t] + [s + 1] * (n - 1)
    if cls is Alternate:
        return [t - s + -(-s // n)] + [-(-(s - k) // n) for k in range(1, n)]
    if cls is Relay:
        return [t - s] + ([s] if n == 2 else [(s + 1) // 2, s // 2])
    return [t] + [s] * (n - 1)


@pytest.mark.parametrize("cls", WINDOWED, ids=by_name)
@pytest.mark.parametrize(("n", "t", "s"), [(2, 50, 3), (3, 10, 3), (2, 10, 1), (3, 10, 7)])
def test_evaluations_are_those_declared(cls: type[AggregationStrategy], n: int, t: int, s: int) -> None:
    providers = toy_providers(n, SHAPE)
    latents = initial_latents([1], SHAPE)
    _, trace = run_toys(providers, make_strategy(cls, steps=s), [latents] * n, t, 1.0, guidance=GUIDANCE)
    expected = evaluations(cls, n, t, s)
    assert [len(provider.calls) for provider in providers] == expected
    assert trace.evaluations == {f"toy{k}": expected[k] for k in range(n)}
    assert trace.total_evaluations == sum(expected)
    if cls not in (AMDMAuthors, Alternate, Relay):
        assert trace.total_evaluations == t + (n - 1) * s


def test_the_published_settings_cost_what_the_algorithm_needs() -> None:
    for n, t, total in ((2, 50, 53), (3, 10, 16)):
        latents = initial_latents([1], SHAPE)
        _, trace = run_toys(toy_providers(n, SHAPE), make_strategy(AMDM), [latents] * n, t)
        assert trace.total_evaluations == total


@pytest.mark.parametrize("cls", [Composable, SuperDiffAnd, SuperDiffOr], ids=by_name)
def test_conjunctions_need_one_unconditional_half(cls: type[AggregationStrategy]) -> None:
    providers = toy_providers(3, SHAPE)
    latents = initial_latents([1], SHAPE)
    run_toys(providers, make_strategy(cls, steps=2), [latents] * 3, 5, 1.0, guidance=Guidance(scale=2.0))
    assert [step.guided for step in providers[0].calls] == [True] * 5
    assert [step.guided for step in providers[1].calls] == [False] * 2
    assert [step.guided for step in providers[2].calls] == [False] * 2


def test_epsilon_average_equals_linear_where_states_are_equal() -> None:
    """One deterministic step from shared latents: samples are affine in the prediction."""
    shares = {"shares": [0.7, 0.3], "steps": 1}
    torch.testing.assert_close(
        run(make_strategy(EpsilonAverage, **shares), [1], 0.0), run(make_strategy(Linear, **shares), [1], 0.0)
    )


def test_composable_of_one_concept_is_guidance() -> None:
    """With all its scale on the target the conjunction is the target's own classifier-free guidance."""
    found = run(make_strategy(Composable, scales=[3.0, 0.0]), [1], 0.0)
    torch.testing.assert_close(found, run(make_strategy(Single), [1], 0.0))


def test_the_window_may_open_later() -> None:
    """Until then the target is alone, and the secondaries enter from its latents."""
    seen: list[StepReport] = []
    providers = toy_providers(2, SHAPE)
    latents = [initial_latents([1], SHAPE), initial_latents([1], SHAPE, salt=4)]
    run_toys(providers, make_strategy(AMDM, window=[2, 4]), latents, STEPS, on_step_end=seen.append)
    assert [step.index for step in providers[1].calls] == [2, 3]
    assert torch.equal(seen[2].states[1].latents, seen[2].states[0].latents)
    alone: list[StepReport] = []
    run_toys(toy_providers(2, SHAPE), make_strategy(Single), latents, STEPS, on_step_end=alone.append)
    assert torch.equal(seen[1].latents[0], alone[1].latents[0])
    assert not torch.equal(seen[2].latents[0], alone[2].latents[0])


@pytest.mark.parametrize(
    "cls", [EpsilonAverage, Composable, Alternate, Relay, InstanceRelay, SuperDiffAnd, SuperDiffOr], ids=by_name
)
def test_shared_latents_are_one_tensor_and_begin_at_the_targets(cls: type[AggregationStrategy]) -> None:
    seen: list[StepReport] = []
    run(make_strategy(cls), [1, 2], 1.0, 3, independent=True, on_step_end=seen.append)
    target = initial_latents([1, 2], SHAPE)
    assert all(torch.equal(state.latents, target) for state in seen[0].states)
    assert all(latents is seen[0].latents[0] for latents in seen[0].latents)


def test_alternate_takes_turns_in_the_given_order() -> None:
    providers = toy_providers(3, SHAPE)
    latents = initial_latents([1], SHAPE)
    run_toys(providers, make_strategy(Alternate, order=[2, 0, 1], window=[1, 6]), [latents] * 3, 8)
    turns = {step.index: k for k, provider in enumerate(providers) for step in provider.calls}
    assert [turns[index] for index in range(8)] == [0, 2, 0, 1, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "count", "runners"),
    [
        ({"steps": 3}, 2, [1, 1, 1]),
        ({"steps": 3}, 3, [1, 1, 2]),
        ({"steps": 1}, 3, [1]),
        ({"steps": 4, "shares": [1, 3]}, 3, [1, 2, 2, 2]),
        ({"steps": 4, "shares": [0, 1]}, 3, [2, 2, 2, 2]),
        ({"steps": 4, "shares": [1, 0]}, 3, [1, 1, 1, 1]),
        ({"window": [1, 4]}, 2, [0, 1, 1, 1]),
    ],
)
def test_relay_hands_over_in_order(options: dict[str, Any], count: int, runners: list[int]) -> None:
    providers = toy_providers(count, SHAPE)
    latents = initial_latents([1], SHAPE)
    run_toys(providers, make_strategy(Relay, **options), [latents] * count, 6)
    turns = {step.index: k for k, provider in enumerate(providers) for step in provider.calls}
    assert [turns[index] for index in range(6)] == runners + [0] * (6 - len(runners))


def test_relay_is_plain_sampling_of_whoever_runs() -> None:
    providers = toy_providers(2, SHAPE)
    latents = initial_latents([1], SHAPE)
    found, _ = run_toys(providers, make_strategy(Relay, steps=6), [latents, latents], 6)
    alone, _ = run_toys(toy_providers(2, SHAPE)[1:], make_strategy(Single), [latents], 6)
    assert torch.equal(found, alone)


def test_shares_are_scaled_to_sum_to_one() -> None:
    for cls in (Linear, EpsilonAverage):
        scaled = run(make_strategy(cls, shares=[3, 1]), [1], 0.0)
        torch.testing.assert_close(scaled, run(make_strategy(cls, shares=[0.75, 0.25]), [1], 0.0))
        equal = run(make_strategy(cls), [1], 0.0, 3)
        torch.testing.assert_close(equal, run(make_strategy(cls, shares=[1, 1, 1]), [1], 0.0, 3))


def test_a_spherical_fold_gives_samples_that_are_alike_equal_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64)
    around = [middle + 1e-3 * torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)]
    folded = slerp(slerp(around[0], around[1], 1 / 2), around[2], 1 / 3)
    torch.testing.assert_close(folded, sum(around) / 3, rtol=0, atol=1e-5)


def test_the_published_codes_members_keep_their_own_trajectories_before_the_window() -> None:
    seen: list[StepReport] = []
    latents = [initial_latents([1], SHAPE), initial_latents([1], SHAPE, salt=4)]
    run_toys(toy_providers(2, SHAPE), make_strategy(AMDMAuthors, window=[3, 5]), latents, 8, on_step_end=seen.append)
    alone: list[StepReport] = []
    run_toys(toy_providers(2, SHAPE)[1:], make_strategy(Single), latents[1:], 8, on_step_end=alone.append)
    assert torch.equal(seen[2].latents[1], alone[2].latents[0])
    assert seen[5].latents[1] is None
