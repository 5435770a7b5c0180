"""Lays pictures out as a labelled table: what was asked for, then a column for every way of drawing it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from amdm_framework.scene import Scene
from amdm_shapes_zoo.world import COLOURS, MARK_COLOUR

CELL = 256
MARGIN = 14
HEADER = 64
CAPTION_HEIGHT = 36
INK, FAINT, PAPER = "#1d1d1f", "#6e6e73", "white"
_REFERENCE = 72


@dataclass(frozen=True)
class Column:
    """One way of drawing all scenes.

    Attributes:
        title: above the column.
        pictures: one per scene.
        scores: shares from 0 to 1, written under the title.
    """

    title: str
    pictures: Sequence[Image.Image]
    scores: Mapping[str, float]


def scene_picture(scene: Scene, size: int = CELL) -> Image.Image:
    """Draw a scene's boxes with their phrases, its interactions as arrows, and its reference in a corner."""
    picture = Image.new("RGB", (size, size), "#f5f5f7")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    if scene.references:
        thumbnail = scene.references[0].open().resize((_REFERENCE, _REFERENCE), Image.Resampling.NEAREST)
        picture.paste(thumbnail, (size - _REFERENCE, size - _REFERENCE))
        pen.rectangle((size - _REFERENCE, size - _REFERENCE, size - 1, size - 1), outline=FAINT)
        pen.text((size - _REFERENCE, size - _REFERENCE - 16), "style", fill=FAINT, font=font)
    centres = {}
    for name, instance in scene.instances.items():
        left, top, right, bottom = (edge * size for edge in instance.box)
        colour = COLOURS.get(instance.phrase.split()[0], (90, 90, 90))
        pale = sum(colour) > 600
        pen.rectangle((left, top, right, bottom), outline="#86868b" if pale else colour, width=3)
        lines = textwrap.fill(instance.phrase, 9)
        pen.multiline_text(((left + right) / 2, (top + bottom) / 2), lines, INK, font, anchor="mm", align="center")
        centres[name] = ((left + right) / 2, (top + bottom) / 2)
    for one in scene.interactions:
        if one.subject != one.object:
            (x0, y0), (x1, y1) = centres[one.subject], centres[one.object]
            start, end = _between(x0, y0, x1, y1, 0.32), _between(x0, y0, x1, y1, 0.68)
            pen.line((*start, *end), fill=MARK_COLOUR, width=3)
            pen.ellipse((end[0] - 5, end[1] - 5, end[0] + 5, end[1] + 5), fill=MARK_COLOUR)
            middle = _between(x0, y0, x1, y1, 0.5)
            pen.text(middle, one.action, MARK_COLOUR, font, anchor="mb", stroke_width=3, stroke_fill="#f5f5f7")
    return picture


def _between(x0: float, y0: float, x1: float, y1: float, share: float) -> tuple[float, float]:
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def sheet(scenes: Sequence[Scene], columns: Sequence[Column]) -> Image.Image:
    """Return the table: a row for every scene, first what was asked for, then the columns."""
    font, small = ImageFont.load_default(size=18), ImageFont.load_default(size=13)
    step, row_height = CELL + MARGIN, CELL + CAPTION_HEIGHT
    page = Image.new("RGB", (MARGIN + (1 + len(columns)) * step, HEADER + len(scenes) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), "the scene", fill=INK, font=font)
    for place, column in enumerate(columns, start=1):
        left = MARGIN + place * step
        pen.text((left, MARGIN), column.title, fill=INK, font=font)
        scores = "   ".join(f"{name} {100 * value:.0f} %" for name, value in column.scores.items())
        pen.text((left, MARGIN + 25), scores, fill=FAINT, font=small)
    for row, scene in enumerate(scenes):
        top = HEADER + row * row_height
        page.paste(scene_picture(scene), (MARGIN, top))
        caption = textwrap.fill(scene.caption, 170)
        pen.multiline_text((MARGIN, top + CELL + 8), caption, fill=FAINT, font=small)
        for place, column in enumerate(columns, start=1):
            enlarged = column.pictures[row].resize((CELL, CELL), Image.Resampling.NEAREST)
            page.paste(enlarged, (MARGIN + place * step, top))
    return page
