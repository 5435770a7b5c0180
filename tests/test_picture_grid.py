"""The labelled grid: where its pictures and texts stand, whatever their length."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from amdm_framework import picture_text
from amdm_framework.picture_grid import Cell, Grid, draw_grid
from pictures_in_grids import places_of


def noise(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 200, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def empty_runs(page: Image.Image, axis: int) -> list[tuple[int, int]]:
    """Stretches [start, stop) of columns (axis 0) or rows (axis 1) of a page without a mark."""
    blank = (np.asarray(page) == 255).all(axis=(axis, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], blank.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


LONG = "averylongnamewithoutanyplacetobreakitwhatsoeverandthensome"
WORDS = "aggregation.secondary_steps = 3, aggregation.instance_steps = 2 and some more words about it"


def test_pictures_stand_in_rows_and_columns_and_are_enlarged_exactly() -> None:
    pictures = [[noise(3 * row + column) for column in range(3)] for row in range(2)]
    cells = [[Cell(picture, f"{number} evaluations") for number, picture in enumerate(row)] for row in pictures]
    page = draw_grid(Grid("title", "subtitle", ["a", "b", "c"], ["seed 1", "seed 2"], cells))
    places = [[places_of(picture, page, 3) for picture in row] for row in pictures]
    assert all(len(found) == 1 for row in places for found in row)
    lefts = [[found[0][0] for found in row] for row in places]
    tops = [[found[0][1] for found in row] for row in places]
    assert lefts[0] == lefts[1] == sorted(lefts[0]) and np.diff(lefts[0]).min() > 192
    assert len(set(tops[0])) == len(set(tops[1])) == 1 and tops[1][0] > tops[0][0] + 192


def test_large_pictures_keep_their_size_and_one_factor_holds_for_all() -> None:
    large, small = noise(0, 256, 512), noise(1, 64, 64)
    page = draw_grid(Grid("t", "", ["a", "b"], ["r"], [[Cell(large), Cell(small)]]))
    assert len(places_of(large, page, 1)) == len(places_of(small, page, 1)) == 1


@pytest.mark.parametrize("text", [LONG, WORDS, f"{WORDS}\n{LONG}"], ids=["word", "words", "lines"])
def test_no_text_leaves_its_place(text: str) -> None:
    white = Image.new("RGB", (64, 64), "white")
    cells = [[Cell(white, text) for _ in range(3)] for _ in range(2)]
    page = draw_grid(Grid("t", "", [text] * 3, [text] * 2, cells))
    # White from top to bottom: both margins, and a strip between each two of the labels and the three columns.
    strips = [run for run in empty_runs(page, 0) if run[1] - run[0] >= 10]
    assert len(strips) == 5 and strips[0][0] == 0 and strips[-1][1] == page.width
    assert all(100 < right - left <= 192 for (_, left), (right, _) in itertools.pairwise(strips))
    around = draw_grid(Grid(text, text, ["c"], ["r"], [[Cell(white)]], text))
    for axis, length in ((0, around.width), (1, around.height)):
        (first, *_, last) = empty_runs(around, axis)
        assert first[0] == 0 and first[1] >= 10 and last[1] == length and last[1] - last[0] >= 10


def test_every_label_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, *rest: object, **more: object) -> None:
        written.append(words)
        original(self, place, words, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    columns = ["aggregation.steps =\N{NO-BREAK SPACE}3", "ä"]
    cells = [[Cell(noise(0), "one caption"), Cell(None, "failed: no memory")]]
    draw_grid(Grid("the title", "the subtitle", columns, ["seed 1"], cells, "the footer"))
    expected = ["the title", "the subtitle", "aggregation.steps = 3", "ä", "seed 1", "one caption", "failed: no memory"]
    assert written == [*expected, "the footer"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are written from now on."""
    texts: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, words, **rest: texts.append(words))
    return texts


