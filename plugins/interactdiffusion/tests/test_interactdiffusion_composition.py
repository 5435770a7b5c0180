"""From a composition and scenes to pictures: what is taken from a scene, what options say, what is refused."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import amdm_framework
import amdm_plugin_interactdiffusion
from amdm_framework.composition import read_composition
from amdm_framework.errors import InputError
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import Distribution, Plugin, PluginRegistry
from amdm_framework.scene import Scene
from amdm_plugin_interactdiffusion.condition import InteractDiffusionCondition, condition_from_scene
from amdm_plugin_interactdiffusion.options import InteractDiffusionOptions

GIRL = {"phrase": "a red hair girl", "box": [0.1, 0.15, 0.62, 0.98]}
BOTTLE = {"phrase": "a blue bottle", "box": [0.48, 0.4, 0.66, 0.8]}
OPTIONS = InteractDiffusionOptions(checkpoint="model")


def _scene(**parts: Any) -> Scene:
    return Scene.model_validate({"caption": "a girl is drinking", "negative": "lowres"} | parts)


DRINKING = _scene(
    instances={"girl": GIRL, "bottle": BOTTLE},
    interactions=[{"subject": "girl", "action": "drinking", "object": "bottle"}],
)
ALONE = {"subject": "girl", "object": "girl"}
LONELY = _scene(instances={"girl": GIRL, "bottle": BOTTLE})


@pytest.fixture(scope="module")
def plugins() -> PluginRegistry:
    built_in = Plugin(
        Distribution("amdm-framework", "0"), "built-in", partial(import_module, "amdm_framework.builtin.plugin")
    )
    this = Plugin(
        Distribution("amdm-plugin-interactdiffusion", "0"), "interactdiffusion", lambda: amdm_plugin_interactdiffusion
    )
    return PluginRegistry([built_in, this])


def test_interactions_are_taken_from_the_scene() -> None:
    condition = condition_from_scene(DRINKING, OPTIONS)
    assert (condition.prompt, condition.negative) == ("a girl is drinking", "lowres")
    (interaction,) = condition.interactions
    assert interaction.model_dump() == {
        "subject": "a red hair girl",
        "subject_box": (0.1, 0.15, 0.62, 0.98),
        "action": "drinking",
        "object": "a blue bottle",
        "object_box": (0.48, 0.4, 0.66, 0.8),
    }


def test_without_interactions_every_instance_acts_on_itself() -> None:
    interactions = condition_from_scene(LONELY, OPTIONS).interactions
    assert [(one.subject, one.action, one.object) for one in interactions] == [
        ("a red hair girl", "and", "a red hair girl"),
        ("a blue bottle", "and", "a blue bottle"),
    ]
    assert all(one.subject_box == one.object_box for one in interactions)


def test_a_scene_without_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="the scene has no instances: InteractDiffusion needs"):
        condition_from_scene(_scene(), OPTIONS)


def test_a_blank_phrase_is_refused(plugins: PluginRegistry, files: Path) -> None:
    composition = {"providers": [{"use": "interactdiffusion", "checkpoint": str(files / "model")}]}
    member = read_composition(composition, plugins).members[0]
    with pytest.raises(InputError, match="the phrase of instance 'girl' is empty"):
        member.condition(_scene(instances={"girl": {**GIRL, "phrase": "  "}}))
    with pytest.raises(ValidationError, match="action\n.*the phrase is empty"):
        condition_from_scene(_scene(instances={"girl": GIRL}, interactions=[{**ALONE, "action": " "}]), OPTIONS)


def test_a_condition_needs_interactions_and_survives_json() -> None:
    with pytest.raises(ValidationError, match="interactions"):
        InteractDiffusionCondition(prompt="a cat", interactions=())
    condition = condition_from_scene(DRINKING, OPTIONS)
    assert InteractDiffusionCondition.model_validate_json(condition.model_dump_json()) == condition


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha_type": [0.5, 0, 0.5], "scheduled_sampling_beta": 0.5}, "two forms: give one of them"),
        ({"alpha_type": [0.5, 0.5, 0.5]}, "sums to 1.5, expected 1"),
        ({"alpha_type": [1.5, -0.5, 0]}, "less than or equal to 1"),
        ({"scheduled_sampling_beta": float("nan")}, "scheduled_sampling_beta"),
        ({"strength": 2}, "less than or equal to 1"),
        ({"too_many_interactions": "drop"}, "'refuse' or 'truncate'"),
        ({"strenght": 1}, "strenght"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        InteractDiffusionOptions.model_validate({"checkpoint": "model", **options})


@pytest.mark.parametrize("alpha_type", [(0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.0, 0.0, 1.0)])
def test_shares_that_sum_to_one_in_decimals_are_taken(alpha_type: tuple[float, float, float]) -> None:
    assert InteractDiffusionOptions(checkpoint="model", alpha_type=alpha_type).alpha_type == alpha_type


def test_a_composition_draws_a_batch_whose_images_equal_single_runs(plugins: PluginRegistry, files: Path) -> None:
    composition = {
        "providers": [
            {"use": "interactdiffusion", "checkpoint": str(files / "original.pth"), "base": str(files / "base")}
        ],
        "aggregation": {"strategy": "single"},
        "sampler": {"steps": 2, "guidance_scale": 3.0, "height": 64, "width": 48},
    }
    pipeline = AMDMPipeline.from_composition(composition, device="cpu", dtype="float32", plugins=plugins)
    scenes = [DRINKING, LONELY]

    def draw(scene: Scene | list[Scene], *seeds: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images: torch.Tensor = pipeline(scene, generator=generators, output_type="pt").images
        return images

    together = draw(scenes, 5, 6)
    assert together.shape == (2, 3, 64, 48)
    for image, scene in enumerate(scenes):
        torch.testing.assert_close(together[image, None], draw(scene, 5 + image), rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_the_hook_imports_no_network_library() -> None:
    script = (
        "import sys, amdm_plugin_interactdiffusion\n"
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    modules = (amdm_framework, amdm_plugin_interactdiffusion)
    folders = [str(Path(module.__file__).parents[1]) for module in modules if module.__file__]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {folders}\n{script}"], check=True)


def test_the_provider_is_listed_with_its_options(plugins: PluginRegistry) -> None:
    listed = {provider.name: provider for provider in plugins.describe().providers}["interactdiffusion"]
    assert "checkpoint" in {option.name for option in listed.options}
    assert all(option.description for option in listed.options)
