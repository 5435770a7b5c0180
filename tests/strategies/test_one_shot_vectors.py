"""Update rules against recorded one-shot inputs and outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.amdm import spherical_coefficients
from amdm_framework.strategies.base import AggregationStrategy, ProviderState, weighted_sum
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.strategies.superdiff import SuperDiffAnd, SuperDiffOr
from amdm_framework.testing.closed_form import make_strategy

GOLDEN = Path(__file__).parents[1] / "golden" / "amdm"
FACTS = json.loads((GOLDEN / "strategies.json").read_text())
TENSORS = load_file(GOLDEN / "strategies.safetensors")
OWN = [TENSORS[f"own_{k}"] for k in range(3)]
EPSILON = [TENSORS[f"eps_{k}"] for k in range(3)]
A, A_NEXT = FACTS["abar_t"], FACTS["abar_next"]
DDPM_STD = math.sqrt((1 - A_NEXT) / (1 - A) * (1 - A / A_NEXT))


def close(found: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(found, TENSORS[name].to(found.dtype), rtol=1e-10, atol=1e-10)


def mix(strategy: AggregationStrategy, samples: list[torch.Tensor]) -> torch.Tensor:
    """Run one step whose transition is the identity on the noise prediction, so that the samples are what is mixed."""
    strategy.begin(len(samples), 10)
    identity = Transition(timestep=1, alpha_cumprod=0.5, alpha_cumprod_previous=0.0, std=0.0, alpha=0.99)
    states = [ProviderState(torch.zeros_like(s), s, None, 1.0, s.clone) for s in samples]
    latents = strategy.advance(Step(0, 10, 1), states, identity).latents
    assert all(one is latents[0] for one in latents)
    assert latents[0] is not None
    return latents[0]


def test_slerp() -> None:
    w1, w2 = FACTS["weights"]
    close(mix(make_strategy(Slerp, weights=[w1]), OWN[:2]), "slerp_2")
    close(mix(make_strategy(Slerp, weights=[w1, w2]), OWN), "slerp_3")
    strategy = make_strategy(Slerp, weights=[w1, w2])
    strategy.begin(3, 10)
    torch.testing.assert_close(torch.tensor(strategy.fractions), torch.tensor(FACTS["slerp_fractions"]))


def test_linear() -> None:
    close(mix(make_strategy(Linear, shares=FACTS["linear_weights"]), OWN), "linear_3")
    close(mix(make_strategy(Linear, shares=FACTS["linear_weights"], keep_norm=True), OWN), "linear_3_normfix")


def test_spherical_aggregates() -> None:
    weights = FACTS["weights"]
    close(weighted_sum(spherical_coefficients(weights[:1], "paper"), OWN[:2]), "spherical_2")
    close(weighted_sum(spherical_coefficients(weights, "paper"), OWN), "spherical_3_paper")
    close(weighted_sum(spherical_coefficients(weights, "unit"), OWN), "spherical_3_unit")


def test_epsilon_average() -> None:
    close(mix(make_strategy(EpsilonAverage, shares=FACTS["linear_weights"]), EPSILON), "average_eps")


def superposition_states(count: int, guidance_scale: float) -> list[ProviderState]:
    return [
        ProviderState(
            TENSORS["x"],
            EPSILON[k],
            TENSORS["eps_uncond"] if k == 0 else None,
            guidance_scale,
            lambda: TENSORS["z"],
        )
        for k in range(count)
    ]


def test_composable() -> None:
    strategy = make_strategy(Composable, scales=FACTS["composable_guidance"])
    strategy.begin(3, 10)
    states = superposition_states(3, 1.0)
    transition = Transition(FACTS["t"], A, A_NEXT, 0.0, 0.99)
    (found, *_) = strategy.advance(Step(0, 10, FACTS["t"]), states, transition).latents
    expected = transition.mean(TENSORS["x"], TENSORS["composable_eps"])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_composable_with_every_members_own_unconditional_half() -> None:
    strategy = make_strategy(Composable, scales=[2.0, 3.0], unconditional="own")
    strategy.begin(2, 10)
    states = superposition_states(2, 1.0)
    states[1].unconditional = EPSILON[2]
    transition = Transition(FACTS["t"], A, A_NEXT, 0.0, 0.99)
    (found, *_) = strategy.advance(Step(0, 10, FACTS["t"]), states, transition).latents
    unconditional = TENSORS["eps_uncond"]
    epsilon = unconditional + 2 * (EPSILON[0] - unconditional) + 3 * (EPSILON[1] - EPSILON[2])
    torch.testing.assert_close(found, transition.mean(TENSORS["x"], epsilon), rtol=1e-10, atol=1e-10)


def check_and(count: int) -> None:
    strategy = make_strategy(SuperDiffAnd, step="euler")
    strategy.begin(count, 10)
    transition = Transition(FACTS["t"], A, A_NEXT, DDPM_STD, 0.99)
    advance = strategy.advance(Step(0, 10, FACTS["t"]), superposition_states(count, FACTS["guidance"]), transition)
    assert advance.latents[0] is not None
    close(advance.latents[0], f"and{count}_x_next")
    kappa = torch.stack([row for row in advance.metrics["kappa"] if row is not None])
    close(kappa[0] if count == 2 else kappa.T, f"and{count}_kappa")
    changes = torch.stack([row for row in advance.metrics["log_density_change"] if row is not None])
    close(changes, f"and{count}_dlog")


def test_superdiff_and_of_two_models() -> None:
    check_and(2)


def test_superdiff_and_of_three_models() -> None:
    check_and(3)


def test_superdiff_or() -> None:
    strategy = make_strategy(SuperDiffOr, step="euler", temperature=FACTS["or_temperature"])
    strategy.begin(3, 10)
    strategy._log_densities = TENSORS["or3_log_init"].double()
    transition = Transition(FACTS["t"], A, A_NEXT, DDPM_STD, 0.99)
    advance = strategy.advance(Step(0, 10, FACTS["t"]), superposition_states(3, FACTS["guidance"]), transition)
    assert advance.latents[0] is not None
    close(advance.latents[0], "or3_x_next")
    close(torch.stack([row for row in advance.metrics["kappa"] if row is not None]).T, "or3_kappa")
    close(strategy._log_densities, "or3_log_next")
