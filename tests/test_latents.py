"""Definition 2 made executable: who may be aggregated with whom."""

import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from amdm_framework.errors import IncompatibleProvidersError, InputError
from amdm_framework.latents import LatentSpace, NoiseSchedule, check_compatible

STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
SPACE = LatentSpace(channels=4, scale=8, scaling_factor=0.18215, encoder_fingerprint="a" * 64)


@dataclass
class Facts:
    name: str
    latent_space: LatentSpace = SPACE
    noise_schedule: NoiseSchedule = NoiseSchedule.from_scheduler_config(STABLE_DIFFUSION)


def test_tables_equal_those_of_diffusers():
    schedule = NoiseSchedule.from_scheduler_config(STABLE_DIFFUSION)
    reference = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    assert torch.equal(schedule.alphas_cumprod, reference.alphas_cumprod)
    assert schedule.num_train_timesteps == 1000
    assert schedule.final_alpha_cumprod == float(reference.alphas_cumprod[0])


def test_derived_alphas_are_ratios_of_cumulative_ones():
    reference = DDIMScheduler()
    derived = NoiseSchedule(reference.alphas_cumprod).alphas
    assert torch.allclose(derived, reference.alphas, atol=1e-6)


def test_a_prediction_type_that_cannot_be_converted_is_refused():
    with pytest.raises(InputError, match=r"prediction_type is 'flow_prediction', expected one of epsilon"):
        NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION, "prediction_type": "flow_prediction"})


def test_equal_models_are_compatible_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_compatible([Facts("a"), Facts("b")]) == []


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_prediction_types_may_differ_since_all_become_epsilon(prediction_type):
    other = NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION, "prediction_type": prediction_type})
    assert check_compatible([Facts("a"), Facts("b", noise_schedule=other)]) == []


@pytest.mark.parametrize("changed", [{"timestep_spacing": "trailing"}, {"steps_offset": 0}, {"set_alpha_to_one": True}])
def test_the_grid_is_the_runs_choice_and_not_compared(changed):
    other = NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION, **changed})
    assert check_compatible([Facts("a"), Facts("b", noise_schedule=other)]) == []


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"channels": 16}, "latent channels"),
        ({"scale": 4}, "pixels per latent cell"),
        ({"scaling_factor": 0.13025}, "VAE scaling factor"),
        ({"encoder_fingerprint": "b" * 64}, "VAE encoder"),
    ],
)
def test_a_different_latent_space_is_refused_with_the_fact_that_differs(change, fact):
    with pytest.raises(IncompatibleProvidersError) as refusal:
        check_compatible([Facts("target"), Facts("stranger", latent_space=replace(SPACE, **change))])
    lines = str(refusal.value).splitlines()
    assert "target" in lines[1] and "stranger" in lines[1]
    assert [line.strip().startswith(fact) for line in lines[2:]] == [True]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"beta_schedule": "linear"}, "alphas_cumprod"),
        ({"rescale_betas_zero_snr": True}, "alphas_cumprod"),
        ({"num_train_timesteps": 500}, "training steps"),
    ],
)
def test_a_different_diffusion_process_is_refused(change, fact):
    other = NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION, **change})
    with pytest.raises(IncompatibleProvidersError, match=fact):
        check_compatible([Facts("target"), Facts("stranger", noise_schedule=other)])


def test_all_differences_stand_in_one_table():
    stranger = Facts(
        "stranger",
        LatentSpace(16, 8, 1.5, "b" * 64),
        NoiseSchedule.from_scheduler_config({**STABLE_DIFFUSION, "beta_schedule": "linear"}),
    )
    with pytest.raises(IncompatibleProvidersError) as refusal:
        check_compatible([Facts("target"), Facts("friend"), stranger])
    assert len(str(refusal.value).splitlines()) == 2 + 4


def test_an_unknown_fact_is_a_warning_not_a_refusal():
    unknown = Facts("mystery", replace(SPACE, encoder_fingerprint=None))
    with pytest.warns(UserWarning, match="VAE encoder is unknown for mystery"):
        assert len(check_compatible([Facts("target"), unknown])) == 1


def test_a_fact_that_nobody_states_is_listed_without_a_warning():
    unknown = [Facts(name, replace(SPACE, encoder_fingerprint=None)) for name in "abc"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_compatible(unknown) == ["VAE encoder is unknown for all: could not be compared"]
        assert check_compatible(unknown[:1]) == []


def test_rounding_of_the_same_betas_by_another_route_is_no_difference():
    alphas = NoiseSchedule.from_scheduler_config(STABLE_DIFFUSION).alphas_cumprod
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    double = torch.cumprod(1 - betas, 0).float()
    assert not torch.equal(alphas, double)
    assert check_compatible([Facts("a"), Facts("b", noise_schedule=NoiseSchedule(double))]) == []
