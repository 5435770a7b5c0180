"""The transition and its conversions against `diffusers.DDIMScheduler` and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from amdm_framework.errors import InputError
from amdm_framework.latents import NoiseSchedule
from amdm_framework.provider import Step
from amdm_framework.sampling.transition import to_epsilon, transitions
from amdm_framework.strategies.single import Single
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULE,
    STABLE_DIFFUSION_SCHEDULER,
    ToyProvider,
    make_strategy,
    run_toys,
)

SHAPE = (2, 4, 8, 8)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_whole_runs_equal_the_ddim_scheduler(
    prediction_type: str, spacing: str, set_alpha_to_one: bool, eta: float, steps: int
) -> None:
    config: dict[str, Any] = {
        **STABLE_DIFFUSION_SCHEDULER,
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "set_alpha_to_one": set_alpha_to_one,
    }
    provider = ToyProvider(draw(1)[0], a=0.6, schedule=NoiseSchedule.from_scheduler_config(config))
    noise = [draw(100 + index) for index in range(steps)]

    def recorded(member: int, step: Step) -> torch.Tensor:
        return noise[step.index]

    found, _ = run_toys([provider], make_strategy(Single), [draw(2)], steps, eta, recorded)

    scheduler = DDIMScheduler(**config, clip_sample=False)
    # With its tables widened the scheduler differs by double rounding alone. As it is, it rounds 1 - a to float32,
    # which is 7e-5 of it at the last step; that error is the reference's own.
    exact = DDIMScheduler(**config, clip_sample=False)
    exact.alphas_cumprod = exact.alphas_cumprod.double()
    exact.final_alpha_cumprod = exact.final_alpha_cumprod.double()
    for reference, tolerance in ((scheduler, 5e-6), (exact, 1e-11)):
        reference.set_timesteps(steps)
        latents = draw(2)
        for index, timestep in enumerate(reference.timesteps.tolist()):
            prediction = provider.predict_noise(latents, Step(index, steps, timestep, guided=False), None).conditional
            latents = reference.step(prediction, timestep, latents, eta=eta, variance_noise=noise[index]).prev_sample
        assert (found - latents).abs().max() <= tolerance * latents.abs().max()
    assert [step.timestep for step in provider.calls[:steps]] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("timestep", [999, 500, 0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_prediction_type_says_the_same(timestep: int, dtype: torch.dtype) -> None:
    alpha_cumprod = float(STABLE_DIFFUSION_SCHEDULE.alphas_cumprod[timestep])
    signal, level = math.sqrt(alpha_cumprod), math.sqrt(1 - alpha_cumprod)
    original, epsilon = draw(3), draw(4)
    latents = (signal * original + level * epsilon).to(dtype)
    velocity = signal * epsilon - level * original
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for prediction_type, prediction in (("epsilon", epsilon), ("v_prediction", velocity), ("sample", original)):
        found = to_epsilon(prediction.to(dtype), latents, alpha_cumprod, prediction_type)  # type: ignore[arg-type]
        torch.testing.assert_close(found, epsilon.to(dtype), rtol=0, atol=tolerance)


def test_original_sample_and_noise_are_inverse() -> None:
    for transition in transitions(STABLE_DIFFUSION_SCHEDULE, 10):
        original = transition.original_sample(draw(5), draw(6))
        torch.testing.assert_close(transition.noise_from_original(draw(5), original), draw(6), rtol=0, atol=1e-12)


def test_marginal_variance_is_that_of_the_next_timestep() -> None:
    """With the true noise as prediction the step lands on the next marginal: the property that forces the formula."""
    for eta in (0.0, 0.5, 1.0):
        for transition in transitions(STABLE_DIFFUSION_SCHEDULE, 10, eta):
            original, epsilon = draw(7), draw(8)
            a = transition.alpha_cumprod
            latents = math.sqrt(a) * original + math.sqrt(1 - a) * epsilon
            rest = transition.mean(latents, epsilon) - math.sqrt(transition.alpha_cumprod_previous) * original
            factor = float((rest * epsilon).sum() / (epsilon * epsilon).sum())
            assert factor**2 + transition.std**2 == pytest.approx(1 - transition.alpha_cumprod_previous, abs=1e-12)


def test_known_grid_and_factors() -> None:
    """The factors on x and eps at t = 981 and t = 901 that separate the right formula from the paper's misprint."""
    grid = transitions(STABLE_DIFFUSION_SCHEDULE, 50)
    assert [transition.timestep for transition in grid][:3] == [981, 961, 941]
    assert grid[-1].timestep == 1
    assert grid[-1].alpha_cumprod_previous == pytest.approx(0.99915, abs=1e-6)
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    for transition, on_x, on_epsilon in (
        (grid[0], 1.123, -0.123),
        (transitions(STABLE_DIFFUSION_SCHEDULE, 10)[0], 1.615, None),
    ):
        assert float(transition.mean(one, zero)) == pytest.approx(on_x, abs=5e-4)
        if on_epsilon is not None:
            assert float(transition.mean(zero, one)) == pytest.approx(on_epsilon, abs=5e-4)


def test_a_step_without_noise_returns_its_mean_and_draws_nothing() -> None:
    transition = transitions(STABLE_DIFFUSION_SCHEDULE, 10)[0]
    mean = transition.mean(draw(1), draw(2))
    assert transition.add_noise(mean, lambda: pytest.fail("noise was drawn")) is mean


@pytest.mark.parametrize(
    ("steps", "eta", "changes", "message"),
    [
        (10, 1.5, {}, "sampler.eta is 1.5"),
        (10, -0.1, {}, "sampler.eta is -0.1"),
        (10, math.nan, {}, "sampler.eta is nan"),
        (0, 0.0, {}, "sampler.steps is 0"),
        (1001, 0.0, {}, "expected 1 to 1000"),
        (1000, 0.0, {}, "beyond the last training timestep 999"),
        (10, 0.0, {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, "zero terminal SNR"),
        (10, 0.0, {"rescale_betas_zero_snr": True, "timestep_spacing": "linspace"}, "zero terminal SNR"),
        (10, 0.0, {"timestep_spacing": "karras"}, "timestep_spacing is 'karras'"),
    ],
)
def test_grids_that_cannot_be_are_refused(steps: int, eta: float, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        transitions(NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION_SCHEDULER, **changes}), steps, eta)


def test_a_zero_terminal_snr_schedule_works_where_the_grid_avoids_its_last_timestep() -> None:
    config = {**STABLE_DIFFUSION_SCHEDULER, "rescale_betas_zero_snr": True}
    grid = transitions(NoiseSchedule.from_scheduler_config(config), 10)
    assert grid[0].timestep == 901
    assert grid[0].alpha_cumprod > 0


def test_a_prediction_type_without_conversion_is_refused() -> None:
    with pytest.raises(InputError, match="flow_prediction"):
        NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION_SCHEDULER, "prediction_type": "flow_prediction"})
