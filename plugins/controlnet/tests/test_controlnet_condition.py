"""What is taken from a scene, and the sentences for scenes that lack something."""

from __future__ import annotations

import pytest
from controlnet_files import edges
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.scene import Instance, Reference, Scene
from amdm_plugin_controlnet.condition import condition_from_scene
from amdm_plugin_controlnet.options import ControlNetOptions, ControlStrength

GIRL = Instance(phrase="a girl", box=(0.25, 0.0, 0.75, 1.0))


def options(**others) -> ControlNetOptions:
    return ControlNetOptions(checkpoint="controlnet", base="sd", **others)


def control(**others) -> Reference:
    return Reference(**({"role": "control", "image": edges(0)} | others))


def test_a_whole_scene():
    own = control()
    scene = Scene(caption="a girl", negative="rain", references=(Reference(role="style", image=edges(1)), own))
    found = condition_from_scene(scene, options(conditioning_scale=0.8, stop=0.6))
    assert (found.prompt, found.negative, found.control) == ("a girl", "rain", own)
    assert (found.conditioning_scale, found.start, found.stop) == (0.8, 0.0, 0.6)


def test_another_role():
    scene = Scene(references=(control(), control(role="depth", image=edges(1))))
    assert condition_from_scene(scene, options(role="depth")).control.role == "depth"


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ((), r"has none of role 'control' \(it has no references\): add .*role: control, image: edges.png"),
        ((control(role="style"),), "its references have the roles style"),
        ((control(), control()), "2 references of role 'control', expected one"),
        ((control(instance="girl"),), "names the instance 'girl', but .* is laid over the whole picture"),
    ],
)
def test_scenes_that_do_not_fit(references, message):
    with pytest.raises(ValueError, match=message):
        condition_from_scene(Scene(instances={"girl": GIRL}, references=references), options())


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"notes\.png is not a picture"):
        condition_from_scene(Scene(references=(control(image=tmp_path / "notes.png"),)), options())


@pytest.mark.parametrize(("start", "stop"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_impossible_windows_are_refused(start, stop):
    with pytest.raises(ValidationError, match="start|stop"):
        ControlStrength(start=start, stop=stop)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_active_steps_are_those_of_diffusers(count):
    """The rule of `StableDiffusionControlNetPipeline`, written as there."""
    for start, stop in ((0.0, 1.0), (0.1, 0.9), (0.0, 0.5), (0.3, 1.0), (0.28, 0.72)):
        kept = [1.0 - float(i / count < start or (i + 1) / count > stop) for i in range(count)]
        expected = {i for i, keep in enumerate(kept) if keep}
        assert ControlStrength(start=start, stop=stop).active_steps(count) == expected
