"""Text in pictures: fonts that have its characters, lines that fit a width, and the colours it is written in."""

from __future__ import annotations

import math
import unicodedata
from functools import cache
from pathlib import Path
from typing import cast

from PIL import ImageColor, ImageDraw, ImageFont

BREAKS = "._,;-"
"""Behind these a word is broken that is too long for a line."""

INK, FAINT, PAPER, BORDER = "#1d1d1f", "#6e6e73", "white", "#d2d2d7"

DISTINCT = ("#0072b2", "#c44e00", "#00805c", "#e69f00", "#a8518a", "#56b4e9", "#5a4a8a", "#7d6226")
"""Colours that people tell apart however they see colours: Okabe and Ito's, some darker so that white reads on them."""

SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
)
"""Files that are looked for where the system keeps fonts, for characters that the usual font lacks."""

Font = ImageFont.FreeTypeFont


class Text:
    """Text of one size and colour, broken into lines of a width.

    Args:
        size: of the letters, in pixels.
        colour: as Pillow names it.
    """

    def __init__(self, size: int, colour: str) -> None:
        self.size = size
        self.colour = colour
        self.line_height = round(1.35 * size)

    def lines(self, text: str, width: int, most: int | None = None) -> list[str]:
        """Break a text at its spaces; a word that is too long for a line behind a mark, or else where the line ends.

        Args:
            text: may have several lines.
            width: of a line, in pixels.
            most: lines to return at most; the last one then ends with an ellipsis.
        """
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
        if most is None or len(broken) <= most:
            return broken
        last = broken[most - 1]
        while last and self._length(f"{last}…") > width:
            last = last[:-1]
        return [*broken[: most - 1], f"{last.rstrip()}…"]

    def height(self, text: str, width: int, most: int | None = None) -> int:
        """Return the height of a text, in pixels, broken into lines of a width."""
        return self.line_height * len(self.lines(text, width, most))

    def write(
        self, pen: ImageDraw.ImageDraw, left: int, top: int, text: str, width: int, most: int | None = None
    ) -> None:
        """Write a text whose first line begins at a place."""
        ascent = usual_font(self.size).getmetrics()[0]
        for number, line in enumerate(self.lines(text, width, most)):
            x = float(left)
            for part, font in _parts(line, self.size):
                # Letters of all fonts stand on one line.
                y = top + number * self.line_height + ascent - font.getmetrics()[0]
                pen.text((x, y), part, fill=self.colour, font=font)
                x += font.getlength(part)

    def widest(self, text: str) -> int:
        """Return the width of a text's longest line, in pixels, where none is broken."""
        return max(math.ceil(self._length(line)) for line in _written(text, self.size).split("\n"))

    def _length(self, text: str) -> float:
        return sum(font.getlength(part) for part, font in _parts(text, self.size))


@cache
def usual_font(size: int) -> Font:
    """Return matplotlib's font, which has the letters of most alphabets, or Pillow's, which has those of English."""
    try:
        import matplotlib
    except ImportError:
        return cast(Font, ImageFont.load_default(size))
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


@cache
def font_of(character: str, size: int) -> Font | None:
    """Return the font for a character: the usual one, one of the system, or None where none of them has it."""
    return next((font for font in (usual_font(size), *_system_fonts(size)) if not _lacks(font, character)), None)


@cache
def _system_fonts(size: int) -> tuple[Font, ...]:
    fonts: list[Font] = []
    for name in SYSTEM_FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(fonts)


@cache
def _picture_of(character: str, font: Font) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _lacks(font: Font, character: str) -> bool:
    # A font draws one picture for all that it lacks, a character that no font has among it.
    return not character.isspace() and _picture_of(character, font) == _picture_of("\U0010fffe", font)


@cache
def _written(text: str, size: int) -> str:
    """Return a text with `?` for what no font has, or with the letters that make it up (`o` for `ö`)."""
    written = ""
    for character in unicodedata.normalize("NFC", text):
        parts = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        choices = (character, parts)
        written += next((one for one in choices if one and all(font_of(part, size) for part in one)), "?")
    return written


def _parts(line: str, size: int) -> list[tuple[str, Font]]:
    """Return the stretches of a line that are written in one font each."""
    usual = usual_font(size)
    parts: list[tuple[str, Font]] = []
    for character in line.replace("\N{NO-BREAK SPACE}", " "):
        font = font_of(character, size) or usual
        if parts and parts[-1][1] is font:
            parts[-1] = parts[-1][0] + character, font
        else:
            parts.append((character, font))
    return parts


def readable_on(colour: str) -> str:
    """Return the ink, dark or white, in which text is easier to read on a colour (by the contrast of WCAG 2.1)."""
    channels = [value / 255 for value in ImageColor.getrgb(colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.06 else INK
