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
HEADER = 78
CAPTION_HEIGHT = 36
INK, FAINT, PAPER = "#1d1d1f", "#6e6e73", "white"
REFERENCE = 128


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
    """Draw a scene's boxes with their phrases, and its interactions as lines that end at the object."""
    picture = Image.new("RGB", (size, size), "#f5f5f7")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
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
    """Return the table: a row for every scene: its boxes, the picture whose style is wanted, then the columns."""
    font, small = ImageFont.load_default(size=18), ImageFont.load_default(size=13)
    step, row_height = CELL + MARGIN, CELL + CAPTION_HEIGHT
    first = MARGIN + step + REFERENCE + 2 * MARGIN
    page = Image.new("RGB", (first + len(columns) * step, HEADER + len(scenes) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), "the scene", fill=INK, font=font)
    pen.text((MARGIN + step, MARGIN), "style of", fill=INK, font=font)
    lefts = [first + place * step for place in range(len(columns))]
    for left, column in zip(lefts, columns, strict=True):
        pen.text((left, MARGIN), column.title, fill=INK, font=font)
        scores = [f"{name} {100 * value:.0f} %" for name, value in column.scores.items()]
        lines = ["   ".join(scores[start : start + 2]) for start in range(0, len(scores), 2)]
        pen.multiline_text((left, MARGIN + 25), "\n".join(lines), fill=FAINT, font=small)
    for row, scene in enumerate(scenes):
        top = HEADER + row * row_height
        page.paste(scene_picture(scene), (MARGIN, top))
        for reference in scene.references[:1]:
            style = reference.open().resize((REFERENCE, REFERENCE), Image.Resampling.NEAREST)
            page.paste(style, (MARGIN + step, top))
        pen.multiline_text((MARGIN, top + CELL + 8), textwrap.fill(scene.caption, 170), fill=FAINT, font=small)
        for left, column in zip(lefts, columns, strict=True):
            page.paste(column.pictures[row].resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
    return page
