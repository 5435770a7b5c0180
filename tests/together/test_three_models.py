"""InteractDiffusion, MIGC and IP-Adapter in one picture, from files on disk through `amdm run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image
from safetensors import safe_open

import amdm_shapes_zoo
from amdm_framework.models.context import LoadContext
from amdm_framework.models.tensor_files import TensorMapping, read_tensors
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import ProviderSpec
from amdm_framework.scene import read_scene
from amdm_framework.testing.tiny_models import write_single_file
from amdm_plugin_ip_adapter import provider as ip_adapter
from amdm_plugin_migc import provider as migc

Amdm = Callable[..., Result]

STEPS, WINDOW, SEEDS = 4, 2, (3, 4)
NAMES = ("interactdiffusion", "migc", "ip_adapter")

MEMBERS: dict[str, dict[str, Any]] = {
    "interactdiffusion": {"checkpoint": "interact-diffusion-v1.pth", "base": "sd"},
    "migc": {"checkpoint": "MIGC_SD14.ckpt", "base": "sd"},
    "ip_adapter": {
        "checkpoint": "ip-adapter_sd15.safetensors",
        "image_encoder": "image_encoder",
        "base": "sd",
        "scale": 0.8,
    },
}
AGGREGATIONS: dict[str, dict[str, Any]] = {
    # The paper's numbers at 512 pixels, in units that hold at this size.
    "amdm": {"strategy": "amdm", "step_sizes": [0.3516, 0.3125, 0.2734], "step_size_unit": "rms"},
    "slerp": {"strategy": "slerp"},
}
SCENE = {
    "caption": "a girl drinks",
    "negative": "lowres",
    "instances": {
        "girl": {"phrase": "a girl", "box": [0.1, 0.15, 0.62, 0.98]},
        "bottle": {"phrase": "a blue bottle", "box": [0.48, 0.4, 0.7, 0.8]},
    },
    "interactions": [{"subject": "girl", "action": "drinking", "object": "bottle"}],
    "references": [{"role": "style", "image": "style.png"}],
}


def write_composition(folder: Path, *names: str, strategy: str = "amdm") -> Path:
    """Write a composition of some of the models, the first being the target, with the scene beside it."""
    aggregation: dict[str, Any] = {"strategy": "single"}
    if len(names) > 1:
        aggregation = AGGREGATIONS[strategy] | {"steps": WINDOW, "weights": [0.47, 0.5]}
    content = {
        "providers": [{"use": name} | MEMBERS[name] for name in names],
        "aggregation": aggregation,
        "sampler": {"steps": STEPS, "guidance_scale": 7.5},
    }
    path = folder / f"{'-'.join(names)}-{strategy}.yaml"
    path.write_text(yaml.safe_dump(content))
    (folder / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    return path


def draw(
    amdm: Amdm, composition: Path, output: Path, *overrides: str, seeds: tuple[int, ...] = SEEDS
) -> tuple[np.ndarray, dict[str, int]]:
    """Draw the scene with `amdm run`: pictures (B, H, W, 3) in 0 .. 255 and evaluations by member."""
    flags = [part for override in overrides for part in ("--set", override)]
    flags += [part for seed in seeds for part in ("--seed", seed)]
    scene = composition.with_name("scene.yaml")
    result = amdm(
        *("run", composition, "--scene", scene, "--output", output, "--device", "cpu", "--json", "--no-progress"),
        *flags,
    )
    report = json.loads(result.stdout)
    assert [entry["seed"] for entry in report["pictures"]] == list(seeds)
    pictures = [np.asarray(Image.open(entry["file"]).convert("RGB"), dtype=int) for entry in report["pictures"]]
    return np.stack(pictures), report["evaluations"]


def test_all_three_are_found_installed(amdm: Amdm) -> None:
    installed = json.loads(amdm("plugins", "--json").stdout)["providers"]
    assert {one["name"]: one["status"] for one in installed if one["name"] in NAMES} == dict.fromkeys(NAMES, "ok")


@pytest.mark.parametrize("strategy", AGGREGATIONS)
def test_a_batch_is_drawn_with_as_many_evaluations_as_the_algorithm_needs(
    amdm: Amdm, models: Path, tmp_path: Path, strategy: str
) -> None:
    pictures, evaluations = draw(amdm, write_composition(models, *NAMES, strategy=strategy), tmp_path)
    assert pictures.shape == (2, 64, 64, 3)
    assert np.abs(pictures[0] - pictures[1]).max() > 8
    assert evaluations == {"interactdiffusion": STEPS, "migc": WINDOW, "ip_adapter": WINDOW}
    assert sum(evaluations.values()) == STEPS + (len(NAMES) - 1) * WINDOW


@pytest.mark.parametrize("turn", range(3), ids=NAMES)
def test_without_aggregation_the_target_draws_what_it_draws_alone(
    amdm: Amdm, models: Path, tmp_path: Path, turn: int
) -> None:
    names = NAMES[turn:] + NAMES[:turn]
    beside_others, evaluations = draw(amdm, write_composition(models, *names), tmp_path, "aggregation.steps=0")
    alone, _ = draw(amdm, write_composition(models, names[0]), tmp_path)
    assert np.array_equal(beside_others, alone)
    assert evaluations == {names[0]: STEPS} | dict.fromkeys(names[1:], 0)


@pytest.fixture
def pipeline(models: Path) -> AMDMPipeline:
    loaded = AMDMPipeline.from_composition(write_composition(models, *NAMES), device="cpu", dtype="float32")
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_every_member_has_a_say_and_no_image_depends_on_its_batch(pipeline: AMDMPipeline, models: Path) -> None:
    def sample(conditions: list[list[Any]], *seeds: int) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        pictures: np.ndarray = pipeline(conditions=conditions, generator=generators, output_type="np").images
        return pictures

    assert pipeline.resolved is not None
    taken = pipeline.resolved.conditions([read_scene(SCENE, models)])
    together = sample([condition * 2 for condition in taken], *SEEDS)
    np.testing.assert_allclose(together[1:], sample(taken, SEEDS[1]), rtol=0, atol=2e-4)
    changes: dict[str, dict[str, Any]] = {
        "interactdiffusion": {"interactions": [{"subject": "girl", "action": "kicking", "object": "bottle"}]},
        "migc": {"instances": {"girl": SCENE["instances"]["girl"]}, "interactions": []},
        "ip_adapter": {"references": [{"role": "style", "image": "other_style.png"}]},
    }
    for position, name in enumerate(NAMES):
        changed = pipeline.resolved.members[position].condition(read_scene(SCENE | changes[name], models))
        pictures = sample([*taken[:position], [changed], *taken[position + 1 :]], SEEDS[1])
        assert np.abs(pictures - together[1:]).max() > 0.01, name


def test_one_base_is_held_once_and_check_says_so(amdm: Amdm, models: Path, pipeline: AMDMPipeline) -> None:
    composition = write_composition(models, *NAMES)
    flags = ["--scene", composition.with_name("scene.yaml"), "--device", "cpu", "--json"]
    cost = json.loads(amdm("check", composition, *flags).stdout)
    assert cost["evaluations"] == STEPS + (len(NAMES) - 1) * WINDOW
    members = {one["name"]: {part["name"]: part for part in one["components"]} for one in cost["members"]}
    for name in NAMES[1:]:
        for component in ("unet", "vae", "text_encoder"):
            part = members[name][component]
            assert (part["shared_bytes"], part["shared_with"]) == (part["bytes"], ["interactdiffusion"])
    assert cost["unique_bytes"] < 0.7 * cost["bytes"]

    target, *others = pipeline.providers
    modules = [module for provider in pipeline.providers for module in provider.modules().values()]
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    held = sum(weight.numel() * weight.element_size() for weight in weights.values())
    # Two files carry positions (of 77 tokens and of 17 patches), which are no weights.
    assert cost["unique_bytes"] - held == (77 + 17) * 8

    def assert_shared() -> None:
        for provider in others:
            for component in ("unet", "vae", "text_encoder"):
                ours = dict(provider.modules()[component].named_parameters())
                theirs = dict(target.modules()[component].named_parameters())
                common = ours.keys() & theirs.keys()
                assert stored_names(models / "sd" / component) <= common
                assert all(ours[name] is theirs[name] for name in common)

    assert_shared()
    pipeline.to(dtype=torch.bfloat16)
    assert_shared()
    assert sum(weight.numel() * weight.element_size() for weight in weights.values()) == held // 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_check_predicts_for_the_embedded_models_is_what_is_held(amdm: Amdm, dtype: str) -> None:
    composition = Path(amdm_shapes_zoo.__file__).with_name("three_models.yaml")
    cost = json.loads(amdm("check", composition, "--device", "cpu", "--dtype", dtype, "--json").stdout)
    loaded = AMDMPipeline.from_composition(composition, device="cpu", dtype=dtype)
    held = unique_bytes(module for provider in loaded.providers for module in provider.modules().values())
    assert cost["unique_bytes"] == pytest.approx(held, rel=0.02)
    assert held < 0.7 * cost["bytes"]


@pytest.mark.parametrize("spec", [migc.SPEC, ip_adapter.SPEC], ids=lambda spec: spec.name)
def test_looking_at_a_member_opens_its_base_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ProviderSpec
) -> None:
    base = write_single_file(tmp_path / "sd.ckpt", models / "sd")
    opened: list[Path] = []

    def read(path: Path) -> TensorMapping:
        opened.append(path)
        return read_tensors(path)

    monkeypatch.setattr("amdm_framework.models.components.read_tensors", read)
    options = spec.options(**MEMBERS[spec.name] | {"base": str(base), "tokenizer": "sd/tokenizer"})
    assert spec.inspect is not None
    report = spec.inspect(options, LoadContext(torch.device("cpu"), torch.float32, base_dir=models))
    assert {"unet", "vae", "text_encoder", "adapter"} <= report.components.keys()
    assert opened == [base]


def stored_names(folder: Path) -> set[str]:
    """Return the names of the weights in a component's folder, without the level that newer libraries left out."""
    with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
        return {name.removeprefix("text_model.") for name in file.keys()}  # noqa: SIM118 - not a mapping
