"""A labelled grid of pictures that a person can read without knowing the command that drew it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .picture_text import BORDER, FAINT, INK, PAPER, Text

SMALLEST_CELL = 192
"""Pictures are enlarged, by whole numbers and without smoothing, until their longer side has this many pixels."""

MOST_COLUMNS = 8
"""Of pictures side by side."""

CONTINUED = "(continued)"
"""Beside the columns that stand below the first ones."""


@dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        picture: None where there is none; the caption says why.
        caption: stands below it; its lines are broken where they are too long.
        heading: stands between the two, in darker letters.
    """

    picture: Image.Image | None
    caption: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Grid:
    """What is shown; texts may have several lines, which are broken where they are too long.

    Attributes:
        title: above everything, in large letters.
        subtitle: below the title.
        columns: labels.
        rows: labels.
        cells: rows of cells, one for every column; the last row may end earlier.
        footer: below everything: how to read the captions.
        most_lines: of a heading and of a caption, which are shortened where they have more; None is any number.
    """

    title: str
    subtitle: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    footer: str = ""
    most_lines: int | None = None


def enlargement(pictures: Sequence[Image.Image]) -> int:
    """Return the whole number by which all pictures of a grid are enlarged."""
    longest = max((max(picture.size) for picture in pictures), default=SMALLEST_CELL)
    return max(1, -(-SMALLEST_CELL // longest))


def draw_grid(grid: Grid) -> Image.Image:
    """Draw a grid as an RGB picture; the columns of a wide one continue below the first ones."""
    pictures = [cell.picture for row in grid.cells for cell in row if cell.picture is not None]
    scale = enlargement(pictures)
    cell_width = max([scale * picture.width for picture in pictures] + [SMALLEST_CELL])
    cell_height = max([scale * picture.height for picture in pictures], default=SMALLEST_CELL)
    size = min(max(cell_width // 14, 15), 22)
    title, label, small = Text(round(1.4 * size), INK), Text(size, INK), Text(round(0.87 * size), FAINT)
    margin, gap = 2 * size, size

    per_band = -(-len(grid.columns) // -(-len(grid.columns) // MOST_COLUMNS))
    bands = [range(first, len(grid.columns))[:per_band] for first in range(0, len(grid.columns), per_band)]
    beside = [label.widest(text) for text in grid.rows] + [small.widest(CONTINUED)] * (len(bands) > 1)
    label_width = min(cell_width, max(beside))
    left = margin + (label_width + gap if label_width else 0)
    width = max(left + per_band * (cell_width + gap) - gap + margin, 4 * SMALLEST_CELL)
    full = width - 2 * margin
    header_heights = [max(label.height(grid.columns[column], cell_width) for column in band) for band in bands]

    def text_height(cell: Cell) -> int:
        return sum(
            text.height(words, cell_width, grid.most_lines)
            for text, words in ((label, cell.heading), (small, cell.caption))
        )

    row_heights = [
        max(label.height(text, label_width), *(cell_height + gap // 3 + text_height(cell) for cell in cells))
        for text, cells in zip(grid.rows, grid.cells, strict=True)
    ]
    top = margin + title.height(grid.title, full) + small.height(grid.subtitle, full) + gap
    table_height = sum(header_heights) + len(bands) * (gap // 2 + sum(row_heights) + len(row_heights) * gap)
    page = Image.new("RGB", (width, top + table_height + small.height(grid.footer, full) + margin), PAPER)
    pen = ImageDraw.Draw(page)
    title.write(pen, margin, margin, grid.title, full)
    small.write(pen, margin, margin + title.height(grid.title, full), grid.subtitle, full)
    for band, header_height in zip(bands, header_heights, strict=True):
        if band.start > 0:
            small.write(pen, margin, top + header_height - small.line_height, CONTINUED, label_width)
        lefts = [left + place * (cell_width + gap) for place in range(len(band))]
        for place, column in zip(lefts, band, strict=True):
            text = grid.columns[column]
            # Labels end where the pictures begin, however many lines the longest has.
            label.write(pen, place, top + header_height - label.height(text, cell_width), text, cell_width)
        top += header_height + gap // 2
        for text, cells, row_height in zip(grid.rows, grid.cells, row_heights, strict=True):
            label.write(pen, margin, top, text, label_width)
            for place, column in zip(lefts, band, strict=True):
                if column >= len(cells):
                    break
                cell = cells[column]
                if cell.picture is None:
                    pen.rectangle((place, top, place + cell_width - 1, top + cell_height - 1), outline=BORDER)
                else:
                    enlarged = (scale * cell.picture.width, scale * cell.picture.height)
                    page.paste(cell.picture.convert("RGB").resize(enlarged, Image.Resampling.NEAREST), (place, top))
                below = top + cell_height + gap // 3
                label.write(pen, place, below, cell.heading, cell_width, grid.most_lines)
                below += label.height(cell.heading, cell_width, grid.most_lines)
                small.write(pen, place, below, cell.caption, cell_width, grid.most_lines)
            top += row_height + gap
    small.write(pen, margin, top, grid.footer, full)
    return page
