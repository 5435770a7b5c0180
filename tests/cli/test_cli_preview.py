"""`amdm preview`: what it draws of a scene and over a picture, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image, ImageColor

from amdm_framework.picture_text import DISTINCT
from pictures_in_grids import places_of

Amdm = Callable[..., Result]

BOXES = """
caption: a circle
instances:
  circle: {phrase: a circle, box: [0.25, 0.25, 0.75, 0.75]}
references:
  - {role: style, image: oil.png}
"""


@pytest.fixture
def boxes(home: Path) -> Path:
    """A scene with a box and a reference picture; the current folder is its own."""
    Image.new("RGB", (20, 20), "#12ab34").save("oil.png")
    Path("boxes.yaml").write_text(BOXES)
    return Path("boxes.yaml")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as page:
        return np.asarray(page.convert("RGB")).astype(int)


def has(path: str, colour: str) -> bool:
    return bool((abs(pixels(path) - ImageColor.getrgb(colour)).max(-1) <= 1).any())


def test_a_scene_becomes_a_drawing_and_the_one_before_stays(boxes: Path, amdm: Amdm) -> None:
    assert amdm("preview", boxes).stdout == "boxes-preview.png\n"
    before = Path("boxes-preview.png").read_bytes()
    assert amdm("preview", boxes, "--size", "600x300").stdout == "boxes-preview-2.png\n"
    assert Path("boxes-preview.png").read_bytes() == before
    assert has("boxes-preview.png", DISTINCT[0]) and has("boxes-preview.png", "#12ab34")
    usual, wide = pixels("boxes-preview.png").shape, pixels("boxes-preview-2.png").shape
    assert 512 < usual[1] < 600 < wide[1] < 700
    assert amdm("preview", boxes, "--output", "deep/mine.png").stdout == "deep/mine.png\n"


def test_boxes_are_drawn_over_the_picture_that_carries_them(boxes: Path, amdm: Amdm) -> None:
    amdm("run", "composition.yaml", "--scene", boxes, "--seed", "1")
    assert amdm("preview", "boxes-1.png").stderr == ""
    assert has("boxes-1-preview.png", DISTINCT[0]) and has("boxes-1-preview.png", "#12ab34")
    with Image.open("boxes-1.png") as picture, Image.open("boxes-1-preview.png") as page:
        # 64 pixels become 512; a strip above the label of the box, and what the box holds.
        (left, top), = places_of(picture.crop((0, 0, 64, 12)), page, 8)  # fmt: skip
        (inner,) = places_of(picture.crop((18, 20, 46, 46)), page, 8)
    assert inner == (left + 8 * 18, top + 8 * 20)


def test_a_reference_picture_that_is_missing_or_another_is_told(boxes: Path, amdm: Amdm) -> None:
    amdm("run", "composition.yaml", "--scene", boxes, "--seed", "1")
    Image.new("RGB", (20, 20), "#fe1234").save("oil.png")
    assert amdm("preview", "boxes-1.png").stderr.startswith("not shown: oil.png, which is not beside the picture")
    assert not has("boxes-1-preview.png", "#12ab34") and not has("boxes-1-preview.png", "#fe1234")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.yaml",), "nowhere.yaml: no such file"),
        (("composition.yaml",), "this is a composition, not a scene"),
        (("oil.png",), "oil.png: carries no settings of `amdm run`"),
        (
            ("boxes.yaml", "--size", "12"),
            "expected a number of pixels or WIDTHxHEIGHT, of 128 to 4096 each, found '12'",
        ),
        (("boxes.yaml", "--size", "512x"), "found '512x'"),
        (("boxes.yaml", "--output", "x.jpg"), "--output: is 'x.jpg', expected a name that ends in .png"),
        (("boxes.yaml", "--output", "boxes.yaml/x.png"), "boxes.yaml: is a file, expected a folder to write to"),
        (("bad.yaml",), "bad.yaml: instances.a.box: box [0.5, 0.5, 0.1, 0.9] is reversed"),
    ],
)
def test_wrong_input_is_explained_and_nothing_is_written(
    boxes: Path, amdm: Amdm, arguments: tuple[str, ...], message: str
) -> None:
    Path("bad.yaml").write_text("instances: {a: {phrase: x, box: [0.5, 0.5, 0.1, 0.9]}}")
    before = sorted(os.listdir())
    assert message in amdm("preview", *arguments, code=2).stderr
    assert sorted(os.listdir()) == before
