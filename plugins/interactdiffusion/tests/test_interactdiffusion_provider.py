"""The provider: grounding once per run, every image on its own, shared weights, and no trace of a run left behind."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from interactdiffusion_files import extension_weights, load_context, write_flat
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPTextModel

from amdm_framework.builtin.stable_diffusion import SPEC as STABLE_DIFFUSION
from amdm_framework.errors import InputError
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from amdm_framework.sampling.transition import transitions
from amdm_plugin_interactdiffusion.condition import GroundedInteraction, InteractDiffusionCondition
from amdm_plugin_interactdiffusion.fuser import fusers_of
from amdm_plugin_interactdiffusion.options import InteractDiffusionOptions
from amdm_plugin_interactdiffusion.provider import InteractDiffusionProvider, load

NEGATIVE = "lowres"


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _load(files: Path, dtype: torch.dtype = torch.float32, **options: Any) -> InteractDiffusionProvider:
    return load(InteractDiffusionOptions(**({"checkpoint": "model"} | options)), load_context(files, dtype))


def _interaction(index: int) -> GroundedInteraction:
    left, top = 0.02 * (index % 20), 0.015 * index
    return GroundedInteraction(
        subject=f"person {index}",
        subject_box=(left, top, left + 0.4, top + 0.5),
        action="feeding" if index % 2 else "riding",
        object=f"cat {index}",
        object_box=(left + 0.2, top + 0.3, 0.95, 0.99),
    )


def _condition(count: int, prompt: str = "a person is feeding a cat") -> InteractDiffusionCondition:
    interactions = tuple(map(_interaction, range(count)))
    return InteractDiffusionCondition(prompt=prompt, negative=NEGATIVE, interactions=interactions)


def _settings(images: int, guided: bool = True, height: int = 64, width: int = 64, steps: int = 10) -> RunSettings:
    return RunSettings(height, width, steps, guided, tuple(range(images)))


def _latents(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _step(index: int = 4, count: int = 10, guided: bool = True) -> Step:
    return Step(index, count, timestep=501, guided=guided)


def _assert_close(actual: NoisePrediction, expected: NoisePrediction, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual.conditional, expected.conditional, rtol=0, atol=tolerance)
    if expected.unconditional is None:
        assert actual.unconditional is None
    else:
        torch.testing.assert_close(actual.unconditional, expected.unconditional, rtol=0, atol=tolerance)


class StockDiffusers:
    """The same model out of diffusers' and transformers' own parts, which compute everything anew at every step."""

    def __init__(self, files: Path, provider: InteractDiffusionProvider) -> None:
        folder = files / "model"
        config = json.loads((folder / "unet" / "config.json").read_text())
        config["_class_name"] = "UNet2DConditionModel"
        stored = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        self.unet = UNet2DConditionModel.from_config(config).eval()
        self.unet.position_net = copy.deepcopy(provider.grounding_tokenizer)
        self.unet.load_state_dict(stored)
        assert not fusers_of(self.unet) and any(type(m) is GatedSelfAttentionDense for m in self.unet.modules())
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")

    def encode(self, texts: list[str]) -> Any:
        ids = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(ids)

    def predict(self, latents: torch.Tensor, timestep: int, condition: InteractDiffusionCondition) -> NoisePrediction:
        rows = condition.interactions
        masks = torch.zeros(2, 30)
        masks[1, : len(rows)] = 1
        inputs = {"masks": masks}
        for role in ("subject", "object", "action"):
            features = torch.zeros(2, 30, self.text_encoder.config.hidden_size)
            features[:, : len(rows)] = self.encode([getattr(row, role) for row in rows]).pooler_output
            inputs[f"{role}_positive_embeddings"] = features
        for role in ("subject", "object"):
            inputs[f"{role}_boxes"] = torch.zeros(2, 30, 4)
            inputs[f"{role}_boxes"][:, : len(rows)] = torch.tensor([getattr(row, f"{role}_box") for row in rows])
        text = self.encode([condition.negative, condition.prompt]).last_hidden_state
        grounding = {"gligen": inputs}
        both = self.unet(latents.repeat(2, 1, 1, 1), timestep, text, cross_attention_kwargs=grounding).sample
        unconditional, conditional = both.chunk(2)
        return NoisePrediction(conditional, unconditional)


@pytest.fixture(scope="module")
def stock(files: Path, provider: InteractDiffusionProvider) -> StockDiffusers:
    return StockDiffusers(files, provider)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_predictions_equal_diffusers_uncached_network(
    provider: InteractDiffusionProvider, stock: StockDiffusers, count: int
) -> None:
    condition, latents = _condition(count), _latents(1, 4, 8, 8)
    conditioning = provider.encode([condition], _settings(1))
    _assert_close(provider.predict_noise(latents, _step(), conditioning), stock.predict(latents, 501, condition))


def test_non_square_latents_equal_diffusers(provider: InteractDiffusionProvider, stock: StockDiffusers) -> None:
    condition, latents = _condition(2), _latents(1, 4, 6, 10)
    conditioning = provider.encode([condition], _settings(1, height=48, width=80))
    _assert_close(provider.predict_noise(latents, _step(), conditioning), stock.predict(latents, 501, condition))
    assert provider.decode(latents).shape == (1, 3, 48, 80)


def test_a_whole_run_equals_diffusers_scheduler_and_network(
    files: Path, provider: InteractDiffusionProvider, stock: StockDiffusers
) -> None:
    condition, scale, steps = _condition(2), 4.0, 4
    scheduler = DDIMScheduler.from_pretrained(files / "model" / "scheduler")
    scheduler.set_timesteps(steps)
    ours = theirs = _latents(1, 4, 8, 8)
    conditioning = provider.encode([condition], _settings(1, steps=steps))
    grid = transitions(provider.noise_schedule, steps)
    for index, (transition, timestep) in enumerate(zip(grid, scheduler.timesteps, strict=True)):
        assert transition.timestep == int(timestep)
        prediction = provider.predict_noise(ours, Step(index, steps, transition.timestep), conditioning)
        assert prediction.unconditional is not None
        epsilon = prediction.unconditional + scale * (prediction.conditional - prediction.unconditional)
        ours = transition.mean(ours, epsilon)
        reference = stock.predict(theirs, int(timestep), condition)
        assert reference.unconditional is not None
        epsilon = reference.unconditional + scale * (reference.conditional - reference.unconditional)
        theirs = scheduler.step(epsilon, timestep, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


LONG_PROMPT = "a person is feeding a cat " * 5


@pytest.mark.parametrize("guided", [True, False])
def test_an_image_of_a_batch_equals_the_image_alone(provider: InteractDiffusionProvider, guided: bool) -> None:
    conditions = [_condition(1), _condition(30, LONG_PROMPT), _condition(4, "two cats")]
    latents = _latents(3, 4, 8, 8)
    step = _step(guided=guided)
    together = provider.predict_noise(latents, step, provider.encode(conditions, _settings(3, guided)))
    for image, condition in enumerate(conditions):
        alone = provider.predict_noise(latents[image, None], step, provider.encode([condition], _settings(1, guided)))
        row = slice(image, image + 1)
        unconditional = None if together.unconditional is None else together.unconditional[row]
        _assert_close(NoisePrediction(together.conditional[row], unconditional), alone)


def test_grounding_matters(provider: InteractDiffusionProvider) -> None:
    latents = _latents(1, 4, 8, 8)
    one, two = (
        provider.predict_noise(latents, _step(), provider.encode([_condition(count)], _settings(1))) for count in (1, 2)
    )
    assert (one.conditional - two.conditional).abs().max() > 1e-3
    assert one.unconditional is not None and two.unconditional is not None
    torch.testing.assert_close(one.unconditional, two.unconditional)


class CountedCalls:
    """Counts how often modules run."""

    def __init__(self, **modules: torch.nn.Module) -> None:
        self.counts = dict.fromkeys(modules, 0)
        self._handles = [module.register_forward_hook(self._count(name)) for name, module in modules.items()]

    def _count(self, name: str) -> Any:
        def hook(*_: Any) -> None:
            self.counts[name] += 1

        return hook

    def __enter__(self) -> dict[str, int]:
        return self.counts

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()


def test_everything_constant_is_computed_once_per_run(provider: InteractDiffusionProvider) -> None:
    fusers = fusers_of(provider.unet)
    modules = {"text_encoder": provider.text_encoder, "grounding_tokenizer": provider.grounding_tokenizer}
    modules |= {f"linear of fuser {index}": fuser.linear for index, fuser in enumerate(fusers)}
    latents = _latents(2, 4, 8, 8)
    with CountedCalls(**modules) as counts:
        conditioning = provider.encode([_condition(1), _condition(3)], _settings(2))
        assert counts == dict.fromkeys(modules, 1) | {"text_encoder": 2, "grounding_tokenizer": 2}
        after_encoding = dict(counts)
        for index in range(3):
            provider.predict_noise(latents, _step(index), conditioning)
        assert counts == after_encoding


def test_a_step_projects_image_tokens_only(provider: InteractDiffusionProvider) -> None:
    conditioning = provider.encode([_condition(2)], _settings(1))
    seen: list[int] = []
    first = fusers_of(provider.unet)[0]
    handles = [
        getattr(first.attn, name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
        for name in ("to_q", "to_k", "to_v")
    ]
    provider.predict_noise(_latents(1, 4, 8, 8), _step(), conditioning)
    for handle in handles:
        handle.remove()
    assert seen == [64, 64, 64]


def test_without_guidance_only_the_conditional_half_is_computed(provider: InteractDiffusionProvider) -> None:
    latents = _latents(2, 4, 8, 8)
    conditions = [_condition(1), _condition(3)]
    batches: list[int] = []
    handle = provider.unet.conv_in.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    both = provider.predict_noise(latents, _step(), provider.encode(conditions, _settings(2)))
    off_at_this_step = provider.predict_noise(latents, _step(guided=False), provider.encode(conditions, _settings(2)))
    off = provider.predict_noise(latents, _step(guided=False), provider.encode(conditions, _settings(2, guided=False)))
    handle.remove()
    assert batches == [4, 2, 2]
    for prediction in (off_at_this_step, off):
        _assert_close(prediction, NoisePrediction(both.conditional))


def test_strength_follows_the_schedule(files: Path, provider: InteractDiffusionProvider) -> None:
    plain = STABLE_DIFFUSION.load(STABLE_DIFFUSION.options(checkpoint="base"), load_context(files))
    latents, condition = _latents(1, 4, 8, 8), _condition(2)
    text = STABLE_DIFFUSION.condition(prompt=condition.prompt, negative=condition.negative)
    without = plain.predict_noise(latents, _step(), plain.encode([text], _settings(1)))
    grounded = provider.predict_noise(latents, _step(), provider.encode([condition], _settings(1)))

    def at(step: int, **options: Any) -> NoisePrediction:
        scheduled = copy.copy(provider)
        scheduled.strength_schedule = InteractDiffusionOptions(checkpoint="model", **options).strength_schedule()
        return scheduled.predict_noise(latents, _step(step), scheduled.encode([condition], _settings(1)))

    _assert_close(at(5, scheduled_sampling_beta=0.6), grounded)
    _assert_close(at(6, scheduled_sampling_beta=0.6), without)
    _assert_close(at(4, strength=0.0), without)
    half = at(4, strength=0.5)
    assert (half.conditional - grounded.conditional).abs().max() > 1e-3
    assert (half.conditional - without.conditional).abs().max() > 1e-3
    # Of 10 steps 2 are full, 4 fall by a quarter each from 3/4, the rest is off: step 3 is at one half.
    _assert_close(at(3, alpha_type=[0.2, 0.4, 0.4]), half)
    _assert_close(at(5, alpha_type=[0.2, 0.4, 0.4]), without)


def _state(provider: InteractDiffusionProvider) -> list[dict[str, Any]]:
    modules = [module for network in provider.modules().values() for module in network.modules()]
    return [{key: value for key, value in vars(module).items() if not key.startswith("_")} for module in modules]


def test_no_trace_of_a_run_stays_in_the_modules(provider: InteractDiffusionProvider) -> None:
    latents, condition = _latents(1, 4, 8, 8), _condition(2)
    conditioning = provider.encode([condition], _settings(1))
    before = [dict(state) for state in _state(provider)]
    first = provider.predict_noise(latents, _step(), conditioning)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = provider.unet.mid_block.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        provider.predict_noise(latents, _step(), conditioning)
    handle.remove()
    provider.encode([_condition(5)], _settings(1))
    assert all(
        a.keys() == b.keys() and all(a[k] is b[k] for k in a) for a, b in zip(before, _state(provider), strict=True)
    )
    _assert_close(provider.predict_noise(latents, _step(), conditioning), first, 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.03), (torch.bfloat16, 0.2)])
def test_half_precision_stays_near_float32(
    files: Path, provider: InteractDiffusionProvider, dtype: torch.dtype, tolerance: float
) -> None:
    latents, conditions = _latents(1, 4, 8, 8), [_condition(3)]
    exact = provider.predict_noise(latents, _step(), provider.encode(conditions, _settings(1)))
    half = _load(files, dtype)
    found = half.predict_noise(latents, _step(), half.encode(conditions, _settings(1)))
    assert found.conditional.dtype == dtype
    for name in ("conditional", "unconditional"):
        expected = getattr(exact, name)
        error = (getattr(found, name).float() - expected).abs().max() / expected.std()
        assert error < tolerance


@pytest.mark.parametrize("form", ["model", "original.pth", "ext.pth"])
def test_frozen_weights_are_shared_with_the_base_of_another_member(files: Path, tmp_path: Path, form: str) -> None:
    write_flat(files / "ext.pth", extension_weights(files / "model"))
    context = load_context(files)
    plain = STABLE_DIFFUSION.load(STABLE_DIFFUSION.options(checkpoint="base"), context)
    text = STABLE_DIFFUSION.condition(prompt="a cat", negative=NEGATIVE)
    latents = _latents(1, 4, 8, 8)
    alone = plain.predict_noise(latents, _step(), plain.encode([text], _settings(1)))
    base = None if form == "model" else "base"
    grounded = load(InteractDiffusionOptions(checkpoint=form, base=base), context)

    frozen = dict(plain.unet.named_parameters())
    own = dict(grounded.unet.named_parameters())
    assert all(own[name] is parameter for name, parameter in frozen.items())
    assert all(".fuser." in name for name in own.keys() - frozen.keys())
    for name in ("vae", "text_encoder"):
        pairs = zip(plain.modules()[name].parameters(), grounded.modules()[name].parameters(), strict=True)
        assert all(a is b for a, b in pairs)
    assert plain.unet is not grounded.unet
    adapter = sum(p.nbytes for name, p in own.items() if ".fuser." in name)
    adapter += sum(p.nbytes for p in grounded.grounding_tokenizer.parameters())
    base_bytes = unique_bytes(plain.modules().values())
    adapter += sum(buffer.nbytes for module in grounded.modules().values() for buffer in module.buffers())
    assert unique_bytes([*plain.modules().values(), *grounded.modules().values()]) == base_bytes + adapter

    grounded.predict_noise(latents, _step(), grounded.encode([_condition(2)], _settings(1)))
    after = plain.predict_noise(latents, _step(), plain.encode([text], _settings(1)))
    _assert_close(after, alone, 0)


def test_too_many_interactions(files: Path, provider: InteractDiffusionProvider) -> None:
    conditions = [_condition(2), _condition(31)]
    with pytest.raises(
        InputError, match=r"image 1 of the batch has 31 interactions, this model takes at most 30.*truncate"
    ):
        provider.encode(conditions, _settings(2))
    cutting = _load(files, too_many_interactions="truncate")
    with pytest.warns(UserWarning, match="kept the first 30 of 31"):
        conditioning = cutting.encode(conditions, _settings(2))
    expected = provider.encode([_condition(2), _condition(30)], _settings(2))
    latents = _latents(2, 4, 8, 8)
    _assert_close(
        cutting.predict_noise(latents, _step(), conditioning), provider.predict_noise(latents, _step(), expected), 0
    )


def test_a_missing_condition_is_one_sentence(provider: InteractDiffusionProvider) -> None:
    with pytest.raises(InputError, match="image 0 has no condition"):
        provider.encode([None], _settings(1))  # type: ignore[list-item]


def test_a_phrase_beyond_the_context_is_cut_with_a_warning(provider: InteractDiffusionProvider) -> None:
    condition = _condition(1)
    long = condition.interactions[0].model_copy(update={"subject": "cat " * 60})
    with pytest.warns(UserWarning, match="cut after 75 tokens"):
        provider.encode([condition.model_copy(update={"interactions": (long,)})], _settings(1))


def test_loading_warns_of_nothing(files: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _load(files)
