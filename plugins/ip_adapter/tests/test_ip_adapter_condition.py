"""What is taken from a scene, and the sentences for scenes that lack something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.image_processor import IPAdapterMaskProcessor
from ip_adapter_files import picture
from PIL import Image
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.scene import Instance, Reference, Scene
from amdm_plugin_ip_adapter.condition import IPAdapterCondition, ReferencePicture, condition_from_scene
from amdm_plugin_ip_adapter.options import IPAdapterOptions
from amdm_plugin_ip_adapter.provider import SPEC
from amdm_plugin_ip_adapter.regions import check_size, region_masks

MASK = Reference(role="style_mask", image=picture(0))
GIRL = Instance(phrase="a girl", box=(0.25, 0.0, 0.75, 1.0))


def options(**others) -> IPAdapterOptions:
    return IPAdapterOptions(checkpoint="adapter.safetensors", base="sd", image_encoder="encoder", **others)


def style(**others) -> Reference:
    return Reference(role="style", **({"image": picture(0)} | others))


def test_a_whole_scene():
    scene = Scene(
        caption="a girl, oil painting",
        negative="rain",
        instances={"girl": GIRL},
        references=(style(instance="girl"), style(), Reference(role="control", image=picture(1))),
    )
    found = condition_from_scene(scene, options(scale=0.8, preset="style"))
    assert (found.prompt, found.negative) == ("a girl, oil painting", "rain")
    assert [reference.box for reference in found.references] == [GIRL.box, None]
    assert (found.strength.scale, found.strength.preset) == (0.8, "style")


def test_mask_pictures_belong_to_references_in_order():
    masks = [Reference(role="style_mask", image=Image.new("L", (8, 8), 255 * i)) for i in range(2)]
    scene = Scene(references=(masks[0], style(), masks[1], style()))
    assert [reference.mask for reference in condition_from_scene(scene, options()).references] == masks


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ((), r"has none of role 'style' \(it has no references\): add .*role: style, image: picture.png"),
        ((Reference(role="face", image=picture(0)),), "its references have the roles face"),
        ((style(), style(), MASK), r"2 reference.*and 1 of role 'style_mask'"),
        ((style(instance="girl"), MASK), "names the instance 'girl' and has a mask"),
    ],
)
def test_scenes_that_lack_something(references, message):
    with pytest.raises(ValueError, match=message):
        condition_from_scene(Scene(instances={"girl": GIRL}, references=references), options())


def test_another_role():
    scene = Scene(references=(style(), Reference(role="face", image=picture(1))))
    assert [r.role for r in condition_from_scene(scene, options(role="face")).references] == ["face"]


def test_a_file_that_is_no_picture(tmp_path: Path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"notes\.png is not a picture"):
        condition_from_scene(Scene(references=(style(image=tmp_path / "notes.png"),)), options())


def test_conditions_and_options_go_through_json(tmp_path: Path):
    picture(0).save(tmp_path / "oil.png")
    scene = Scene(caption="a girl", instances={"girl": GIRL}, references=(style(image=tmp_path / "oil.png"),))
    own = options(block_scales={"down": {"block_0": [0.5, 1]}, "mid": 1})
    condition = condition_from_scene(scene, own)
    assert IPAdapterCondition.model_validate(json.loads(condition.model_dump_json())) == condition
    assert IPAdapterOptions.model_validate(json.loads(own.model_dump_json())) == own
    for model in (SPEC.options, SPEC.condition):
        properties = model.model_json_schema()["properties"]
        assert all("description" in value for value in properties.values())


def test_a_reference_has_one_region_and_a_condition_one_reference():
    with pytest.raises(ValidationError, match="give `box` or `mask`, not both"):
        ReferencePicture(image=picture(0), box=(0, 0, 1, 1), mask=style())
    with pytest.raises(ValidationError, match="at least 1 item"):
        IPAdapterCondition(prompt="a girl", references=())


def test_region_masks():
    everywhere = ReferencePicture(image=picture(0))
    assert region_masks([everywhere, everywhere], 64, 96) is None
    mask = Image.new("L", (48, 32))
    mask.paste(255, (0, 16, 48, 32))
    found = region_masks(
        [
            everywhere,
            ReferencePicture(image=picture(0), box=(0.25, 0.0, 0.75, 0.5)),
            ReferencePicture(image=picture(0), mask=Reference(role="style_mask", image=mask)),
        ],
        64,
        96,
    )
    assert found.shape == (3, 64, 96)
    assert found[0].all()
    box = torch.zeros(64, 96)
    box[:32, 24:72] = 1
    assert torch.equal(found[1], box)
    lower = torch.zeros(64, 96)
    lower[32:] = 1
    assert torch.equal(found[2], lower)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (512, 768), (640, 512), (448, 1152), (520, 512), (72, 64)])
def test_sizes_for_regions_are_those_that_diffusers_places_right(height, width):
    """A mask of the left half must cover the left half of every attention grid."""
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    right = True
    rows, columns = height // 8, width // 8
    for _ in range(4):
        placed = IPAdapterMaskProcessor.downsample(mask, 1, rows * columns, 1).reshape(rows, columns)
        right &= bool((placed.std(dim=0, unbiased=False) < 1e-4).all())
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if right:
        check_size(height, width, 8, 4)
    else:
        with pytest.raises(InputError, match=f"picture of {width} x {height} pixels .* multiples of 64"):
            check_size(height, width, 8, 4)
