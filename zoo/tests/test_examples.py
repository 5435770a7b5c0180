"""The examples that the package registers can be checked and drawn as they are, and show what their scenes say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from amdm_framework.cli import main
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene
from amdm_shapes_zoo.judge import read_actions, read_backgrounds, read_instances
from amdm_shapes_zoo.segmentation import segment
from amdm_shapes_zoo.world import ACTIONS, COLOUR_NAMES

EXAMPLES = {
    name: offer.value for name, offer in discover({}).examples.items() if offer.distribution.name == "amdm-shapes-zoo"
}
SEEDS = range(4)


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMDM_NO_PLUGINS", "AMDM_LOAD_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def amdm(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def test_there_are_two_and_the_one_with_three_models_comes_first() -> None:
    assert list(EXAMPLES) == ["shapes", "shapes_two_models"]
    assert (
        "\nexamples\n  shapes  (amdm-shapes-zoo 0.1.0)  Three models: interactions, colours" in amdm("plugins").stdout
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_checked_without_a_complaint(name: str) -> None:
    checked = amdm("check", EXAMPLES[name].composition, "--scene", EXAMPLES[name].scene)
    assert checked.exit_code == 0 and checked.stderr == ""
    assert checked.stdout.startswith("compatible: one latent space and one noise schedule")


@pytest.mark.parametrize("name", EXAMPLES)
def test_most_pictures_of_an_example_show_its_scene(name: str) -> None:
    scene = read_scene(EXAMPLES[name].scene)
    pipeline = AMDMPipeline.from_composition(EXAMPLES[name].composition, device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    pictures = np.stack(
        [np.asarray(picture) for picture in pipeline([scene] * len(SEEDS), generator=generators).images]
    )
    classes = segment(pictures)

    boxes = {name: np.array([instance.box], dtype=float) for name, instance in scene.instances.items()}
    wanted = [COLOUR_NAMES.index(str(instance.phrase).split()[0]) for instance in scene.instances.values()]
    found = [read_instances(one, np.concatenate(list(boxes.values())))[0] for one in classes]
    assert np.mean(np.array(found) == wanted) >= 0.7

    acting = scene.interactions[0]
    subjects, objects = (np.repeat(boxes[name], len(SEEDS), axis=0) for name in (acting.subject, acting.object))
    assert np.mean(read_actions(classes, subjects, objects) == ACTIONS.index(acting.action)) >= 0.7

    for reference in scene.references:
        (palette,), (texture,) = read_backgrounds(segment(np.asarray(reference.open())[None]))
        palettes, textures = read_backgrounds(classes)
        assert np.mean((palettes == palette) & (textures == texture)) >= 0.7
