"""The contract that every model keeps, and what this one does beyond it.

Change: the tests below `TestContract`. Compare your network with recorded outputs of its original code.
"""

from __future__ import annotations

import pytest
import torch
from amdm_framework.errors import CheckpointError
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import RunSettings, Step
from amdm_framework.scene import Instance, Scene
from safetensors.torch import load_file, save_file

from amdm_plugin_example.condition import ExampleCondition
from amdm_plugin_example.contract import ExampleContract as TestContract
from amdm_plugin_example.options import ExampleOptions
from amdm_plugin_example.provider import SPEC

BIRD = Instance(phrase="a red bird", box=(0, 0, 0.5, 0.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def options(folder):
    return TestContract().options(folder)


def load_in(folder, options):
    context = LoadContext(torch.device("cpu"), torch.float32, base_dir=folder)
    return SPEC.load(ExampleOptions(**options), context)


def predict(provider, condition, index=0):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    conditioning = provider.encode([condition], RunSettings(64, 64, 4, True, (0,)))
    return provider.predict_noise(latents, Step(index, 4, 801 - 200 * index), conditioning)


def test_boxes_act_on_the_conditional_half_and_scale_zero_is_the_base_alone(folder, options):
    provider = load_in(folder, options)
    plain = predict(provider, ExampleCondition(prompt="a bird"))
    found = predict(provider, ExampleCondition(prompt="a bird", instances=(BIRD,)))
    assert torch.equal(found.unconditional, plain.unconditional)
    assert (found.conditional - plain.conditional).abs().max() > 0.01
    switched_off = predict(provider, ExampleCondition(prompt="a bird", instances=(BIRD,), scale=0))
    assert torch.equal(switched_off.conditional, plain.conditional)


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_boxes_act_in_a_share_of_the_steps(folder, options, share):
    provider = load_in(folder, {**options, "share": share})
    for index, acts in enumerate([True, True, False, False]):
        plain = predict(provider, ExampleCondition(prompt="a bird"), index)
        found = predict(provider, ExampleCondition(prompt="a bird", instances=(BIRD,)), index)
        assert torch.equal(found.conditional, plain.conditional) != acts


def test_a_scene_gives_its_texts_and_instances(options):
    scene = Scene(caption="a bird", negative="grey", instances={"bird": BIRD})
    found = SPEC.condition_from_scene(scene, ExampleOptions(**options, scale=0.5))
    assert (found.prompt, found.negative) == ("a bird", "grey")
    assert (found.instances, found.scale) == ((BIRD,), 0.5)


def test_weights_that_do_not_fit_are_refused_by_name(folder, options):
    tensors = load_file(folder / options["checkpoint"])
    tensors["leave.weight"] = tensors.pop("enter.weight")
    save_file(tensors, folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)other\.safetensors.*missing.*enter\.weight.*leave\.weight"):
        load_in(folder, {**options, "checkpoint": "other.safetensors"})
