"""The installed plugin behind the command line, with another member beside it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from controlnet_files import edges
from PIL import Image

from amdm_framework.cli import main
from amdm_framework.composition import read_composition
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene

CONTROLNET = {"use": "controlnet", "checkpoint": "controlnet", "base": "sd"}
PLAIN = {"use": "stable_diffusion", "checkpoint": "sd"}


@pytest.fixture
def home(files, monkeypatch):
    monkeypatch.chdir(files.folder)
    for name in ("AMDM_NO_PLUGINS", "AMDM_LOAD_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    for seed in range(2):
        edges(seed).save(files.folder / f"{seed}.png")
        scene = {"caption": "a house", "references": [{"role": "control", "image": f"{seed}.png"}]}
        (files.folder / f"scene{seed}.yaml").write_text(yaml.safe_dump(scene))
    return files.folder


def amdm(*arguments, code=0) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def write(home, *providers, **others):
    content = {
        "providers": providers,
        "aggregation": {"strategy": "amdm", "steps": 2, "weights": [0.5], "step_sizes": [3.0, 3.0]},
        "sampler": {"steps": 3, "height": 64, "width": 64},
        **others,
    }
    (home / "composition.yaml").write_text(yaml.safe_dump(content))


def draw(output, *options, scene="scene0") -> np.ndarray:
    where = ("--seed", 1, "--output", output, "--no-progress", "--device", "cpu")
    amdm("run", "composition.yaml", "--scene", f"{scene}.yaml", *where, *options)
    return np.asarray(Image.open(output / f"{scene}-1.png")).astype(int)


@pytest.mark.parametrize("target", ["controlnet", "stable_diffusion"])
def test_check_and_run_with_another_member(home, tmp_path, target):
    members = [CONTROLNET, PLAIN] if target == "controlnet" else [PLAIN, CONTROLNET]
    write(home, *members)
    checked = json.loads(amdm("check", "composition.yaml", "--scene", "scene0.yaml", "--json"))
    assert checked["compatible"] and checked["members"][0]["name"] == target
    (own,) = [member for member in checked["members"] if member["name"] == "controlnet"]
    parts = {part["name"]: part for part in own["components"]}
    assert set(parts) == {"unet", "vae", "text_encoder", "controlnet"}
    assert parts["controlnet"]["parameters"] > 0 == parts["controlnet"]["shared_bytes"]
    assert draw(tmp_path).std() > 3


def test_the_same_picture_again_from_its_record(home, tmp_path):
    write(home, CONTROLNET, aggregation={"strategy": "single"})
    picture = draw(tmp_path)
    amdm("rerun", tmp_path / "scene0-1.png", "--models", home, "--output", tmp_path / "again", "--no-progress")
    (again,) = (tmp_path / "again").iterdir()
    np.testing.assert_array_equal(np.asarray(Image.open(again)), picture)


def test_a_condition_is_overridden_in_the_composition(home):
    block = {
        **CONTROLNET,
        "stop": 0.5,
        "condition": {"conditioning_scale": 0.2, "control": {"role": "x", "image": "1.png"}},
    }
    write(home, block, aggregation={"strategy": "single"})
    (member,) = read_composition(home / "composition.yaml", discover()).members
    condition = member.condition(read_scene(home / "scene0.yaml"))
    assert (condition.conditioning_scale, condition.stop, condition.control.image.name) == (0.2, 0.5, "1.png")


def test_bad_compositions_and_scenes_end_with_a_sentence(home):
    write(home, CONTROLNET, PLAIN)
    (home / "bare.yaml").write_text("caption: a house\n")
    assert "ControlNet needs a control picture" in amdm("check", "composition.yaml", "--scene", "bare.yaml", code=2)
    for override, message in {
        "providers.0.conditioning_scales=1": "Did you mean 'conditioning_scale'",
        "providers.0.stop=0": "`start` (0.0) must be less than `stop` (0.0)",
    }.items():
        assert message in amdm("check", "composition.yaml", "--set", override, code=2)
