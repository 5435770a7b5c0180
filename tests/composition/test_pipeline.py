"""The pipeline: diffusers' calling conventions, seeds, injected noise, release of networks, and what it refuses."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amdm_framework.composition import SamplerSettings
from amdm_framework.errors import CheckpointError, IncompatibleProvidersError, InputError
from amdm_framework.pipeline import AMDMOutput, AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.provider import Step
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.scene import Scene
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.testing.closed_form import ToyProvider, initial_latents, make_strategy, toy_providers
from toy_plugin import ToyCondition, toy_registry

BUILT_IN = discover({"AMDM_NO_PLUGINS": "1"})
TOYS = toy_registry()
SCENES = [
    Scene(caption="a red circle", negative="blur"),
    Scene(caption="two blue stars"),
    Scene(caption="a green square"),
]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def toy_pipeline(aggregation: dict[str, Any] | None = None, providers: int = 2, **parts: Any) -> AMDMPipeline:
    content = {
        "providers": [{"use": "toy"}, {"use": "toy", "condition": {"prompt": "blue"}}, {"use": "toy"}][:providers],
        "aggregation": aggregation or {"strategy": "amdm", "steps": 3},
        "sampler": {"steps": 6, **parts.pop("sampler", {})},
        **parts,
    }
    return AMDMPipeline.from_composition(content, plugins=TOYS)


def real_pipeline(models: Path, **parts: Any) -> AMDMPipeline:
    content = {
        "providers": [
            {"use": "stable_diffusion", "checkpoint": str(models / "base"), "name": "base"},
            {"use": "stable_diffusion", "checkpoint": str(models / "other"), "name": "other"},
        ],
        "aggregation": {"strategy": "amdm", "steps": 2, "step_sizes": [0.1, 0.1], "step_size_unit": "rms"},
        "sampler": {"steps": 3, **parts.pop("sampler", {})},
        **parts,
    }
    return AMDMPipeline.from_composition(content, device="cpu", plugins=BUILT_IN)


def latents_of(output: AMDMOutput) -> torch.Tensor:
    return output.latents


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("initial_noise", ["shared", "independent"])
@pytest.mark.parametrize("strategy", ["amdm", "slerp"])
def test_image_i_of_a_batch_is_the_single_run_with_its_seed(eta: float, initial_noise: str, strategy: str) -> None:
    pipe = toy_pipeline({"strategy": strategy, "steps": 3}, sampler={"eta": eta, "initial_noise": initial_noise})
    batch = pipe(SCENES, generator=generators(5, 6, 7), output_type="latent")
    assert batch.seeds == (5, 6, 7)
    for index, (seed, scene) in enumerate(zip((5, 6, 7), SCENES, strict=True)):
        single = pipe(scene, generator=generators(seed), output_type="latent")
        torch.testing.assert_close(batch.latents[index : index + 1], single.latents, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(batch.latents[0], batch.latents[1], atol=0.1)


@pytest.mark.parametrize(("eta", "initial_noise"), [(0.0, "shared"), (1.0, "independent")])
def test_image_i_of_a_batch_is_the_single_run_with_real_networks(models: Path, eta: float, initial_noise: str) -> None:
    pipe = real_pipeline(models, sampler={"eta": eta, "initial_noise": initial_noise})
    batch = pipe(SCENES, generator=generators(5, 6, 7), output_type="pt")
    for index, (seed, scene) in enumerate(zip((5, 6, 7), SCENES, strict=True)):
        single = pipe(scene, generator=torch.Generator().manual_seed(seed), output_type="pt")
        torch.testing.assert_close(batch.images[index : index + 1], single.images, rtol=0, atol=2e-4)


def test_what_the_noise_settings_mean() -> None:
    def noise_seen(**sampler: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
        seen: list[torch.Tensor] = []

        def look(pipe: Any, index: int, timestep: int, kwargs: dict[str, Any]) -> None:
            if index == 0:
                seen.extend(state.latents for state in kwargs["report"].states)

        output = toy_pipeline(sampler=sampler)(SCENES[0], generator=generators(3), callback_on_step_end=look)
        return seen, output.latents

    (first, second), _ = noise_seen()
    assert torch.equal(first, second)
    (target, own), _ = noise_seen(initial_noise="independent")
    assert torch.equal(target, first) and not torch.allclose(target, own, atol=0.1)
    _, independent = noise_seen(eta=1.0)
    _, shared = noise_seen(eta=1.0, step_noise="shared")
    assert not torch.allclose(independent, shared, atol=1e-3)


def test_the_first_noise_is_what_diffusers_pipelines_draw() -> None:
    pipe = AMDMPipeline(
        toy_providers(1), make_strategy(Slerp), Guidance(scale=1), SamplerSettings(steps=1, height=64, width=64)
    )
    seen = []
    pipe(
        conditions=[[None]],
        generator=generators(11),
        callback_on_step_end=lambda pipe, index, timestep, kwargs: seen.append(kwargs["report"].states[0].latents),
    )
    torch.testing.assert_close(seen[0], torch.randn(1, 4, 8, 8, generator=generators(11)[0]), rtol=0, atol=0)


def test_one_generator_draws_a_whole_batch_and_none_draws_anew() -> None:
    pipe = toy_pipeline()
    one, two = (pipe(SCENES, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.latents, two.latents) and one.seeds == two.seeds and len(set(one.seeds)) == 3
    assert not torch.equal(pipe(SCENES[0]).latents, pipe(SCENES[0]).latents)
    drawn = pipe(SCENES[0])
    assert torch.equal(drawn.latents, pipe(SCENES[0], generator=generators(*drawn.seeds)).latents)
    with pytest.raises(InputError, match="found 2 generators for a batch of 3"):
        pipe(SCENES, generator=generators(1, 2))


def test_latents_are_taken_and_keep_double_precision() -> None:
    pipe = AMDMPipeline(toy_providers(2), make_strategy(AMDM, steps=2), Guidance(scale=1), SamplerSettings(steps=4))
    x = 5 * initial_latents([1, 2], (4, 8, 8))
    shared = pipe(latents=x, output_type="latent")
    each = pipe(latents=[x, x], output_type="latent")
    assert torch.equal(shared.latents, each.latents)
    other = pipe(latents=[x, x.flip(0)], output_type="latent")
    assert not torch.allclose(shared.latents, other.latents, atol=1e-2)
    double = pipe(latents=x.double(), output_type="latent")
    assert double.latents.dtype == torch.float64
    torch.testing.assert_close(double.latents.float(), shared.latents, rtol=1e-4, atol=1e-4)
    assert pipe(latents=x.half(), output_type="latent").latents.dtype == torch.float32


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        ([torch.zeros(1, 4, 8, 8)] * 3, "found 3 tensors for 2 providers"),
        (torch.zeros(1, 3, 8, 8), r"expected \(1, 4, H, W\)"),
        ([torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4)], r"expected \(1, 4, H, W\)"),
        (torch.zeros(4, 8, 8), r"expected \(4, 4, H, W\)"),
    ],
)
def test_latents_that_do_not_fit_are_refused(latents: Any, expected: str) -> None:
    pipe = AMDMPipeline(toy_providers(2), make_strategy(Slerp), Guidance(scale=1), SamplerSettings(steps=4))
    with pytest.raises(InputError, match=expected):
        pipe(latents=latents)


def test_injected_noise_is_asked_for_per_provider_and_step() -> None:
    asked = []

    def noise(provider: int, step: Step) -> torch.Tensor:
        asked.append((provider, step.index))
        return torch.ones(1, 4, 8, 8)

    sampler = SamplerSettings(steps=4, eta=1.0)
    pipe = AMDMPipeline(toy_providers(2), make_strategy(AMDM, steps=2), Guidance(scale=1), sampler)
    x = initial_latents([1], (4, 8, 8))
    first = pipe(latents=x, noise=noise)
    assert sorted(set(asked)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert torch.equal(first.latents, pipe(latents=x, noise=noise).latents)


def test_the_callback_sees_every_step_and_may_replace_the_latents() -> None:
    pipe = toy_pipeline()
    seen = []

    def look(pipeline: AMDMPipeline, index: int, timestep: int, kwargs: dict[str, Any]) -> None:
        seen.append((pipeline is pipe, index, timestep, tuple(kwargs["latents"].shape)))

    plain = pipe(SCENES[0], generator=generators(1), callback_on_step_end=look)
    assert [index for _, index, _, _ in seen] == list(range(6))
    assert all(same and shape == (1, 4, 8, 8) for same, _, _, shape in seen)
    assert [timestep for _, _, timestep, _ in seen] == [831, 665, 499, 333, 167, 1]

    def zero(
        pipeline: AMDMPipeline, index: int, timestep: int, kwargs: dict[str, Any]
    ) -> dict[str, torch.Tensor] | None:
        return {"latents": torch.zeros_like(kwargs["latents"])} if index == 5 else None

    replaced = pipe(SCENES[0], generator=generators(1), callback_on_step_end=zero)
    assert plain.latents.abs().max() > 0 and replaced.latents.abs().max() == 0


def test_output_types() -> None:
    pipe = toy_pipeline()
    outputs = {
        kind: pipe(SCENES[:2], generator=generators(1, 2), output_type=kind).images
        for kind in ("pil", "np", "pt", "latent")
    }
    assert all(isinstance(picture, Image.Image) and picture.size == (64, 64) for picture in outputs["pil"])
    assert outputs["np"].shape == (2, 64, 64, 3) and outputs["pt"].shape == (2, 3, 64, 64)
    assert outputs["latent"].shape == (2, 4, 8, 8)
    np.testing.assert_array_equal(outputs["np"], outputs["pt"].permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(np.asarray(outputs["pil"][1]), (outputs["np"][1] * 255).round().astype("uint8"))


def test_size_steps_guidance_and_eta_can_be_overridden_per_call() -> None:
    pipe = toy_pipeline()
    wide = pipe(SCENES[0], height=32, width=96, output_type="pt")
    assert wide.images.shape == (1, 3, 32, 96)
    assert pipe(SCENES[0], num_inference_steps=4).trace.evaluations == {"toy": 4, "toy-2": 3}
    base = pipe(SCENES[0], generator=generators(1)).latents
    assert not torch.equal(base, pipe(SCENES[0], generator=generators(1), guidance_scale=2.0).latents)
    assert not torch.equal(base, pipe(SCENES[0], generator=generators(1), eta=0.5).latents)
    configured = toy_pipeline(sampler={"height": 32, "width": 96})
    assert configured(SCENES[0], output_type="pt").images.shape == (1, 3, 32, 96)


@pytest.mark.parametrize(("steps", "window", "count"), [(6, 3, 2), (6, 0, 2), (5, 5, 3), (4, 1, 3), (3, 2, 1)])
def test_a_run_takes_t_plus_n_minus_one_times_s_evaluations(steps: int, window: int, count: int) -> None:
    pipe = toy_pipeline({"strategy": "amdm", "steps": window}, providers=count, sampler={"steps": steps})
    trace = pipe(SCENES[0]).trace
    assert trace.total_evaluations == steps + (count - 1) * (window if count > 1 else 0)


def test_the_unconditional_half_is_encoded_exactly_where_it_is_needed() -> None:
    def guided(aggregation: dict[str, Any], **guidance: Any) -> list[bool]:
        pipe = toy_pipeline(aggregation, sampler={"guidance": guidance})
        pipe(SCENES[0])
        return [provider.settings[-1].guided for provider in pipe.providers]

    assert guided({"strategy": "amdm"}, scale=5) == [True, True]
    assert guided({"strategy": "amdm"}, scale=1) == [False, False]
    assert guided({"strategy": "amdm"}, scale=5, stop=0.0) == [False, False]
    # On from the fourth of six steps, where the second member is not evaluated any more.
    assert guided({"strategy": "amdm", "steps": 3}, scale=5, start=0.5) == [True, False]
    # This strategy asks for both halves whatever a member's own guidance is.
    assert guided({"strategy": "composable"}, scale=1)[0] is True


def test_composable_runs_where_guidance_is_off() -> None:
    pipe = AMDMPipeline(
        toy_providers(2), make_strategy(Composable, scales=[3, 2]), Guidance(scale=1), SamplerSettings(steps=3)
    )
    assert torch.isfinite(pipe(latents=torch.zeros(1, 4, 8, 8)).latents).all()


def test_released_networks_are_freed_after_their_window_and_loaded_again(models: Path) -> None:
    pipe = real_pipeline(models, release=True)
    networks = [weakref.ref(provider.unet) for provider in pipe.providers]
    alive: list[list[bool]] = []

    def look(*arguments: Any) -> None:
        alive.append([network() is not None for network in networks])

    released = pipe(SCENES[0], generator=generators(3), callback_on_step_end=look)
    # A step's callback comes before its members are let go of; the window has two steps.
    assert alive == [[True, True], [True, True], [True, False]]
    again = pipe(SCENES[0], generator=generators(3))
    assert torch.equal(released.latents, again.latents)
    kept = real_pipeline(models)(SCENES[0], generator=generators(3))
    assert torch.equal(released.latents, kept.latents)


def test_weights_that_members_share_stay_shared_when_moved(models: Path) -> None:
    pipe = real_pipeline(models)
    base, other = pipe.providers
    assert pipe.to(dtype=torch.bfloat16) is pipe
    assert pipe.dtype == torch.bfloat16 and pipe.device == torch.device("cpu")
    for name, parameter in base.text_encoder.named_parameters():
        assert parameter is other.text_encoder.get_parameter(name)
    assert base.unet.conv_in.weight is not other.unet.conv_in.weight
    assert pipe(SCENES[0], generator=generators(1)).images[0].size == (64, 64)


def test_every_member_knows_the_files_it_was_read_from(models: Path) -> None:
    pipe = real_pipeline(models)
    for name in ("base", "other"):
        files = {(file.component, file.path.relative_to(models).parts[0]) for file in pipe.weight_files[name]}
        assert files == {(component, name) for component in ("unet", "vae", "text_encoder")}


def test_no_progress_bar_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    pipe = toy_pipeline()
    pipe(SCENES[0])
    assert capfd.readouterr() == ("", "")
    pipe.set_progress_bar_config(disable=False, desc="drawing")
    pipe(SCENES[0])
    captured = capfd.readouterr()
    assert captured.out == "" and "drawing: 100%" in captured.err and "6/6" in captured.err


def test_a_picture_that_is_not_finite_is_said_to_be_none() -> None:
    provider = ToyProvider(torch.full((4, 8, 8), float("inf")))
    pipe = AMDMPipeline([provider], make_strategy(Slerp), Guidance(scale=1), SamplerSettings(steps=2))
    with pytest.warns(UserWarning, match="the latents are not finite at the end"):
        output = pipe(latents=torch.zeros(1, 4, 8, 8), output_type="latent")
    assert output.warnings == [
        "the latents are not finite at the end, so there is no picture: a smaller guidance scale, step size or weight "
        "may help"
    ]


def test_half_precision_is_the_first_suspect() -> None:
    class HalfProvider(ToyProvider):
        def modules(self):
            return {"unet": torch.nn.Linear(1, 1).half()}

    pipe = AMDMPipeline([HalfProvider(torch.zeros(4, 8, 8))], make_strategy(Slerp))
    assert pipe.finite_advice == "use dtype float32 or bfloat16"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "pass a scene, or conditions, or latents"),
        ({"scene": []}, "the batch of scenes is empty"),
        ({"scene": SCENES[0], "conditions": [[None], [None]]}, "give a scene or conditions, not both"),
        ({"conditions": [[None]]}, r"expected 2 lists \(one per provider\)"),
        ({"conditions": [[None], [None, None]]}, "found lengths"),
        ({"scene": SCENES[0], "height": 60}, "height is 60, expected a positive multiple of 8"),
        ({"scene": SCENES[0], "width": -8}, "width is -8"),
        ({"scene": SCENES[0], "num_inference_steps": 1001}, "sampler.steps is 1001, expected 1 to 1000"),
        ({"scene": SCENES[0], "num_inference_steps": 0}, "sampler.steps is 0"),
        ({"scene": SCENES[0], "num_inference_steps": 2}, "the window ends at step 3, but the run has 2"),
        ({"scene": SCENES[0], "eta": 2.0}, "eta is 2.0"),
        ({"scene": Scene()}, "provider toy: a toy needs a caption"),
    ],
)
def test_calls_that_make_no_sense_are_refused_before_the_first_evaluation(arguments: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        toy_pipeline()(**arguments)


def test_conditions_can_stand_for_scenes() -> None:
    pipe = toy_pipeline()
    conditions = [
        [ToyCondition(prompt="a red circle", negative="blur")],
        [ToyCondition(prompt="blue", negative="blur")],
    ]
    first = pipe(conditions=conditions, generator=generators(1))
    assert torch.equal(first.latents, pipe(SCENES[0], generator=generators(1)).latents)


def test_what_a_provider_refuses_to_encode_is_said_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = toy_pipeline()

    def refuse(conditions: Any, settings: Any) -> None:
        raise InputError("edges.png is not a picture")

    monkeypatch.setattr(pipe.providers[1], "encode", refuse)
    with pytest.raises(InputError) as caught:
        pipe(SCENES[0], generator=generators(1))
    assert caught.value.__notes__ == [f"This is about the member {pipe.names[1]}."]


def test_providers_without_a_composition_do_not_read_scenes() -> None:
    pipe = AMDMPipeline(toy_providers(2), make_strategy(Slerp))
    with pytest.raises(InputError, match="pass `conditions`"):
        pipe(SCENES[0])


def test_a_pipeline_checks_what_it_is_made_of() -> None:
    with pytest.raises(InputError, match="at least one provider"):
        AMDMPipeline([], make_strategy(Slerp))
    with pytest.raises(InputError, match="found 1 guidances and 2 names for 2 providers"):
        AMDMPipeline(toy_providers(2), make_strategy(Slerp), [Guidance()])


def test_models_of_different_spaces_are_refused_with_a_table() -> None:
    content = {
        "providers": [{"use": "toy"}, {"use": "toy", "name": "wide", "channels": 16, "scheduler": {"beta_end": 0.02}}]
    }
    with pytest.raises(IncompatibleProvidersError) as caught:
        AMDMPipeline.from_composition(content, plugins=TOYS)
    rows = [line.split("  ") for line in str(caught.value).splitlines()[1:]]
    assert [row[1] for row in rows[1:]] == ["latent channels", "alphas_cumprod"]
    assert "toy" in str(caught.value) and "wide" in str(caught.value)


def test_a_member_that_cannot_be_loaded_is_named(models: Path) -> None:
    content = {"providers": [{"use": "stable_diffusion", "checkpoint": str(models / "bse")}]}
    with pytest.raises(CheckpointError, match="Did you mean 'base'?") as caught:
        AMDMPipeline.from_composition(content, plugins=BUILT_IN)
    assert caught.value.__notes__ == ["This is about the member stable_diffusion (providers.0)."]
