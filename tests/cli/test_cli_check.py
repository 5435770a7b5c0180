"""`amdm check`: verdict and cost from configs and file headers, compared with what loading and running then take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene
from amdm_framework.testing.tiny_models import TINY_UNET, write_diffusers_folder

Amdm = Callable[..., Result]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["aggregation={strategy: amdm, steps: 3}", "sampler.guidance={start: 0.4}"],
        ["aggregation={strategy: composable, window: [1, 3]}", "sampler.guidance_scale=1"],
    ],
)
def test_the_counted_evaluations_are_those_of_the_run(home: Path, amdm: Amdm, overrides: list[str]) -> None:
    flags = [part for override in overrides for part in ("--set", override)]
    cost = json.loads(amdm("check", "composition.yaml", "--json", *flags).stdout)
    pipe = AMDMPipeline.from_composition(
        "composition.yaml", device="cpu", plugins=discover({"AMDM_NO_PLUGINS": "1"}), overrides=overrides
    )
    rows = dict.fromkeys(pipe.names, 0)
    for provider in pipe.providers:

        def count(module: torch.nn.Module, arguments: tuple, name: str = provider.name) -> None:
            rows[name] += len(arguments[0])

        provider.unet.register_forward_pre_hook(count)
    trace = pipe(read_scene("scene.yaml")).trace
    assert {member["name"]: member["evaluations"] for member in cost["members"]} == {
        "base": 0,
        "other": 0,
    } | trace.evaluations
    assert {member["name"]: member["forward_rows"] for member in cost["members"]} == rows
    assert (cost["evaluations"], cost["forward_rows"]) == (trace.total_evaluations, sum(rows.values()))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_counted_bytes_are_those_in_memory(home: Path, amdm: Amdm, dtype: str) -> None:
    cost = json.loads(amdm("check", "composition.yaml", "--json", "--dtype", dtype).stdout)
    pipe = AMDMPipeline.from_composition("composition.yaml", "cpu", dtype, discover({"AMDM_NO_PLUGINS": "1"}))
    modules = [module for provider in pipe.providers for module in provider.modules().values()]
    assert cost["unique_bytes"] == pytest.approx(unique_bytes(modules), rel=0.005)
    assert cost["bytes"] == pytest.approx(sum(unique_bytes([module]) for module in modules), rel=0.005)
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert cost["parameters"] == pytest.approx(parameters, rel=0.005)
    shared = {component["name"]: component for component in cost["members"][1]["components"]}
    assert shared["vae"]["shared_bytes"] == shared["vae"]["bytes"] and shared["vae"]["shared_with"] == ["base"]
    assert shared["unet"]["shared_bytes"] == 0


def test_the_verdict_for_people(home: Path, amdm: Amdm) -> None:
    lines = amdm("check", "composition.yaml", "--scene", "scene.yaml").stdout.splitlines()
    assert lines[0] == "compatible: one latent space and one noise schedule"
    table = [line.split() for line in lines]
    assert ["base", "3", "6"] in table and ["other", "2", "4"] in table and ["together", "5", "10"] in table
    assert any(line.startswith("  other") and "vae" in line and line.endswith("base") for line in lines)


def test_incompatible_models_end_with_2(home: Path, amdm: Amdm) -> None:
    write_diffusers_folder(home / "foreign", vae_seed=5, unet_config=TINY_UNET)
    arguments = ("check", "composition.yaml", "--set", "providers.1.checkpoint=foreign")
    assert "VAE encoder" in amdm(*arguments, code=2).stderr
    verdict = json.loads(amdm(*arguments, "--json", code=2).stdout)
    assert verdict["compatible"] is False and "VAE encoder" in verdict["reason"]


def test_no_network_is_built_and_no_picture_drawn(home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*arguments: object, **options: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr("diffusers.UNet2DConditionModel.__init__", built)
    monkeypatch.setattr("diffusers.AutoencoderKL.__init__", built)
    monkeypatch.setattr("transformers.CLIPTextModel.__init__", built)
    assert json.loads(amdm("check", "composition.yaml", "--json").stdout)["compatible"] is True


def test_what_would_be_downloaded_is_said_without_downloading(
    home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments = ("check", "composition.yaml", "--set", "providers.1.checkpoint=hf://nobody/nothing")
    result = amdm(*arguments)
    assert "as far as can be said without the weights of other" in result.stdout
    assert "would be downloaded first" in result.stdout and "hf://nobody/nothing" in result.stdout
    assert "warning: VAE encoder is unknown for other" in result.stderr
    cost = json.loads(amdm(*arguments, "--json").stdout)
    assert cost["members"][1]["downloads"] == ["hf://nobody/nothing"]
    assert cost["unknown"] == ["VAE encoder is unknown for other: assumed to be the same as the others'"]
    missing = amdm("run", "composition.yaml", "--scene", "scene.yaml", *arguments[2:], code=2)
    assert "hf download nobody/nothing" in missing.stderr


def test_all_checkpoints_that_are_missing_are_named(home: Path, amdm: Amdm) -> None:
    overrides = ("--set", "providers.0.checkpoint=models/a", "--set", "providers.1.checkpoint=models/b")
    message = amdm("check", "composition.yaml", *overrides, code=2).stderr
    assert "providers.0: models/a: no such file" in message and "providers.1: models/b: no such file" in message


def test_a_scene_that_lacks_what_a_model_needs(home: Path, amdm: Amdm) -> None:
    Path("composition.yaml").write_text(
        "providers: [{use: stable_diffusion, checkpoint: models/none, condition: {prompt: [1]}}]\n"
    )
    message = amdm("check", "composition.yaml", "--scene", "scene.yaml", code=2).stderr
    assert "condition.prompt" in message and "models/none" in message


def test_the_table_says_what_it_leaves_out(home: Path, amdm: Amdm) -> None:
    text = amdm("check", "composition.yaml", "--set", "sampler.height=64", "--set", "sampler.width=96").stdout
    assert "these are the weights alone: drawing a picture of 96x64 pixels takes memory beside them" in text
