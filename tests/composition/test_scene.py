"""Scenes: what is accepted, and what is said about every kind of mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffusers.utils import load_image
from PIL import Image

from amdm_framework.errors import InputError
from amdm_framework.scene import Reference, Scene, read_scene
from amdm_framework.yaml_files import to_yaml

SCENE = {
    "caption": "a red hair girl is drinking a blue bottle of water",
    "negative": "lowres",
    "instances": {
        "girl": {"phrase": "a red hair girl", "box": [0.10, 0.15, 0.62, 0.98]},
        "bottle": {"phrase": "a blue bottle", "box": [0.48, 0.40, 0.66, 0.80]},
    },
    "interactions": [{"subject": "girl", "action": "drinking", "object": "bottle"}],
}


def message_of(content: dict) -> str:
    with pytest.raises(InputError) as caught:
        read_scene(content)
    return str(caught.value)


def box(*values: object) -> dict:
    return {"instances": {"girl": {"phrase": "a girl", "box": list(values)}}}


def test_a_scene_survives_a_round_trip_through_yaml(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "oil.png")
    file = tmp_path / "scene.yaml"
    file.write_text(to_yaml({**SCENE, "references": [{"role": "style", "image": "oil.png"}]}))
    scene = read_scene(file)
    assert scene.references[0].image == tmp_path / "oil.png"
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(scene.model_dump(mode="json", exclude_unset=True)))
    assert read_scene(again) == scene


def test_reference_pictures_are_found_beside_the_scene_and_by_full_path(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGBA", (4, 6), (255, 0, 0, 128)).save(tmp_path / "pictures" / "oil.png")
    for image in ("pictures/oil.png", str(tmp_path / "pictures" / "oil.png")):
        scene = read_scene({"references": [{"role": "style", "image": image}]}, tmp_path)
        opened = scene.references[0].open()
        assert (opened.mode, opened.size) == ("RGB", (4, 6))


def test_a_picture_from_python_is_taken_as_it_is() -> None:
    picture = Image.new("L", (2, 2), 7)
    assert Reference(role="style", image=picture).open().getpixel((0, 0)) == (7, 7, 7)


def test_a_missing_reference_and_one_that_is_no_picture(tmp_path: Path) -> None:
    assert "references.0.image: no such picture" in message_of({"references": [{"role": "style", "image": "none.png"}]})
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match="text.png is not a picture"):
        Reference(role="style", image=tmp_path / "text.png").open()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_pictures_are_turned_as_their_exif_data_say(tmp_path: Path, orientation: int, kind: str) -> None:
    # As people's cameras and phones write them, and as diffusers opens them.
    grid = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    grid.save(tmp_path / f"turned.{kind}", exif=exif)
    file = Reference(role="style", image=tmp_path / f"turned.{kind}").open()
    expected = load_image(str(tmp_path / f"turned.{kind}"))
    np.testing.assert_array_equal(np.asarray(file), np.asarray(expected))
    assert file.size == ((4, 3) if orientation < 5 else (3, 4))
    with Image.open(tmp_path / f"turned.{kind}") as picture:
        from_python = Reference(role="style", image=picture).open()
    np.testing.assert_array_equal(np.asarray(from_python), np.asarray(expected))


def test_pictures_of_more_than_eight_bits_are_refused(tmp_path):
    depth = Image.fromarray(np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64))
    depth.save(tmp_path / "depth.png")
    for image, name in ((tmp_path / "depth.png", r"depth\.png"), (depth, "the picture of role 'depth'")):
        with pytest.raises(InputError, match=f"{name} has more than 8 bits per value"):
            Reference(role="depth", image=image).open()
    grey = Image.fromarray(np.full((8, 8), 7, np.uint8))
    assert Reference(role="depth", image=grey).open().getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (box(10, 20, 300, 400), "look like pixels"),
        (box(0.5, 0.2, 0.1, 0.9), "did you mean [0.1, 0.2, 0.5, 0.9]?"),
        (box(0.1, 0.9, 0.5, 0.2), "did you mean [0.1, 0.2, 0.5, 0.9]?"),
        (box(0.1, 0.1, 0.1, 0.5), "reversed or empty"),
        (box(-0.1, 0.1, 0.2, 0.5), "lies outside [0, 1]"),
        (box(0, 0, float("nan"), 1), "not finite"),
        (box(0, 0, float("inf"), 1), "not finite"),
        (box(0, 0, 1), "instances.girl.box.3: is missing"),
        (box(0, 0, 1, 1, 1), "instances.girl.box"),
        (box(0, 0, "wide", 1), "instances.girl.box.2"),
        ({"capton": "x"}, "capton: unknown key. Did you mean 'caption'?"),
        ({"instances": {"a": {"phrase": "x", "bbox": [0, 0, 1, 1]}}}, "Did you mean 'box'?"),
        ({"instances": {"a": {"phrase": "", "box": [0, 0, 1, 1]}}}, "instances.a.phrase"),
        ({"caption": False}, "caption: expected text, found False: YAML reads no, off"),
        ({"interactions": [{"subject": "girl", "action": "eats", "object": "cake"}]}, "Instances: none"),
        ({"instances": None}, "instances"),
        ({"instances": [{"phrase": "x"}]}, "instances"),
    ],
)
def test_every_mistake_is_named(content: dict, expected: str) -> None:
    assert expected in message_of(content)


def test_all_mistakes_of_a_scene_come_at_once() -> None:
    message = message_of(
        {
            "capton": "x",
            "negative": True,
            "instances": {"girl": {"phrase": "", "box": [10, 0, 20, 30]}, "boy": {"box": [0.5, 0, 0.2, 1]}},
            "interactions": [
                {"subject": "grl", "action": "sees", "object": "girl"},
                {"subject": "boy", "action": "", "object": "dog"},
            ],
            "references": [{"role": "style", "image": "none.png"}],
        }
    )
    keys = [line.split(":")[0] for line in message.splitlines()]
    assert set(keys) == {
        "capton", "negative", "instances.girl.phrase", "instances.girl.box", "instances.boy.phrase",
        "instances.boy.box", "interactions.0.subject", "interactions.1.action", "interactions.1.object",
        "references.0.image",
    }  # fmt: skip
    assert len(keys) == 10
    assert "Did you mean 'girl'?" in message


def test_mistakes_of_a_file_carry_its_name(tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    file.write_text("caption: x\ninstances:\n  a: {phrase: y, box: [0, 0, 2, 1]}\n")
    with pytest.raises(InputError, match="scene.yaml: instances.a.box: box"):
        read_scene(file)


def test_a_scene_cannot_be_changed_after_it_was_checked() -> None:
    scene = Scene(caption="x")
    with pytest.raises(ValueError, match="frozen"):
        scene.caption = "y"  # type: ignore[misc]


def test_a_picture_that_is_no_path_is_said_so_together_with_other_mistakes() -> None:
    message = message_of({**SCENE, "references": [{"role": "style", "image": 5, "instance": "boy"}]})
    assert "references.0.image" in message and "path" in message
    assert "there is no instance named 'boy'" in message


@pytest.mark.parametrize("name", ["boy", b"boy", b""])
def test_a_name_of_nobody_is_refused_in_whatever_form_yaml_gives_it(name: str | bytes) -> None:
    interaction = {"subject": "girl", "action": "drinking", "object": name}
    assert "there is no instance named" in message_of({**SCENE, "interactions": [interaction]})
