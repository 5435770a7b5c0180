"""Guidance against diffusers' guiders and closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.provider import NoisePrediction, Step
from amdm_framework.sampling.guidance import Guidance, Guider
from amdm_framework.strategies.single import Single
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, toy_providers

SHAPE = (3, 4, 8, 8)


def halves(seed: int) -> NoisePrediction:
    generator = torch.Generator().manual_seed(seed)
    return NoisePrediction(torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator))


@pytest.mark.parametrize("kind", ["cfg", "cfg_zero_star", "apg"])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_every_kind_equals_its_guider_over_a_run(kind: str, rescale: float) -> None:
    count = 4
    guider = Guider(Guidance(kind=kind, scale=5.0, rescale=rescale), count)  # type: ignore[arg-type]
    reference: Any
    if kind == "apg":
        reference = AdaptiveProjectedGuidance(
            5.0, adaptive_projected_guidance_rescale=15.0, eta=0.0, guidance_rescale=rescale
        )
        reference.momentum_buffer = MomentumBuffer(-0.5)
    elif kind == "cfg":
        reference = ClassifierFreeGuidance(5.0, guidance_rescale=rescale)
    else:
        reference = ClassifierFreeZeroStarGuidance(5.0, zero_init_steps=0, guidance_rescale=rescale)
    for index in range(count):
        reference.set_state(step=index, num_inference_steps=count, timestep=None)
        prediction = halves(index)
        expected = reference.forward(prediction.conditional, prediction.unconditional).pred
        assert torch.equal(guider.combine(prediction, index), expected)


def test_cfg_and_rescale_have_closed_forms() -> None:
    prediction = halves(0)
    conditional, unconditional = prediction.conditional, prediction.unconditional
    assert unconditional is not None
    plain = unconditional + 7.5 * (conditional - unconditional)
    torch.testing.assert_close(Guider(Guidance(scale=7.5), 10).combine(prediction, 3), plain)
    found = Guider(Guidance(scale=7.5, rescale=0.6), 10).combine(prediction, 3)
    torch.testing.assert_close(found, rescale_noise_cfg(plain, conditional, 0.6))
    standard_deviation = conditional.std(dim=(1, 2, 3), keepdim=True) / plain.std(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, plain * (0.6 * standard_deviation + 0.4))


def test_zero_star_projects_the_unconditional_half() -> None:
    prediction = halves(1)
    conditional, unconditional = prediction.conditional, prediction.unconditional
    assert unconditional is not None
    inner = (conditional * unconditional).sum((1, 2, 3)) / (unconditional**2).sum((1, 2, 3))
    projected = inner[:, None, None, None] * unconditional
    found = Guider(Guidance(kind="cfg_zero_star", scale=3.0), 10).combine(prediction, 0)
    torch.testing.assert_close(found, projected + 3.0 * (conditional - projected), rtol=1e-4, atol=1e-5)


def test_apg_without_momentum_and_threshold_removes_the_parallel_part() -> None:
    prediction = halves(2)
    conditional, unconditional = prediction.conditional, prediction.unconditional
    assert unconditional is not None
    guidance = Guidance(kind="apg", scale=4.0, momentum=0.0, norm_threshold=1e9)
    change = Guider(guidance, 10).combine(prediction, 0) - unconditional
    torch.testing.assert_close((change * conditional).sum((1, 2, 3)), torch.zeros(3), rtol=0, atol=2e-3)
    guidance = Guidance(kind="apg", scale=4.0, momentum=0.0, norm_threshold=1e9, parallel=1.0)
    everything = Guider(guidance, 10).combine(prediction, 0)
    torch.testing.assert_close(everything, unconditional + 4.0 * (conditional - unconditional), rtol=1e-4, atol=1e-4)


def test_every_run_starts_with_its_own_momentum() -> None:
    guidance = Guidance(kind="apg", scale=4.0)
    first, second = Guider(guidance, 10), Guider(guidance, 10)
    first.combine(halves(0), 0)
    assert not torch.equal(first.combine(halves(1), 1), second.combine(halves(1), 1))


@pytest.mark.parametrize("kind", ["cfg", "cfg_zero_star", "apg"])
def test_an_image_of_a_batch_is_guided_as_if_it_were_alone(kind: str) -> None:
    whole, alone = (Guider(Guidance(kind=kind, scale=5.0, rescale=0.5), 3) for _ in range(2))  # type: ignore[arg-type]
    for index in range(3):
        prediction = halves(index)
        assert prediction.unconditional is not None
        one = NoisePrediction(prediction.conditional[1:2], prediction.unconditional[1:2])
        torch.testing.assert_close(whole.combine(prediction, index)[1:2], alone.combine(one, index))


@pytest.mark.parametrize(
    ("guidance", "active"),
    [
        (Guidance(scale=5.0), range(10)),
        (Guidance(scale=5.0, start=0.2, stop=0.6), range(2, 6)),
        (Guidance(scale=5.0, stop=0.0), range(0)),
        (Guidance(scale=1.0), range(0)),
        (Guidance(kind="apg", scale=5.0, start=0.5), range(5, 10)),
        (Guidance(kind="cfg_zero_star", scale=5.0, stop=0.3), range(3)),
    ],
)
def test_the_unconditional_half_is_computed_in_the_interval_alone(guidance: Guidance, active: range) -> None:
    (provider,) = toy_providers(1)
    run_toys([provider], make_strategy(Single), [initial_latents([0], (4, 8, 8))], 10, guidance=guidance)
    assert [step.guided for step in provider.calls] == [index in active for index in range(10)]


def test_outside_the_interval_the_run_is_the_conditional_one() -> None:
    (provider,) = toy_providers(1)
    latents = initial_latents([0, 1], (4, 8, 8))
    off, _ = run_toys([provider], make_strategy(Single), [latents], 10, guidance=Guidance(scale=5.0, stop=0.0))
    conditional, _ = run_toys([provider], make_strategy(Single), [latents], 10, guidance=Guidance(scale=1.0))
    assert torch.equal(off, conditional)


def test_a_provider_without_the_half_it_was_asked_for_is_named() -> None:
    (provider,) = toy_providers(1)
    full = provider.predict_noise

    def forgetful(latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        return NoisePrediction(full(latents, step, conditioning).conditional)

    provider.predict_noise = forgetful  # type: ignore[method-assign]
    with pytest.raises(InputError, match="toy0 returned no unconditional prediction at step 0"):
        run_toys([provider], make_strategy(Single), [initial_latents([0], (4, 8, 8))], 10, guidance=Guidance(scale=2.0))


@pytest.mark.parametrize(
    ("options", "key"),
    [({"scale": float("nan")}, "scale"), ({"rescale": 1.5}, "rescale"), ({"start": 0.5, "stop": 0.2}, "stops at 0.2")],
)
def test_impossible_guidance_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Guidance(**options)
