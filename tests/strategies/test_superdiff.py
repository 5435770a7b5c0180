"""SuperDiff on Gaussians, whose densities are known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from amdm_framework.errors import InputError
from amdm_framework.provider import NoisePrediction, Step
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.strategies.superdiff import (
    ReverseStep,
    SuperDiffAnd,
    SuperDiffOr,
    and_weights,
    log_density_changes,
    or_weights,
)
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULE,
    ToyProvider,
    initial_latents,
    make_strategy,
    run_toys,
    toy_providers,
)

SHAPE = (4, 16, 16)


def sigma(alpha_cumprod: float) -> float:
    return math.sqrt((1 - alpha_cumprod) / alpha_cumprod)


def log_density(y: torch.Tensor, mean: float, variance: float, level: float) -> torch.Tensor:
    """Log density of N(mean, variance + level^2) at every sample of (B, C, H, W)."""
    total = variance + level**2
    return (-0.5 * (y - mean) ** 2 / total - 0.5 * math.log(2 * math.pi * total)).flatten(1).sum(-1)


def exact_prediction(y: torch.Tensor, mean: float, variance: float, level: float) -> torch.Tensor:
    return level * (y - mean) / (variance + level**2)


class GaussianProvider(ToyProvider):
    """The exact noise prediction for data N(mean, variance); its unconditional half is that of N(0, 1)."""

    def __init__(self, mean: float, variance: float, name: str) -> None:
        super().__init__(torch.zeros(SHAPE), name=name)
        self.mean, self.variance = mean, variance

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        alpha_cumprod = float(STABLE_DIFFUSION_SCHEDULE.alphas_cumprod[step.timestep])
        y, level = latents / math.sqrt(alpha_cumprod), sigma(alpha_cumprod)
        unconditional = exact_prediction(y, 0.0, 1.0, level) if step.guided else None
        return NoisePrediction(exact_prediction(y, self.mean, self.variance, level), unconditional)


def run_pair(
    strategy: AggregationStrategy, means: tuple[float, ...], steps: int, scale: float, seeds: int = 16
) -> tuple[torch.Tensor, list[StepReport], Any]:
    providers = [GaussianProvider(mean, 0.5, f"gaussian{k}") for k, mean in enumerate(means)]
    latents = initial_latents(range(seeds), SHAPE).double()
    seen: list[StepReport] = []
    final, trace = run_toys(
        providers,
        strategy,
        [latents] * len(means),
        steps,
        1.0,
        guidance=Guidance(scale=scale),
        on_step_end=seen.append,
    )
    return final, seen, trace


def test_log_density_follows_a_gaussian_along_a_wrong_path() -> None:
    """The path is that of another, wrong prediction; the estimate must still follow the true density."""
    grid = transitions(STABLE_DIFFUSION_SCHEDULE, 500, 1.0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(50, *SHAPE, generator=generator, dtype=torch.float64)
    first, last = sigma(grid[0].alpha_cumprod), sigma(grid[-1].alpha_cumprod_previous)
    y = first * noise
    start = log_density(y, 0.2, 0.5, first)
    estimate = torch.zeros(1, 50, dtype=torch.float64)
    for transition in grid:
        step, level = ReverseStep.euler(transition), sigma(transition.alpha_cumprod)
        wrong = exact_prediction(y, -0.1, 0.8, level)
        draw = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        increment = step.drift * wrong + step.noise * draw
        right = exact_prediction(y, 0.2, 0.5, level)
        estimate = estimate + log_density_changes(step, increment, right[None])
        y = y + increment
    true = log_density(y, 0.2, 0.5, last) - start
    # The changes are thousands of nats; what the wrong sign on |v|^2 would leave is of their own size.
    assert true.abs().mean() > 1000
    assert (estimate[0] - true).mean().abs() / true.abs().mean() < 0.02


@pytest.mark.parametrize("steps", [50, 200])
@pytest.mark.parametrize("kind", ["ddpm", "euler"])
def test_log_density_ratio_of_two_gaussians(kind: str, steps: int) -> None:
    """What weights depend on is the ratio, which a wrong constant in either change would spoil."""
    strategy = make_strategy(SuperDiffOr, step=kind)
    _, seen, _ = run_pair(strategy, (0.3, -0.3), steps, 1.0)
    last = seen[-1].transition.alpha_cumprod_previous
    assert seen[-1].latents[0] is not None
    y, level = seen[-1].latents[0] / math.sqrt(last), sigma(last)
    true = log_density(y, 0.3, 0.5, level) - log_density(y, -0.3, 0.5, level)
    start = seen[0].states[0].latents / math.sqrt(seen[0].transition.alpha_cumprod)
    first = sigma(seen[0].transition.alpha_cumprod)
    true -= log_density(start, 0.3, 0.5, first) - log_density(start, -0.3, 0.5, first)
    densities = strategy._log_densities
    found = densities[0] - densities[1]
    assert true.abs().mean() > 100
    relative = (found - true).abs().mean() / true.abs().mean()
    assert relative < (0.15 if steps == 50 else 0.05)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["ddpm", "euler"])
@pytest.mark.parametrize("scale", [1.0, 4.0, -2.0])
def test_and_makes_all_log_densities_change_equally(count: int, kind: str, scale: float) -> None:
    strategy = make_strategy(SuperDiffAnd, step=kind)
    providers = toy_providers(3, SHAPE) + toy_providers(1, SHAPE, seed=9)
    latents = initial_latents([1, 2], SHAPE).double()
    _, trace = run_toys(providers[:count], strategy, [latents] * count, 5, 1.0, guidance=Guidance(scale=scale))
    steps = [[row for row in trace.rows if row.index == index] for index in range(5)]
    for rows in steps:
        changes = torch.tensor([row.metrics["log_density_change"] for row in rows], dtype=torch.float64)
        kappa = torch.tensor([row.metrics["kappa"] for row in rows], dtype=torch.float64)
        torch.testing.assert_close(changes, changes[:1].expand_as(changes), rtol=1e-8, atol=1e-6)
        torch.testing.assert_close(kappa.sum(0), torch.ones(2, dtype=torch.float64))


def test_and_of_two_models_has_a_closed_form() -> None:
    generator = torch.Generator().manual_seed(3)
    v1, v2, unconditional, z = (torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(4))
    transition = transitions(STABLE_DIFFUSION_SCHEDULE, 10, 1.0)[3]
    step, g = ReverseStep.euler(transition), 4.0
    difference = sigma(transition.alpha_cumprod_previous) - sigma(transition.alpha_cumprod)
    start = 2 * difference * (unconditional + g * (v2 - unconditional)) + step.noise * z

    def dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return (left * right).flatten(1).sum(-1)

    d = v1 - v2
    expected = (-abs(difference) * (dot(v1, v1) - dot(v2, v2)) - dot(start, d)) / (2 * difference * g * dot(d, d))
    kappa = and_weights(step, torch.stack([v1, v2]), unconditional, g, z)
    torch.testing.assert_close(kappa[0], expected, rtol=1e-9, atol=1e-9)


def test_and_gives_equal_predictions_equal_weights() -> None:
    generator = torch.Generator().manual_seed(3)
    v, w, unconditional, z = (torch.randn(2, *SHAPE, generator=generator) for _ in range(4))
    step = ReverseStep.ddpm(transitions(STABLE_DIFFUSION_SCHEDULE, 10, 1.0)[3])
    # The mean of three equal numbers may differ from them in the last bit.
    fine = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    for equal in ([v, v], [v] * 3, [fine] * 3, [fine] * 5):
        same = and_weights(step, torch.stack(equal), unconditional, 4.0, z)
        torch.testing.assert_close(same, torch.full_like(same, 1 / len(equal)))
    nothing = torch.zeros_like(v)
    assert and_weights(step, torch.stack([nothing] * 3), nothing, 4.0, z).isfinite().all()
    unguided = and_weights(step, torch.stack([v, w]), unconditional, 0.0, z)
    torch.testing.assert_close(unguided, torch.full_like(unguided, 0.5))
    pair = and_weights(step, torch.stack([v, w]), unconditional, 4.0, z)
    triple = and_weights(step, torch.stack([v, v, w]), unconditional, 4.0, z)
    torch.testing.assert_close(triple[0], triple[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(triple[2], pair[1], rtol=1e-6, atol=1e-6)


def test_and_settles_between_two_gaussians_and_or_chooses_one() -> None:
    both, _, _ = run_pair(make_strategy(SuperDiffAnd), (0.3, -0.3), 50, 1.0)
    assert both.mean((1, 2, 3)).abs().max() < 0.05
    one, _, trace = run_pair(make_strategy(SuperDiffOr), (0.3, -0.3), 50, 1.0)
    means = one.mean((1, 2, 3))
    assert (means.abs() > 0.2).all()
    assert (means > 0).any() and (means < 0).any()
    final_weight = torch.tensor([row.metrics["kappa"] for row in trace.rows if row.index == 49])
    assert torch.equal(final_weight[0] > 0.5, means > 0)


def test_the_ddpm_step_keeps_the_noise_level_that_the_next_timestep_expects() -> None:
    """Variance of the latents after the first of 10 steps, relative to the marginal; the published step overshoots."""
    ratios = {}
    for kind in ("ddpm", "euler"):
        _, seen, _ = run_pair(make_strategy(SuperDiffAnd, step=kind), (0.3, -0.3), 10, 1.0)
        assert seen[0].latents[0] is not None
        expected = math.sqrt(1 - 0.5 * seen[0].transition.alpha_cumprod_previous)
        ratios[kind] = float(seen[0].latents[0].std()) / expected
    assert ratios["ddpm"] == pytest.approx(1.0, abs=0.03)
    assert ratios["euler"] == pytest.approx(1.47, abs=0.03)


def test_the_mixture_of_one_prediction_takes_the_grids_own_step() -> None:
    transition = transitions(STABLE_DIFFUSION_SCHEDULE, 10, 1.0)[2]
    step = ReverseStep.ddpm(transition)
    generator = torch.Generator().manual_seed(1)
    x, v, z = (torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    found = step.next_scale * (x / step.scale + step.drift * v + step.noise * z)
    torch.testing.assert_close(found, transition.sample(x, v, lambda: z))


def test_or_weights_are_a_softmax_over_models() -> None:
    densities = torch.tensor([[0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    expected = torch.softmax(0.5 * densities, 0)
    torch.testing.assert_close(or_weights(densities, 0.5), expected)
    torch.testing.assert_close(or_weights(1e4 * densities, 1.0)[:, 1], torch.tensor([1.0, 0.0]).double())
    torch.testing.assert_close(or_weights(densities, 0.0), torch.full((2, 2), 0.5).double())


def test_priors_shift_the_first_weights() -> None:
    strategy = make_strategy(SuperDiffOr, log_priors=[math.log(0.8), math.log(0.2)])
    _, _, trace = run_pair(strategy, (0.3, -0.3), 10, 1.0, seeds=2)
    first = [row.metrics["kappa"][0] for row in trace.rows if row.index == 0]
    assert first == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("kind", ["ddpm", "euler"])
@pytest.mark.parametrize("cls", [SuperDiffAnd, SuperDiffOr])
def test_a_last_step_without_noise_is_taken(cls: type[AggregationStrategy], kind: str) -> None:
    """With `set_alpha_to_one` the grid ends at noise level 0."""
    from amdm_framework.latents import NoiseSchedule

    schedule = NoiseSchedule(STABLE_DIFFUSION_SCHEDULE.alphas_cumprod, final_alpha_cumprod=1.0)
    providers = [ToyProvider(torch.ones(SHAPE), b=b, schedule=schedule, name=f"toy{b}") for b in (0.2, 0.4)]
    latents = initial_latents([1], SHAPE)
    final, _ = run_toys(providers, make_strategy(cls, step=kind), [latents, latents], 10, 1.0)
    assert final.isfinite().all()


@pytest.mark.parametrize("cls", [SuperDiffAnd, SuperDiffOr])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_run_without_full_noise_is_refused_before_the_first_evaluation(
    cls: type[AggregationStrategy], eta: float
) -> None:
    providers = toy_providers(2, SHAPE)
    latents = initial_latents([1], SHAPE)
    with pytest.raises(InputError, match=f"sampler.eta: eta is {eta:g}, expected 1: `{cls.name}`"):
        run_toys(providers, make_strategy(cls), [latents, latents], 10, eta)
    assert not providers[0].calls
    run_toys(providers, make_strategy(cls, steps=0), [latents, latents], 10, eta)
