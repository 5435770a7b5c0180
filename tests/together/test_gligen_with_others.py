"""GLIGEN beside other models in one composition, through `amdm check` and `amdm run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from amdm_framework.cli import main
from amdm_plugin_gligen.tiny_model import write_tiny_gligen

Amdm = Callable[..., Result]

STEPS, WINDOW = 4, 2
BLOCKS: dict[str, dict[str, Any]] = {
    "gligen": {"checkpoint": "gligen", "scheduled_sampling_beta": 0.5},
    "migc": {"checkpoint": "MIGC_SD14.ckpt", "base": "sd"},
    "stable_diffusion": {"checkpoint": "sd"},
}
CAT = {"phrase": "a red cat", "box": [0.1, 0.15, 0.62, 0.98]}
SCENE = {
    "caption": "a red cat and a blue bottle",
    "negative": "grey",
    "instances": {"cat": CAT, "bottle": {"phrase": "a blue bottle", "box": [0.48, 0.4, 0.7, 0.8]}},
}


@pytest.fixture(scope="module")
def folder(models: Path) -> Path:
    """The models of this folder's tests, and a GLIGEN whose frozen weights are those of `sd`."""
    write_tiny_gligen(models / "gligen")
    return models


def write_composition(folder: Path, *names: str) -> Path:
    """Write a composition of two of the models, the first being the target."""
    content = {
        "providers": [{"use": name} | BLOCKS[name] for name in names],
        "aggregation": {"strategy": "slerp", "steps": WINDOW, "weights": [0.5]},
        "sampler": {"steps": STEPS, "guidance_scale": 7.5},
    }
    path = folder / f"{'-with-'.join(names)}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def draw(amdm: Amdm, composition: Path, output: Path, scene: dict[str, Any]) -> tuple[np.ndarray, dict[str, int]]:
    """Draw a scene: the picture in 0 .. 255, and evaluations by member."""
    output.mkdir()
    (output / "scene.yaml").write_text(yaml.safe_dump(scene))
    flags = ("--seed", "3", "--device", "cpu", "--json", "--no-progress")
    result = amdm("run", composition, "--scene", output / "scene.yaml", "--output", output, *flags)
    report = json.loads(result.stdout)
    (entry,) = report["pictures"]
    return np.asarray(Image.open(entry["file"]).convert("RGB"), dtype=int), report["evaluations"]


@pytest.mark.parametrize("names", [("stable_diffusion", "gligen"), ("gligen", "migc")], ids="-".join)
def test_gligen_is_checked_and_drawn_beside_another_model(
    amdm: Amdm, folder: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    composition = write_composition(folder, *names)
    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    cost = json.loads(
        amdm("check", composition, "--scene", tmp_path / "scene.yaml", "--device", "cpu", "--json").stdout
    )
    assert cost["evaluations"] == STEPS + WINDOW
    first, second = (
        next(part for part in member["components"] if part["name"] == "unet") for member in cost["members"]
    )
    assert (second["shared_with"], second["shared_bytes"]) == ([names[0]], min(first["bytes"], second["bytes"]))

    picture, evaluations = draw(amdm, composition, tmp_path / "together", SCENE)
    assert evaluations == {names[0]: STEPS, names[1]: WINDOW}
    moved = {**SCENE, "instances": {**SCENE["instances"], "cat": {**CAT, "box": [0.5, 0.0, 1.0, 0.4]}}}
    assert np.abs(picture - draw(amdm, composition, tmp_path / "moved", moved)[0]).max() > 2


def test_too_many_instances_are_found_before_anything_is_loaded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text(
        yaml.safe_dump({**SCENE, "instances": {f"cat{index}": CAT for index in range(31)}})
    )
    composition = write_composition(folder, "stable_diffusion", "gligen")
    result = CliRunner().invoke(main, ["check", str(composition), "--scene", str(tmp_path / "scene.yaml")])
    assert result.exit_code == 2
    assert "found 31 instances, but GLIGEN takes at most 30: leave some out" in result.output
