"""The provider: grounding once per run, every image on its own, no trace of a run left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import accelerate
import pytest
import torch
from diffusers import UNet2DConditionModel

from amdm_framework.builtin.stable_diffusion import SPEC as STABLE_DIFFUSION
from amdm_framework.models.context import LoadContext
from amdm_framework.models.rows import Rows
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from amdm_framework.scene import Instance
from amdm_framework.testing.tiny_models import write_diffusers_folder
from amdm_plugin_gligen.condition import GLIGENCondition
from amdm_plugin_gligen.grounding import fusers_of
from amdm_plugin_gligen.options import GLIGENOptions
from amdm_plugin_gligen.provider import GLIGENProvider, load


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def stock(model: Path) -> UNet2DConditionModel:
    """The same UNet as diffusers loads it, which computes everything anew at every step."""
    return UNet2DConditionModel.from_pretrained(model / "unet").eval()


def _load(model: Path, dtype: torch.dtype = torch.float32, beta: float = 1.0) -> GLIGENProvider:
    options = GLIGENOptions(checkpoint=str(model), scheduled_sampling_beta=beta)
    return load(options, LoadContext(torch.device("cpu"), dtype))


def _condition(count: int, prompt: str = "a cat on a mat") -> GLIGENCondition:
    places = [(0.02 * index, 0.015 * index) for index in range(count)]
    instances = tuple(
        Instance(phrase=f"thing {index}", box=(left, top, left + 0.4, top + 0.5))
        for index, (left, top) in enumerate(places)
    )
    return GLIGENCondition(prompt=prompt, negative="grey", instances=instances)


LONG_PROMPT = "a cat on a mat " * 8
MIXED = [_condition(2), _condition(0, "nothing"), _condition(30, LONG_PROMPT), _condition(5)]


def _settings(images: int, guided: bool = True, sequential: bool = False) -> RunSettings:
    return RunSettings(64, 48, 10, guided, tuple(range(images)), sequential)


def _latents(images: int) -> torch.Tensor:
    return torch.randn(images, 4, 8, 6, generator=torch.Generator().manual_seed(3))


def _step(index: int = 0, count: int = 10, guided: bool = True) -> Step:
    return Step(index, count, timestep=501, guided=guided)


def _assert_close(found: NoisePrediction, expected: NoisePrediction, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found.conditional, expected.conditional, rtol=0, atol=tolerance)
    assert (found.unconditional is None) == (expected.unconditional is None)
    if found.unconditional is not None:
        torch.testing.assert_close(found.unconditional, expected.unconditional, rtol=0, atol=tolerance)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("guided", [True, False])
def test_an_image_of_a_mixed_batch_equals_the_image_alone(
    provider: GLIGENProvider, guided: bool, sequential: bool
) -> None:
    latents, step = _latents(4), _step(guided=guided)
    together = provider.predict_noise(latents, step, provider.encode(MIXED, _settings(4, guided, sequential)))
    for image, condition in enumerate(MIXED):
        alone = provider.encode([condition], _settings(1, guided))
        row = slice(image, image + 1)
        unconditional = None if together.unconditional is None else together.unconditional[row]
        expected = provider.predict_noise(latents[row], step, alone)
        _assert_close(NoisePrediction(together.conditional[row], unconditional), expected)


@pytest.mark.parametrize("condition", [_condition(0), None], ids=["no instances", "no condition"])
def test_without_instances_all_tokens_are_null(
    provider: GLIGENProvider, stock: UNet2DConditionModel, condition: GLIGENCondition | None
) -> None:
    latents = _latents(1)
    conditioning = provider.encode([condition], _settings(1))
    nothing = {"boxes": torch.zeros(2, 30, 4), "masks": torch.zeros(2, 30)}
    nothing["positive_embeddings"] = torch.zeros(2, 30, stock.config.cross_attention_dim)
    states = conditioning.groups[0].states(Rows.BOTH)
    both = stock(torch.cat([latents, latents]), 501, states, cross_attention_kwargs={"gligen": nothing}).sample
    unconditional, conditional = both.chunk(2)
    _assert_close(provider.predict_noise(latents, _step(), conditioning), NoisePrediction(conditional, unconditional))


def test_grounding_ends_where_diffusers_ends_it(model: Path, stock: UNet2DConditionModel) -> None:
    """0.29 of 100 steps are 28, for diffusers truncates 28.999...; a run of 15 steps with 0.3 has 4."""
    latents = _latents(1)
    for beta, count, first_plain in ((0.29, 100, 28), (0.3, 15, 4), (0.0, 10, 0)):
        provider = _load(model, beta=beta)
        conditioning = provider.encode([_condition(2)], _settings(1, guided=False))
        plain = stock(latents, 501, conditioning.groups[0].conditional).sample

        def distance_from_plain(index: int) -> float:
            found = provider.predict_noise(latents, _step(index, count, False), conditioning)  # noqa: B023
            return float((found.conditional - plain).abs().max())  # noqa: B023

        assert distance_from_plain(first_plain) < 1e-5 and distance_from_plain(count - 1) < 1e-5
        assert not first_plain or distance_from_plain(first_plain - 1) > 1e-3


def test_interleaved_runs_do_not_mix(model: Path) -> None:
    provider = _load(model, beta=0.5)
    runs = [provider.encode([_condition(count)], _settings(1)) for count in (1, 3)]
    latents = _latents(1)
    alone = [[provider.predict_noise(latents, _step(index, 2), one) for index in range(2)] for one in runs]
    assert (alone[0][0].conditional - alone[1][0].conditional).abs().max() > 1e-3
    # The first run has left its grounded steps behind when the second one enters them.
    for run, index in ((0, 0), (0, 1), (1, 0), (0, 1), (1, 1), (0, 0)):
        _assert_close(provider.predict_noise(latents, _step(index, 2), runs[run]), alone[run][index], 0)


def test_a_failed_call_leaves_nothing_behind(provider: GLIGENProvider) -> None:
    conditioning = provider.encode([_condition(1)], _settings(1))
    expected = provider.predict_noise(_latents(1), _step(), conditioning)
    with pytest.raises(RuntimeError):
        provider.predict_noise(torch.zeros(1, 3, 8, 6), _step(), conditioning)
    assert all(attention.processor.text is None for attention in provider.fuser_attentions)
    _assert_close(provider.predict_noise(_latents(1), _step(), conditioning), expected, 0)


def test_everything_constant_is_computed_once_per_run(provider: GLIGENProvider) -> None:
    fusers = fusers_of(provider.unet)
    assert len(fusers) == 4
    watched = {"text encoder": provider.text_encoder, "position net": provider.position_net}
    watched |= {f"fuser {index}": fuser.linear for index, fuser in enumerate(fusers)}
    calls: Counter[str] = Counter()
    tokens: list[int] = []

    def count(name: str) -> Callable[..., None]:
        return lambda *_: calls.update([name])

    handles = [module.register_forward_pre_hook(count(name)) for name, module in watched.items()]
    for projection in (fusers[0].attn.to_q, fusers[0].attn.to_k, fusers[0].attn.to_v):
        handles.append(projection.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].shape[1])))
    conditioning = provider.encode([_condition(1), _condition(3)], _settings(2))
    assert calls == dict.fromkeys(watched, 1) | {"text encoder": 2}
    tokens.clear()
    for index in range(3):
        provider.predict_noise(_latents(2), _step(index), conditioning)
    for handle in handles:
        handle.remove()
    assert calls == dict.fromkeys(watched, 1) | {"text encoder": 2}
    # Image tokens only: 8 x 6.
    assert tokens == [48] * 9


@pytest.mark.parametrize(("dtype", "share"), [(torch.float16, 0.03), (torch.bfloat16, 0.2)])
def test_half_precision_is_close(model: Path, provider: GLIGENProvider, dtype: torch.dtype, share: float) -> None:
    half = _load(model, dtype)
    exact, found = (
        one.predict_noise(_latents(2), _step(), one.encode([_condition(1), _condition(3)], _settings(2)))
        for one in (provider, half)
    )
    error = (found.conditional.float() - exact.conditional).abs().max()
    assert 0 < error < share * exact.conditional.std()


def test_offloaded_layers_predict_the_same(model: Path, provider: GLIGENProvider) -> None:
    conditions = [_condition(1), _condition(3)]
    expected = provider.predict_noise(_latents(2), _step(), provider.encode(conditions, _settings(2)))
    offloaded = _load(model)
    with torch.inference_mode(False):
        for network in (offloaded.unet, offloaded.position_net, offloaded.text_encoder):
            accelerate.cpu_offload(network, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.unet.parameters()} == {"meta"}
    conditioning = offloaded.encode(conditions, _settings(2))
    _assert_close(offloaded.predict_noise(_latents(2), _step(), conditioning), expected)


def test_frozen_weights_are_those_of_the_base(model: Path, tmp_path: Path) -> None:
    context = LoadContext(torch.device("cpu"), torch.float32)
    base = write_diffusers_folder(tmp_path / "sd", seed=0)
    plain = STABLE_DIFFUSION.load(STABLE_DIFFUSION.options(checkpoint=str(base)), context)
    grounded = load(GLIGENOptions(checkpoint=str(model)), context)
    for name, network in plain.modules().items():
        held = dict(grounded.modules()[name].named_parameters())
        assert all(held.pop(key) is weight for key, weight in network.named_parameters())
        assert all(".fuser." in key for key in held)
        assert bool(held) == (name == "unet")
