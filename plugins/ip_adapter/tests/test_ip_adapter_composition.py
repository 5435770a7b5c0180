"""The provider behind its hook: composition and scene files, with another member beside it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import yaml
from ip_adapter_files import picture

from amdm_framework.composition import read_composition
from amdm_framework.errors import InputError
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import Distribution, Plugin, PluginRegistry, discover
from amdm_framework.scene import read_scene


@pytest.fixture(scope="module")
def plugins():
    built_in = discover({"AMDM_NO_PLUGINS": "1"}).plugins
    own = Plugin(
        Distribution("amdm-plugin-ip-adapter", "0.1.0"),
        "ip_adapter",
        lambda: importlib.import_module("amdm_plugin_ip_adapter"),
    )
    return PluginRegistry([*built_in, own])


@pytest.fixture(scope="module")
def composition(files):
    path = files.folder / "composition.yaml"
    own = {"use": "ip_adapter", "checkpoint": "plus.safetensors", "base": "sd", "image_encoder": "models/image_encoder"}
    content = {
        "providers": [{"use": "stable_diffusion", "checkpoint": "sd"}, {**own, "scale": 0.8}],
        "aggregation": {"strategy": "amdm", "steps": 2, "weights": [0.5], "step_sizes": [3.0, 3.0]},
        "sampler": {"steps": 3, "height": 64, "width": 64},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def scenes(files):
    for seed in range(2):
        picture(seed).save(files.folder / f"{seed}.png")
    girl = {"girl": {"phrase": "a girl", "box": [0.0, 0.0, 0.5, 1.0]}}
    first = {"caption": "a girl", "references": [{"role": "style", "image": "0.png"}]}
    second = {
        "caption": "a girl in the rain",
        "instances": girl,
        "references": [{"role": "style", "image": "1.png", "instance": "girl"}, {"role": "style", "image": "0.png"}],
    }
    return [read_scene(one, files.folder) for one in (first, second)]


def test_a_batch_of_scenes_beside_another_member(composition, plugins, scenes):
    def draw(scene, seeds, **options):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipe(scene, generator=generators, output_type="np", **options).images

    pipe = AMDMPipeline.from_composition(composition, device="cpu", plugins=plugins)
    pipe.set_progress_bar_config(disable=True)
    plain, styled = pipe.providers
    assert plain.text_encoder.final_layer_norm.weight is styled.text_encoder.final_layer_norm.weight
    assert plain.unet.conv_in.weight is styled.unet.conv_in.weight
    both = draw(scenes, [3, 4])
    for row, scene in enumerate(scenes):
        np.testing.assert_allclose(both[row : row + 1], draw(scene, [3 + row]), rtol=0, atol=2e-4)
    assert pipe.resolved.members[1].condition(scenes[0]).strength.scale == 0.8


def test_a_scene_without_references(composition, plugins, scenes):
    member = read_composition(composition, plugins).members[1]
    with pytest.raises(InputError, match="provider ip_adapter: IP-Adapter draws after reference pictures"):
        member.condition(scenes[0].model_copy(update={"references": ()}))


def test_unknown_options_are_named(composition, plugins):
    with pytest.raises(InputError, match=r"providers\.1\.scales: unknown key. Did you mean 'scale'"):
        read_composition(composition, plugins, ["providers.1.scales=[1]"])
    with pytest.raises(InputError, match=r"providers\.1\.preset"):
        read_composition(composition, plugins, ["providers.1.preset=stile"])
