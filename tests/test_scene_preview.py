"""A scene drawn for people: what stands where, pixel by pixel, and what is written."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from amdm_framework.errors import InputError
from amdm_framework.picture_text import DISTINCT, readable_on
from amdm_framework.scene import Scene, read_scene
from amdm_framework.scene_preview import draw_boxes, draw_scene
from pictures_in_grids import places_of

WIDTH, HEIGHT = 400, 300
COLOURS = [np.array(ImageColor.getrgb(colour)) for colour in DISTINCT]
LEFT, RIGHT = (0.1, 0.4, 0.3, 0.8), (0.7, 0.4, 0.9, 0.8)


def scene(**content: Any) -> Scene:
    return read_scene(content)


def two(*interactions: tuple[str, str]) -> Scene:
    instances = {"a": {"phrase": "an apple", "box": LEFT}, "b": {"phrase": "a bee", "box": RIGHT}}
    return scene(
        instances=instances,
        interactions=[{"subject": one, "action": "x", "object": other} for one, other in interactions],
    )


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(80, 255, (HEIGHT, WIDTH, 3), np.uint8))


def test_boxes_have_their_edges_where_the_scene_says_and_leave_what_they_hold() -> None:
    picture = noise()
    before, drawn = np.asarray(picture).astype(int), np.asarray(draw_boxes(two(), picture)).astype(int)
    assert drawn.shape == before.shape
    for (left, top, right, bottom), colour in zip((LEFT, RIGHT), COLOURS, strict=False):
        x0, y0, x1, y1 = (round(value) for value in (left * WIDTH, top * HEIGHT, right * WIDTH, bottom * HEIGHT))
        middle = (y0 + y1) // 2, (x0 + x1) // 2
        # The first and the last row and column of a box, and those next to them outside.
        for edge, outside in (((middle[0], x0), (middle[0], x0 - 1)), ((middle[0], x1 - 1), (middle[0], x1)),
                              ((y1 - 1, middle[1]), (y1, middle[1]))):  # fmt: skip
            assert abs(drawn[edge] - colour).max() <= 1
            np.testing.assert_array_equal(drawn[outside], before[outside])
        held = slice(y0 + 25, y1 - 8), slice(x0 + 8, x1 - 8)
        np.testing.assert_array_equal(drawn[held], before[held])


def test_boxes_on_paper_are_tinted_with_their_colour() -> None:
    drawn = np.asarray(draw_boxes(two(), Image.new("RGB", (WIDTH, HEIGHT), "white"), filled=True)).astype(int)
    for (left, _, right, bottom), colour in zip((LEFT, RIGHT), COLOURS, strict=False):
        pixel = drawn[round(bottom * HEIGHT) - 20, round((left + right) / 2 * WIDTH)]
        np.testing.assert_allclose(pixel, 255 - (255 - colour) * 34 / 255, atol=1.5)


@pytest.mark.parametrize(
    ("phrases", "hues"),
    [
        (["a red circle", "a BLUE-ish star"], ["red", "blue"]),
        (["a green leaf on a red box", "grey"], ["green", None]),
        (["a bored yak", "a purple bee"], [DISTINCT[0], "purple"]),
        (["redder", "a bee"], [DISTINCT[0], DISTINCT[1]]),
    ],
)
def test_boxes_have_the_colour_that_their_phrase_names(phrases: list[str], hues: list[str | None]) -> None:
    boxes = zip(phrases, (LEFT, RIGHT), strict=True)
    instances = {phrase: {"phrase": phrase, "box": box} for phrase, box in boxes}
    drawn = np.asarray(draw_boxes(scene(instances=instances), noise())).astype(int)
    for (left, top, _, bottom), hue in zip((LEFT, RIGHT), hues, strict=True):
        pixel = drawn[round((top + bottom) / 2 * HEIGHT), round(left * WIDTH)]
        if hue is None:
            assert pixel.min() == pixel.max()
        elif hue.startswith("#"):
            assert abs(pixel - ImageColor.getrgb(hue)).max() <= 1
        else:
            # Near the colour of that name in CSS: of its hue, in degrees.
            turn = [colorsys.rgb_to_hsv(*(one / 255 for one in rgb))[0] for rgb in (pixel, ImageColor.getrgb(hue))]
            assert min(abs(turn[0] - turn[1]), 1 - abs(turn[0] - turn[1])) < 0.1


def dark(drawn: Image.Image, left: int, top: int, right: int, bottom: int) -> int:
    return int((np.asarray(drawn)[top:bottom, left:right].max(-1) < 60).sum())


def test_an_arrow_leads_from_subject_to_object_with_its_head_there() -> None:
    paper = Image.new("RGB", (WIDTH, HEIGHT), "white")
    none, there, back = (draw_boxes(two(*pairs), paper) for pairs in ((), (("a", "b"),), (("b", "a"),)))
    gap = (round(LEFT[2] * WIDTH) + 1, 0, round(RIGHT[0] * WIDTH) - 1, HEIGHT)
    assert dark(none, *gap) == 0 and dark(there, *gap) > 100
    at_a, at_b = (gap[0], 0, gap[0] + 20, HEIGHT), (gap[2] - 20, 0, gap[2], HEIGHT)
    assert dark(there, *at_b) > 1.3 * dark(there, *at_a) and dark(back, *at_a) > 1.3 * dark(back, *at_b)
    both = draw_boxes(two(("a", "b"), ("b", "a")), paper)
    # Neither lies on the other: the two of them are as dark as each alone.
    assert dark(both, *gap) > 0.9 * (dark(there, *gap) + dark(back, *gap))


def test_an_instance_that_acts_on_itself_has_a_loop_at_its_box() -> None:
    paper = Image.new("RGB", (WIDTH, HEIGHT), "white")
    drawn = np.asarray(draw_boxes(two(("a", "a")), paper)).astype(int)
    without = np.asarray(draw_boxes(two(), paper)).astype(int)
    rows, columns = np.nonzero(abs(drawn - without).max(-1) > 60)
    x0, y0, x1, y1 = (value * side for value, side in zip(LEFT, (WIDTH, HEIGHT) * 2, strict=True))
    assert len(rows) > 50
    assert x0 - 50 < columns.min() and columns.max() < x1 + 50 and y0 - 50 < rows.min() and rows.max() < y1 + 50


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are written from now on."""
    texts: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, words, **rest: texts.append(words))
    return texts