def test_what_no_font_has_is_a_question_mark(written: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setattr(picture_text, "SYSTEM_FONTS", ())
    for cache in (picture_text.font_of, picture_text._system_fonts, picture_text._written):
        cache.cache_clear()
    draw_grid(
        Grid("größer \N{SLIGHTLY SMILING FACE}", "\N{CJK UNIFIED IDEOGRAPH-732B}", ["c"], ["r"], [[Cell(noise(0))]])
    )
    assert written[:2] == ["größer ?", "?"]
    dejavu = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    assert bytes(picture_text.usual_font(20).getmask("ö")) == bytes(ImageFont.truetype(dejavu, 20).getmask("ö"))


def test_without_matplotlib_letters_lose_their_marks(written: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    caches = (picture_text.usual_font, picture_text.font_of, picture_text._system_fonts, picture_text._written)
    monkeypatch.setattr(picture_text, "SYSTEM_FONTS", ())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for cache in caches:
        cache.cache_clear()
    try:
        draw_grid(Grid("höher \N{GRINNING FACE}", "", ["c"], ["r"], [[Cell(noise(0))]]))
    finally:
        for cache in caches:
            cache.cache_clear()
    assert written[0] == "hoher ?"


def test_long_words_break_behind_dots_and_commas(written: list[str]) -> None:
    draw_grid(Grid("t", "", ["providers.interactdiffusion,negative_condition"], ["r"], [[Cell(noise(0))]]))
    assert written[1:-1] and all(line[-1] in ".,_" for line in written[1:-2])


def test_a_value_stays_with_its_sign_where_a_label_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, words, **rest: written.append(words))
    label = "aggregation.secondary_steps_of_it =\N{NO-BREAK SPACE}3"
    draw_grid(Grid("t", "", [label], ["r"], [[Cell(noise(0))]]))
    assert "aggregation.secondary_steps_of_it" not in written[0] or "= 3" in written


def test_columns_below_the_first_ones_are_said_to_continue(written: list[str]) -> None:
    for count, said in ((8, 0), (9, 1), (17, 2)):
        written.clear()
        draw_grid(Grid("t", "", ["c"] * count, ["r"], [[Cell(noise(0, 8, 8))] * count]))
        assert written.count("(continued)") == said


def test_many_columns_continue_below() -> None:
    pictures = [noise(seed) for seed in range(9)]
    page = draw_grid(Grid("t", "", [f"c{k}" for k in range(9)], ["r"], [[Cell(picture) for picture in pictures]]))
    places = [places_of(picture, page, 3)[0] for picture in pictures]
    assert len({top for _, top in places}) == 2
    assert [left for left, _ in places[:4]] == [left for left, _ in places[5:]]


def test_a_font_of_the_system_writes_what_the_usual_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    other = Path(matplotlib.get_data_path(), "fonts", "ttf", "STIXGeneral.ttf")
    # A letter of mathematicians that DejaVu Sans has not.
    letter = "\N{MATHEMATICAL SCRIPT SMALL A}"
    caches = (picture_text.font_of, picture_text._system_fonts, picture_text._written)
    monkeypatch.setattr(picture_text, "SYSTEM_FONTS", (str(other),))
    for cache in caches:
        cache.cache_clear()
    try:
        size, text = 40, picture_text.Text(40, "black")
        page = Image.new("L", (300, 80), "white")
        text.write(ImageDraw.Draw(page), 10, 5, f"ä{letter}b", 280)
        assert text.lines(f"ä{letter}b", 280) == [f"ä{letter}b"]
    finally:
        for cache in caches:
            cache.cache_clear()
    usual, stix = picture_text.usual_font(size), ImageFont.truetype(other, size)
    expected = Image.new("L", (300, 80), "white")
    pen = ImageDraw.Draw(expected)
    # On one base line, each part where the one before it ends.
    base = 5 + usual.getmetrics()[0]
    x = 10.0
    for part, font in (("ä", usual), (letter, stix), ("b", usual)):
        pen.text((x, base), part, fill="black", font=font, anchor="ls")
        x += font.getlength(part)
    np.testing.assert_array_equal(np.asarray(page), np.asarray(expected))
