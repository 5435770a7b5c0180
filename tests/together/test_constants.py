"""What is constant in a run is computed once: predictions stay equal, runs stay apart, weights may be anywhere."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from ip_adapter_files import picture

from amdm_framework.models.context import LoadContext
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.plugins import discover
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from amdm_framework.scene import Scene

OPTIONS: dict[str, dict[str, Any]] = {
    "stable_diffusion": {"checkpoint": "sd"},
    "interactdiffusion": {"checkpoint": "interactdiffusion", "scheduled_sampling_beta": 0.8},
    "migc": {"checkpoint": "MIGC_SD14.ckpt", "base": "sd", "migc_steps": 0, "naive_fuser_steps": 1},
    "ip_adapter": {"checkpoint": "ip-adapter_sd15.safetensors", "image_encoder": "image_encoder", "base": "sd"},
}
STEPS = 3
HEIGHT, WIDTH = 64, 48

Load = Callable[[str], StableDiffusionProvider]


@pytest.fixture(scope="module")
def load(models: Path) -> Load:
    def load_provider(name: str) -> StableDiffusionProvider:
        spec = discover().provider(name)
        context = LoadContext(torch.device("cpu"), torch.float32, base_dir=models)
        provider = spec.load(spec.options(**OPTIONS[name]), context)
        assert isinstance(provider, StableDiffusionProvider)
        return provider

    return load_provider


@pytest.fixture(scope="module", params=OPTIONS)
def named(request: pytest.FixtureRequest, load: Load) -> tuple[str, StableDiffusionProvider]:
    """One provider per kind of model, for tests that leave it as it was."""
    return request.param, load(request.param)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def conditions(name: str, word: str = "cat") -> list[Any]:
    """Return conditions of three images that differ in all that a batch may differ in, one of a longer prompt."""
    spec = discover().provider(name)
    box, other = (0.1, 0.1, 0.5, 0.9), (0.4, 0.2, 0.9, 0.8)
    found = []
    for image, caption in enumerate((f"a {word}", f"a {word} on a mat, " * 8, f"two {word}s")):
        scene = Scene.model_validate(
            {
                "caption": caption,
                "negative": "grey",
                "instances": {"one": {"phrase": word, "box": box}, "two": {"phrase": "a dog", "box": other}},
                "interactions": [{"subject": "one", "action": "chasing", "object": "two"}],
                "references": [{"role": "style", "image": picture(image)}],
            }
        )
        found.append(spec.condition_from_scene(scene, spec.options(**OPTIONS[name])))
    if name == "ip_adapter":
        (reference,) = found[0].references
        found[0] = found[0].model_copy(update={"references": (reference.model_copy(update={"box": box}), reference)})
    return found


def settings(guided: bool = True, **others: Any) -> RunSettings:
    return RunSettings(HEIGHT, WIDTH, STEPS, guided, (3, 4, 5), **others)


def latents() -> torch.Tensor:
    return torch.randn(3, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))


def step(index: int, guided: bool = True) -> Step:
    return Step(index, STEPS, 901 - 300 * index, guided)


def run(
    provider: StableDiffusionProvider, conditioning: TextConditioning, guided_steps: range = range(STEPS)
) -> list[NoisePrediction]:
    return [
        provider.predict_noise(latents(), step(index, index in guided_steps), conditioning) for index in range(STEPS)
    ]


def assert_equal(found: list[NoisePrediction], expected: list[NoisePrediction], tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.conditional, other.conditional, rtol=0, atol=tolerance)
        assert (one.unconditional is None) == (other.unconditional is None)
        if one.unconditional is not None:
            torch.testing.assert_close(one.unconditional, other.unconditional, rtol=0, atol=tolerance)


@pytest.mark.parametrize("guided_steps", [range(STEPS), range(1, 2), range(0)], ids=["guided", "interval", "unguided"])
def test_predictions_equal_those_of_layers_that_project_at_every_step(
    named: tuple[str, StableDiffusionProvider], guided_steps: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, provider = named
    own = conditions(name)
    if name == "ip_adapter":
        # Masks are handed to diffusers' processors in another way, which the plugin's own tests compare.
        own[0] = own[2]
    conditioning = provider.encode(own, settings(bool(guided_steps)))
    found = run(provider, conditioning, guided_steps)
    monkeypatch.setattr(provider, "cross_attentions", [])
    monkeypatch.setattr("amdm_plugin_interactdiffusion.provider.grounded", lambda *_: nullcontext())
    groups = [replace(group, texts=dict.fromkeys(Rows, ())) for group in conditioning.groups]
    assert_equal(found, run(provider, replace(conditioning, groups=groups), guided_steps))


def test_layers_project_the_text_once_per_run(named: tuple[str, StableDiffusionProvider]) -> None:
    name, provider = named
    projections = [matrix for layer in provider.cross_attentions for matrix in (layer.to_k, layer.to_v)]
    if name == "ip_adapter":
        for processor in provider.adapter.processors:  # type: ignore[attr-defined]
            projections += [*processor.to_k_ip, *processor.to_v_ip]
    assert len(provider.cross_attentions) == 4
    calls: list[torch.nn.Module] = []
    handles = [matrix.register_forward_hook(lambda module, *_: calls.append(module)) for matrix in projections]
    # With guidance, in one group of prompts.
    conditioning = provider.encode(conditions(name)[::2], RunSettings(HEIGHT, WIDTH, STEPS, True, (3, 4)))
    assert set(calls) == set(projections)
    calls.clear()
    for index in range(STEPS):
        provider.predict_noise(latents()[::2], step(index, index > 0), conditioning)
    for handle in handles:
        handle.remove()
    assert calls == []


def test_halves_one_after_the_other_equal_both_at_once(named: tuple[str, StableDiffusionProvider]) -> None:
    name, provider = named
    expected = run(provider, provider.encode(conditions(name), settings()), range(1, 2))
    rows: list[int] = []
    handle = provider.unet.conv_in.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    conditioning = provider.encode(conditions(name), settings(sequential_guidance=True))
    found = run(provider, conditioning, range(1, 2))
    handle.remove()
    assert_equal(found, expected)
    images = [len(group.conditional) for group in conditioning.groups]
    assert sum(images) == 3
    assert rows == [*images, *[count for count in images for _ in range(2)], *images]


def test_interleaved_runs_do_not_mix(named: tuple[str, StableDiffusionProvider]) -> None:
    name, provider = named
    first, second = (provider.encode(conditions(name, word), settings()) for word in ("cat", "house"))
    alone = [[provider.predict_noise(latents(), step(index), one) for index in range(2)] for one in (first, second)]
    assert (alone[0][0].conditional - alone[1][0].conditional).abs().max() > 1e-3
    for index in range(2):
        for conditioning, expected in zip((first, second), alone, strict=True):
            found = provider.predict_noise(latents(), step(index), conditioning)
            assert_equal([found], [expected[index]], 0)


def test_what_a_run_made_goes_with_its_conditioning(named: tuple[str, StableDiffusionProvider]) -> None:
    name, provider = named
    conditioning = provider.encode(conditions(name), settings())
    provider.predict_noise(latents(), step(0), conditioning)
    keys = weakref.ref(conditioning.groups[0].texts[Rows.BOTH][0][0])
    del conditioning
    gc.collect()
    assert keys() is None


class OneAtATime(ModelHook):  # type: ignore[misc]
    """Of several networks only the one called last has its weights, as if the others were on another device."""

    def __init__(self, network: torch.nn.Module, others: list[OneAtATime]) -> None:
        self.execution_device = torch.device("cpu")
        self.weights = {parameter: parameter.data for parameter in network.parameters()}
        self.missing = {parameter: torch.full_like(parameter, torch.nan) for parameter in network.parameters()}
        self.others = others

    def put(self, values: dict[torch.Tensor, torch.Tensor]) -> None:
        for parameter, value in values.items():
            parameter.data = value

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for other in self.others:
            other.put(other.missing)
        self.put(self.weights)
        return args, kwargs


@pytest.mark.parametrize("how", ["networks", "layers"])
@pytest.mark.parametrize("name", OPTIONS)
def test_offloaded_weights(load: Load, name: str, how: str) -> None:
    """Hooks of accelerate that bring back a network when it is called, or a layer from the meta device."""
    provider = load(name)
    own = conditions(name)
    expected = provider.predict_noise(latents(), step(0), provider.encode(own, settings()))
    networks = [module for name, module in provider.modules().items() if name != "vae"]
    hooks: list[OneAtATime] = []
    with torch.inference_mode(False):
        for network in networks:
            if how == "layers":
                accelerate.cpu_offload(network, execution_device=torch.device("cpu"))
                assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
            else:
                hooks.append(OneAtATime(network, hooks))
                add_hook_to_module(network, hooks[-1])
        for hook in hooks:
            hook.put(hook.missing)
    assert_equal([provider.predict_noise(latents(), step(0), provider.encode(own, settings()))], [expected])
