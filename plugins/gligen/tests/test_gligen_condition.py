"""What is taken from a scene, what is refused, and what the hook costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import amdm_framework
import amdm_plugin_gligen
from amdm_framework.scene import Instance, Scene
from amdm_plugin_gligen.condition import GLIGENCondition, condition_from_scene
from amdm_plugin_gligen.options import GLIGENOptions
from amdm_plugin_gligen.provider import SPEC

OPTIONS = GLIGENOptions(checkpoint="model")
CAT = {"phrase": "a red cat", "box": [0.1, 0.15, 0.62, 0.98]}
MAT = {"phrase": "a mat", "box": [0.0, 0.4, 1.0, 0.8]}


def _scene(**parts: Any) -> Scene:
    return Scene.model_validate({"caption": "a cat on a mat", "negative": "grey"} | parts)


def test_prompts_and_instances_are_taken_from_the_scene() -> None:
    interactions = [{"subject": "cat", "action": "sitting on", "object": "mat"}]
    condition = condition_from_scene(_scene(instances={"cat": CAT, "mat": MAT}, interactions=interactions), OPTIONS)
    assert condition == GLIGENCondition(
        prompt="a cat on a mat",
        negative="grey",
        instances=(
            Instance(phrase="a red cat", box=(0.1, 0.15, 0.62, 0.98)),
            Instance(phrase="a mat", box=(0.0, 0.4, 1.0, 0.8)),
        ),
    )
    assert GLIGENCondition.model_validate_json(condition.model_dump_json()) == condition


def test_a_scene_may_be_without_instances() -> None:
    assert condition_from_scene(_scene(), OPTIONS).instances == ()


def test_thirty_instances_are_taken_and_more_refused() -> None:
    instances = {str(index): CAT for index in range(30)}
    assert len(condition_from_scene(_scene(instances=instances), OPTIONS).instances) == 30
    with pytest.raises(ValueError, match="found 31 instances, but GLIGEN takes at most 30: leave some out"):
        condition_from_scene(_scene(instances=instances | {"one more": MAT}), OPTIONS)


def test_a_blank_phrase_is_refused() -> None:
    with pytest.raises(ValueError, match="instance 1 has a blank phrase: say in words"):
        condition_from_scene(_scene(instances={"cat": CAT, "mat": {**MAT, "phrase": "  "}}), OPTIONS)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_steps_lies_between_0_and_1(beta: float) -> None:
    with pytest.raises(ValidationError, match="scheduled_sampling_beta"):
        GLIGENOptions(checkpoint="model", scheduled_sampling_beta=beta)


def test_every_option_says_what_it_is() -> None:
    fields = SPEC.options.model_fields
    assert fields.keys() == {"checkpoint", "variant", "scheduled_sampling_beta"}
    assert all(field.description for field in fields.values())


def test_the_hook_imports_no_network_library() -> None:
    script = (
        "import sys, amdm_plugin_gligen\n"
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    modules = (amdm_framework, amdm_plugin_gligen)
    folders = [str(Path(module.__file__).parents[1]) for module in modules if module.__file__]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {folders}\n{script}"], check=True)
