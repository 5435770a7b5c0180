"""The networks against recorded outputs of the original implementation, module by module and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from interactdiffusion_golden import TOKENIZER_INPUTS, read_case, read_tensors, tiny_unet, tokenizer_of

from amdm_framework.latents import NoiseSchedule
from amdm_framework.sampling.transition import transitions
from amdm_plugin_interactdiffusion.fuser import Fuser, fusers_of, grounded, project_grounding
from amdm_plugin_interactdiffusion.grounding_tokens import GroundingTokenizer, between_boxes, fourier_features
from amdm_plugin_interactdiffusion.strength_schedule import StrengthSchedule

TOLERANCE = 1e-4
LATENTS_TOLERANCE = 2e-4


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["cond", "uncond", "short", "odd_boxes"])
def test_grounding_tokens_are_the_recorded_ones(name: str) -> None:
    recorded = read_tensors("grounding_tokenizer")
    tokenizer = tokenizer_of(read_tensors("unet_tiny", "weights"))
    inputs = {key: recorded[f"{name}.{key}"] for key in TOKENIZER_INPUTS}
    assert_close(between_boxes(inputs["subject_boxes"], inputs["object_boxes"]), recorded[f"{name}.between_boxes"], 0)
    if f"{name}.fourier_subject" in recorded:
        features = fourier_features(inputs["subject_boxes"], tokenizer.frequencies)
        assert_close(features, recorded[f"{name}.fourier_subject"], 1e-6)
    assert_close(tokenizer(**inputs), recorded[f"{name}.tokens"], 1e-5)


def test_null_tokens_are_those_of_empty_slots() -> None:
    tokenizer = tokenizer_of(read_tensors("unet_tiny", "weights"))
    expected = read_tensors("unet_tiny")["tokens_null"]
    assert_close(tokenizer.null_tokens().expand_as(expected), expected, 1e-5)


def test_what_an_empty_slot_holds_does_not_leak() -> None:
    recorded = read_tensors("grounding_tokenizer")
    tokenizer = tokenizer_of(read_tensors("unet_tiny", "weights"))
    inputs = {key: recorded[f"short.{key}"].clone() for key in TOKENIZER_INPUTS}
    for key in TOKENIZER_INPUTS:
        if key != "masks":
            inputs[key][:, 1] = float("nan")
    assert_close(tokenizer(**inputs), recorded["short.tokens"], 1e-5)


def test_fourier_features_are_float32_for_half_precision_networks() -> None:
    recorded = read_tensors("grounding_tokenizer")
    exact = tokenizer_of(read_tensors("unet_tiny", "weights"))
    half = tokenizer_of(read_tensors("unet_tiny", "weights")).to(torch.bfloat16)
    inputs = {key: recorded[f"cond.{key}"] for key in TOKENIZER_INPUTS}
    assert fourier_features(inputs["subject_boxes"], 8).dtype == torch.float32
    scale = exact(**inputs).abs().mean()
    assert (half(**inputs).float() - exact(**inputs)).abs().mean() < 0.02 * scale


@pytest.mark.parametrize(("strength", "name"), [(1.0, "out_scale1"), (0.5, "out_scale0_5"), (0.0, "out_scale0")])
def test_fuser_is_the_recorded_one(strength: float, name: str) -> None:
    recorded = read_tensors("gated_self_attention")
    fuser = Fuser(**read_case("gated_self_attention")["config"])
    fuser.load_state_dict(read_tensors("gated_self_attention", "weights"))
    with grounded([fuser], [fuser.project(recorded["objs"])], fuser.gates()[None], strength):
        assert_close(fuser(recorded["x"], torch.empty(0)), recorded[name], 1e-5)


def test_fuser_equals_the_uncached_layer_of_diffusers() -> None:
    torch.manual_seed(0)
    theirs = GatedSelfAttentionDense(query_dim=48, context_dim=20, n_heads=3, d_head=16)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Fuser(query_dim=48, context_dim=20, n_heads=3, d_head=16)
    ours.load_state_dict(theirs.state_dict())
    x, tokens = torch.randn(2, 35, 48), torch.randn(2, 90, 20)
    assert_close(ours(x, tokens), theirs(x, tokens), 1e-5)
    with grounded([ours], [ours.project(tokens)], ours.gates()[None], 1.0):
        assert_close(ours(x, torch.empty(0)), theirs(x, tokens), 1e-5)


class RecordedUNet:
    """The recorded UNet, driven from recorded inputs."""

    def __init__(self) -> None:
        self.unet: UNet2DConditionModel
        self.tokenizer: GroundingTokenizer
        self.unet, self.tokenizer = tiny_unet()
        self.io = read_tensors("unet_tiny")
        inputs = {key: self.io[f"grounding.{key}"] for key in TOKENIZER_INPUTS}
        self.tokens = self.tokenizer(**inputs)
        self.null_tokens = self.tokenizer.null_tokens().expand_as(self.tokens)

    def __call__(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor | int,
        context: torch.Tensor,
        tokens: torch.Tensor,
        strength: float = 1.0,
    ) -> torch.Tensor:
        projected = project_grounding(self.unet, tokens)
        kwargs = {"gligen": {"objs": tokens}} if strength else None
        with grounded(fusers_of(self.unet), projected.keys_and_values, projected.gates, strength):
            result: torch.Tensor = self.unet(x, timesteps, context, cross_attention_kwargs=kwargs).sample
        return result

    def guided(self, x: torch.Tensor, timesteps: torch.Tensor | int, strength: float = 1.0) -> torch.Tensor:
        scale = read_case("unet_tiny")["guidance_scale"]
        contexts = torch.cat([self.io["uncond_context"], self.io["context"]])
        tokens = torch.cat([self.null_tokens, self.tokens])
        twice = torch.cat([timesteps, timesteps]) if isinstance(timesteps, torch.Tensor) else timesteps
        unconditional, conditional = self(torch.cat([x, x]), twice, contexts, tokens, strength).chunk(2)
        return unconditional + scale * (conditional - unconditional)


@pytest.fixture(scope="module")
def recorded() -> RecordedUNet:
    with torch.inference_mode():
        return RecordedUNet()


def test_tokens_of_the_recorded_unet(recorded: RecordedUNet) -> None:
    assert_close(recorded.tokens, recorded.io["tokens_cond"], 1e-5)
    assert_close(recorded.null_tokens, recorded.io["tokens_null"], 1e-5)


@pytest.mark.parametrize(
    ("name", "context", "tokens", "strength"),
    [
        ("eps_cond", "context", "tokens", 1.0),
        ("eps_uncond", "uncond_context", "null_tokens", 1.0),
        ("eps_null", "context", "null_tokens", 1.0),
        ("eps_cond_scale0_5", "context", "tokens", 0.5),
        ("eps_fuser_off", "context", "tokens", 0.0),
    ],
)
def test_noise_predictions_are_the_recorded_ones(
    recorded: RecordedUNet, name: str, context: str, tokens: str, strength: float
) -> None:
    io = recorded.io
    actual = recorded(io["x"], io["t"], io[context], getattr(recorded, tokens), strength)
    assert_close(actual, io[name], 1e-5)


def test_guided_noise_prediction_in_one_batch(recorded: RecordedUNet) -> None:
    io = recorded.io
    assert_close(recorded.guided(io["x"], io["t"]), io["eps_guided"], 2e-5)


def test_strength_zero_equals_fusers_not_called(recorded: RecordedUNet) -> None:
    io = recorded.io
    projected = project_grounding(recorded.unet, recorded.tokens)
    kwargs = {"gligen": {"objs": recorded.tokens}}
    with grounded(fusers_of(recorded.unet), projected.keys_and_values, projected.gates, 0.0):
        called = recorded.unet(io["x"], io["t"], io["context"], cross_attention_kwargs=kwargs)
    assert torch.equal(called.sample, recorded.unet(io["x"], io["t"], io["context"]).sample)


def test_every_transformer_block_has_a_fuser(recorded: RecordedUNet) -> None:
    assert len(fusers_of(recorded.unet)) == 7


def _strengths(alpha_type: Sequence[float] | None, count: int) -> list[float]:
    full, falling, _ = alpha_type or (1.0, 0.0, 0.0)
    schedule = StrengthSchedule(full=full, falling=falling)
    return [schedule.at(index, count) for index in range(count)]


@pytest.mark.parametrize("name", ["ddim_full", "ddim_sched"])
def test_ddim_runs_through_the_frameworks_transitions(recorded: RecordedUNet, name: str) -> None:
    run = read_case("unet_tiny")["samplers"][name]
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    grid = transitions(NoiseSchedule.from_scheduler_config(scheduler.config), run["steps"])
    assert [transition.timestep for transition in grid] == run["timesteps"]
    strengths = _strengths(run["alpha_type"], run["steps"])
    assert strengths == pytest.approx(run["fuser_scale_per_step"])
    x = recorded.io["x"]
    for transition, strength in zip(grid, strengths, strict=True):
        x = transition.mean(x, recorded.guided(x, transition.timestep, strength))
    assert_close(x, recorded.io[f"latents_{name}"], LATENTS_TOLERANCE)


@pytest.mark.parametrize("name", ["plms_full", "plms_sched"])
def test_plms_runs_through_diffusers_scheduler(recorded: RecordedUNet, name: str) -> None:
    run = read_case("unet_tiny")["samplers"][name]
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(run["steps"])
    strengths = _strengths(run["alpha_type"], run["steps"])
    assert strengths == pytest.approx(run["fuser_scale_per_step"])
    x = recorded.io["x"]
    for index, timestep in enumerate(scheduler.timesteps):
        # The scheduler evaluates the first step twice; the original counts both evaluations as one step.
        epsilon = recorded.guided(x, int(timestep), strengths[max(index - 1, 0)])
        x = scheduler.step(epsilon, timestep, x).prev_sample
    assert_close(x, recorded.io[f"latents_{name}"], LATENTS_TOLERANCE)


def test_strength_schedules_are_the_recorded_ones() -> None:
    for row in read_case("schedule")["strength"]:
        if row["scale"] is not None:
            assert _strengths(row["alpha_type"], row["length"]) == pytest.approx(row["scale"], abs=1e-6)


def test_strength_schedules_the_original_refuses() -> None:
    assert _strengths([0.7, 0.2, 0.1], 25) == pytest.approx([1.0] * 17 + [0.8, 0.6, 0.4, 0.2, 0.0] + [0.0] * 3)
    assert len(_strengths([0.0, 0.49, 0.51], 100)) == 100


def test_strength_truncates_step_counts_as_diffusers_does() -> None:
    assert sum(_strengths([0.58, 0.0, 0.42], 50)) == 28


def test_noise_schedule_is_the_recorded_one() -> None:
    case = read_case("schedule")
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
              "set_alpha_to_one": False}  # fmt: skip
    schedule = NoiseSchedule.from_scheduler_config(config)
    for index, value in case["alphas_cumprod"].items():
        assert float(schedule.alphas_cumprod[int(index)]) == pytest.approx(value, abs=1e-6)
    for steps, timesteps in case["timesteps"].items():
        assert [transition.timestep for transition in transitions(schedule, int(steps))] == timesteps
