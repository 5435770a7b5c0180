"""Batches, constants computed once, steps without a ControlNet, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

import pytest
import torch
from controlnet_files import edges

from amdm_framework.builtin.stable_diffusion import StableDiffusionOptions
from amdm_framework.builtin.stable_diffusion import load as load_plain
from amdm_framework.errors import InputError
from amdm_framework.models.offload import OffloadedWeights
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.provider import RunSettings, Step
from amdm_framework.scene import Reference
from amdm_plugin_controlnet.condition import ControlNetCondition
from amdm_plugin_controlnet.provider import load

STEPS = 5
LONG = "a bird on a branch in the rain, " * 4


def condition(prompt: str, seed: int = 0, **strength) -> ControlNetCondition:
    control = Reference(role="control", image=edges(seed))
    return ControlNetCondition(prompt=prompt, negative="grey", control=control, **strength)


MIXED = (
    condition("a red bird", 1),
    condition("a house", 2, conditioning_scale=0.4),
    condition(LONG, 3, stop=0.5),
    condition("a dog", 4, start=0.6, conditioning_scale=1.5),
    condition("a cat", 5, conditioning_scale=0.0),
    condition(LONG, 6, conditioning_scale=0.7),
)


def settings(count: int, *, guided: bool = True, width: int = 96) -> RunSettings:
    return RunSettings(64, width, STEPS, guided, tuple(range(count)))


def noise(count: int, width: int = 96) -> torch.Tensor:
    rows = [torch.randn(4, 8, width // 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    return torch.stack(rows)


def step(index: int = 2, *, guided: bool = True) -> Step:
    return Step(index, STEPS, 801 - 200 * index, guided)


def predict(provider, conditions, latents, *, index: int = 2, guided: bool = True) -> torch.Tensor:
    conditioning = provider.encode(conditions, settings(len(conditions), guided=guided, width=8 * latents.shape[-1]))
    prediction = provider.predict_noise(latents, step(index, guided=guided), conditioning)
    return torch.cat([half for half in (prediction.unconditional, prediction.conditional) if half is not None], dim=1)


@pytest.mark.parametrize(("guided", "guess_mode"), [(True, False), (False, False), (True, True)])
def test_an_image_of_a_batch_equals_the_image_alone(files, guided, guess_mode):
    """Different texts, lengths, pictures, strengths and steps."""
    provider = files.load(guess_mode=guess_mode)
    latents = noise(len(MIXED))
    for index in (1, 4):
        batch = predict(provider, MIXED, latents, index=index, guided=guided)
        for row, own in enumerate(MIXED):
            alone = predict(provider, [own], latents[row : row + 1], index=index, guided=guided)
            torch.testing.assert_close(batch[row : row + 1], alone, rtol=0, atol=2e-5)


def count_rows(provider, stack: ExitStack) -> Counter:
    """Count the rows that each network is asked about."""
    calls: Counter = Counter()
    for name, module in provider.modules().items():

        def note(_, inputs, keywords, output, name=name):
            calls[name] += len((*inputs, *keywords.values())[0])

        handle = module.register_forward_hook(note, with_kwargs=True)
        stack.callback(handle.remove)
    return calls


def test_the_control_picture_is_looked_at_once(provider):
    shared = condition("a bird", 1)
    conditions = [shared, shared.model_copy(update={"prompt": "a dog", "conditioning_scale": 0.5}), condition("a", 2)]
    with ExitStack() as stack:
        calls = count_rows(provider, stack)
        conditioning = provider.encode(conditions, settings(3))
        assert calls == {"text_encoder": 4, "control_embedding": 2}
        assert len(conditioning.groups) == 1 and conditioning.groups[0].rows is None
        calls.clear()
        for index in range(STEPS):
            provider.predict_noise(noise(3), step(index, guided=index < 4), conditioning)
        assert calls == {"unet": 4 * 6 + 3, "controlnet": 4 * 6 + 3}


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"start": 0.2, "stop": 0.7}, [1, 2]),
        ({"start": 0.9}, []),
        ({"conditioning_scale": 0.0}, []),
    ],
)
def test_the_controlnet_is_evaluated_only_where_it_acts(provider, strength, expected):
    with ExitStack() as stack:
        calls = count_rows(provider, stack)
        conditioning = provider.encode([condition("a bird", **strength)], settings(1))
        assert calls["control_embedding"] == bool(expected)
        asked = []
        for index in range(STEPS):
            calls.clear()
            provider.predict_noise(noise(1), step(index), conditioning)
            assert calls["unet"] == 2
            asked += [index] if calls["controlnet"] else []
    assert asked == expected


def test_guess_mode_leaves_the_unconditional_half_alone(files):
    provider = files.load(guess_mode=True)
    latents = noise(1)
    with ExitStack() as stack:
        calls = count_rows(provider, stack)
        unconditional, conditional = predict(provider, [condition("a bird")], latents).chunk(2, dim=1)
        assert (calls["unet"], calls["controlnet"]) == (2, 1)
    plain = predict(provider, [condition("a bird", conditioning_scale=0.0)], latents).chunk(2, dim=1)
    torch.testing.assert_close(unconditional, plain[0], rtol=0, atol=1e-6)
    assert (conditional - plain[1]).abs().max() > 0.01


def test_scale_zero_is_the_plain_model(files, provider):
    plain = load_plain(StableDiffusionOptions(checkpoint="sd"), files.context())
    conditioning = plain.encode([TextCondition(prompt="a bird", negative="grey")], settings(1))
    expected = plain.predict_noise(noise(1), step(), conditioning)
    found = predict(provider, [condition("a bird", conditioning_scale=0.0)], noise(1))
    assert torch.equal(found, torch.cat([expected.unconditional, expected.conditional], dim=1))


def test_the_base_is_shared_and_left_alone(files):
    context = files.context()
    plain = load_plain(StableDiffusionOptions(checkpoint="sd"), context)
    conditioning = plain.encode([TextCondition(prompt="a bird")], settings(1))
    before = plain.predict_noise(noise(1), step(), conditioning).conditional
    controlled = load(files.options(), context)
    assert controlled.unet.conv_in.weight is plain.unet.conv_in.weight
    predict(controlled, [condition("a bird")], noise(1))
    assert torch.equal(plain.predict_noise(noise(1), step(), conditioning).conditional, before)
    files_read = {file.component for file in context.weight_files}
    assert files_read == {"unet", "vae", "text_encoder", "controlnet"}


class ForgetfulWeights(OffloadedWeights):
    """What is not on the device cannot be used: outside of its place in main memory a weight is not a number."""

    def take_away(self, tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        super().take_away(tensors)
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = torch.full_like(self.in_main_memory[tensor], float("nan"))


@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_offloaded_weights_are_there_when_they_are_needed(files, provider, layer_by_layer):
    expected = predict(provider, MIXED[:3], noise(3), index=1)
    offloaded = files.load()
    weights = ForgetfulWeights(torch.device("cpu"))
    weights.attach(offloaded.modules().values(), layer_by_layer)
    weights.take_away(list(weights.in_main_memory))
    with torch.inference_mode():
        assert torch.equal(predict(offloaded, MIXED[:3], noise(3), index=1), expected)


def test_an_error_in_the_network_leaves_nothing_of_the_run_behind(provider):
    conditioning = provider.encode([condition("a bird")], settings(1))
    with pytest.raises(RuntimeError):
        provider.predict_noise(torch.randn(1, 3, 8, 12), step(), conditioning)
    attentions = [*provider.cross_attentions, *provider.control_attentions]
    assert attentions and all(attention.processor.text is None for attention in attentions)


def test_bad_input_is_refused_before_sampling(provider, tmp_path):
    with pytest.raises(InputError, match="the picture is 64 x 60 pixels"):
        provider.encode([condition("a bird")], RunSettings(60, 64, STEPS, True, (0,)))
    path = tmp_path / "edges.png"
    edges(0).save(path)
    broken = condition("a bird").model_copy(update={"control": Reference(role="control", image=path)})
    path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(InputError, match=r"edges\.png is not a picture"):
        provider.encode([broken], settings(1))
