"""A labelled grid of pictures that a person can read without knowing the command that drew it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SMALLEST_CELL = 192
"""Pictures are enlarged, by whole numbers and without smoothing, until their longer side has this many pixels."""

MOST_COLUMNS = 8
"""Of pictures side by side."""

CONTINUED = "(continued)"
"""Beside the columns that stand below the first ones."""

BREAKS = "._,;-"
"""Behind these a word is broken that is too long for a line."""

INK, FAINT, PAPER, BORDER = "#1d1d1f", "#6e6e73", "white", "#d2d2d7"


@dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        picture: None where there is none; the caption says why.
        caption: stands below it; its lines are broken where they are too long.
    """

    picture: Image.Image | None
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """What is shown; texts may have several lines, which are broken where they are too long.

    Attributes:
        title: above everything, in large letters.
        subtitle: below the title.
        columns: labels.
        rows: labels.
        cells: rows of cells, one for every column.
        footer: below everything: how to read the captions.
    """

    title: str
    subtitle: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    footer: str = ""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        import matplotlib
    except ImportError:
        # It has the letters of English, hardly any others.
        return ImageFont.load_default(size)
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


@cache
def _picture_of(character: str, size: int) -> tuple[tuple[int, int], bytes]:
    mask = _font(size).getmask(character)
    return mask.size, bytes(mask)


@cache
def _written(text: str, size: int) -> str:
    """Return a text with `?` for what the font lacks, or with the letters that make it up (`o` for `ö`)."""
    # A font draws one picture for all that it lacks, a character that no font has among it.
    lacking = _picture_of("\U0010fffe", size)
    written = ""
    for character in unicodedata.normalize("NFC", text):
        parts = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        for choice in (character, parts):
            if choice and all(part.isspace() or _picture_of(part, size) != lacking for part in choice):
                written += choice
                break
        else:
            written += "?"
    return written


class _Text:
    """Text in one size, broken into lines of a width."""

    def __init__(self, size: int, colour: str) -> None:
        self.size = size
        self.font = _font(size)
        self.colour = colour
        self.line_height = round(1.35 * size)

    def lines(self, text: str, width: int) -> list[str]:
        """Break a text at its spaces; a word that is too long for a line behind a mark, or else where the line ends."""
        broken: list[str] = []
        for paragraph in _written(text, self.size).split("\n") if text else []:
            line = ""
            for word in paragraph.split(" "):
                longer = f"{line} {word}" if line else word
                if self._length(longer) <= width:
                    line = longer
                    continue
                if line:
                    broken.append(line)
                while self._length(word) > width and len(word) > 1:
                    fitting = max(1, sum(self._length(word[:end]) <= width for end in range(1, len(word))))
                    # A dot or an underscore of a key, a comma or a dash, where there is one.
                    fitting = max(word.rfind(mark, 0, fitting) for mark in BREAKS) + 1 or fitting
                    broken.append(word[:fitting])
                    word = word[fitting:]
                line = word
            broken.append(line)
        return broken

    def height(self, text: str, width: int) -> int:
        return self.line_height * len(self.lines(text, width))

    def write(self, pen: ImageDraw.ImageDraw, left: int, top: int, text: str, width: int) -> None:
        for number, line in enumerate(self.lines(text, width)):
            written = line.replace("\N{NO-BREAK SPACE}", " ")
            pen.text((left, top + number * self.line_height), written, fill=self.colour, font=self.font)

    def widest(self, text: str) -> int:
        return max(math.ceil(self._length(line)) for line in _written(text, self.size).split("\n"))

    def _length(self, text: str) -> float:
        return self.font.getlength(text.replace("\N{NO-BREAK SPACE}", " "))


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
    title, label, small = _Text(round(1.4 * size), INK), _Text(size, INK), _Text(round(0.87 * size), FAINT)
    margin, gap = 2 * size, size

    per_band = -(-len(grid.columns) // -(-len(grid.columns) // MOST_COLUMNS))
    bands = [range(first, len(grid.columns))[:per_band] for first in range(0, len(grid.columns), per_band)]
    beside = [label.widest(text) for text in grid.rows] + [small.widest(CONTINUED)] * (len(bands) > 1)
    label_width = min(cell_width, max(beside))
    left = margin + label_width + gap
    width = max(left + per_band * (cell_width + gap) - gap + margin, 4 * SMALLEST_CELL)
    full = width - 2 * margin
    header_heights = [max(label.height(grid.columns[column], cell_width) for column in band) for band in bands]
    row_heights = [
        max(
            label.height(text, label_width),
            *(cell_height + gap // 3 + small.height(cell.caption, cell_width) for cell in cells),
        )
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
                cell = cells[column]
                if cell.picture is None:
                    pen.rectangle((place, top, place + cell_width - 1, top + cell_height - 1), outline=BORDER)
                else:
                    enlarged = (scale * cell.picture.width, scale * cell.picture.height)
                    page.paste(cell.picture.convert("RGB").resize(enlarged, Image.Resampling.NEAREST), (place, top))
                small.write(pen, place, top + cell_height + gap // 3, cell.caption, cell_width)
            top += row_height + gap
    small.write(pen, margin, top, grid.footer, full)
    return page