def test_everything_a_scene_says_is_written(written: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "#12ab34").save(tmp_path / "oil.png")
    full = read_scene(
        {"caption": "größer", "negative": "blur", "instances": {"a": {"phrase": "an apple", "box": LEFT}},
         "interactions": [{"subject": "a", "action": "rolling", "object": "a"}],
         "references": [{"role": "style", "image": "oil.png"}, {"role": "face", "image": "oil.png", "instance": "a"}]},
        tmp_path,
    )  # fmt: skip
    page = draw_scene(full, 400, 300)
    assert sorted(written) == sorted(["style", "face, of a", "an apple", "rolling", "größer", "without: blur"])
    green = (np.asarray(page) == (0x12, 0xAB, 0x34)).all(-1)
    # Two thumbnails beside each other, below the boxes.
    rows, columns = np.nonzero(green)
    assert rows.min() > 300 and len(np.flatnonzero(np.diff(np.flatnonzero(green.any(0))) > 1)) == 1
    assert np.isclose((columns.max() - columns.min()) / (rows.max() - rows.min()), 3, atol=1.5)


def test_a_scene_of_words_alone_says_so(written: list[str]) -> None:
    draw_scene(scene(caption="a star"), 512, 512)
    assert "a star" in written and any(line.startswith("no instances") for line in written)


def test_a_long_phrase_is_shortened_to_three_lines(written: list[str]) -> None:
    phrase = "a very long phrase about one thing and another that does not come to an end " * 3
    draw_boxes(scene(instances={"a": {"phrase": phrase, "box": (0.1, 0.1, 0.3, 0.3)}}), noise())
    assert len(written) == 3 and written[-1].endswith("…") and phrase.startswith(" ".join(written)[:-1])


def test_a_page_shows_the_picture_enlarged_exactly() -> None:
    small = noise().resize((40, 30))
    page = draw_scene(scene(caption="x"), 400, 300, small)
    assert len(places_of(small, page, 10)) == 1


@pytest.mark.parametrize("size", [(128, 128), (4096, 140), (200, 1500)])
def test_extreme_sizes_and_boxes_can_be_drawn(size: tuple[int, int]) -> None:
    boxes = [(0, 0, 1, 1), (0, 0, 1e-6, 1e-6), (0.999, 0.999, 1, 1), (0.4, 0.4, 0.6, 0.6), (0.4, 0.4, 0.6, 0.6)]
    instances = {str(number): {"phrase": "x" * 300, "box": box} for number, box in enumerate(boxes)}
    pairs = [(one, other) for one in instances for other in instances]
    crowded = scene(
        caption="word " * 3000, instances=instances,
        interactions=[{"subject": one, "action": "y" * 100, "object": other} for one, other in pairs],
    )  # fmt: skip
    page = draw_scene(crowded, *size)
    assert page.width < size[0] + 200 and page.height < size[1] + 2000


def test_a_broken_reference_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "oil.png").write_text("no picture")
    broken = read_scene({"references": [{"role": "style", "image": "oil.png"}]}, tmp_path)
    with pytest.raises(InputError, match="oil.png is not a picture"):
        draw_scene(broken, 400, 300)


@pytest.mark.parametrize(("colour", "ink"), [("#000000", "white"), ("#ffff00", "#1d1d1f"), ("#0072b2", "white")])
def test_labels_are_written_in_the_ink_that_reads_better(colour: str, ink: str) -> None:
    assert readable_on(colour) == ink
