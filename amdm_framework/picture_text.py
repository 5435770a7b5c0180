"""Text in pictures: fonts that have its characters, lines that fit a width, and the colours it is written in."""

from __future__ import annotations

import math
import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageColor, ImageDraw, ImageFont

BREAKS = "._,;-"
"""Behind these a word is broken that is too long for a line."""

INK, FAINT, PAPER, BORDER = "#1d1d1f", "#6e6e73", "white", "#d2d2d7"

DISTINCT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#8c6d31")
"""Colours that people tell apart however they see colours: six of Okabe and Ito's, and two more of other lightness."""

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

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Text:
    """Text of one size and colour, broken into lines of a width.

    Args:
        size: of the letters, in pixels.
        colour: as Pillow names it.
        bold: whether in bold letters.
    """

    def __init__(self, size: int, colour: str, bold: bool = False) -> None:
        self.size = size
        self.colour = colour
        self.bold = bold
        self.line_height = round(1.35 * size)

    def lines(self, text: str, width: int, most: int | None = None) -> list[str]:
        """Break a text at its spaces; a word that is too long for a line behind a mark, or else where the line ends.

        Args:
            text: may have several lines.
            width: of a line, in pixels.
            most: lines to return at most; the last one then ends with an ellipsis.
        """
        font = self._font(text)
        broken: list[str] = []
        for paragraph in _written(text, font).split("\n") if text else []:
            line = ""
            for word in paragraph.split(" "):
                longer = f"{line} {word}" if line else word
                if _length(longer, font) <= width:
                    line = longer
                    continue
                if line:
                    broken.append(line)
                while _length(word, font) > width and len(word) > 1:
                    fitting = max(1, sum(_length(word[:end], font) <= width for end in range(1, len(word))))
                    # A dot or an underscore of a key, a comma or a dash, where there is one.
                    fitting = max(word.rfind(mark, 0, fitting) for mark in BREAKS) + 1 or fitting
                    broken.append(word[:fitting])
                    word = word[fitting:]
                line = word
            broken.append(line)
        if most is None or len(broken) <= most:
            return broken
        last = broken[most - 1]
        while last and _length(f"{last}…", font) > width:
            last = last[:-1]
        return [*broken[: most - 1], f"{last.rstrip()}…"]

    def height(self, text: str, width: int, most: int | None = None) -> int:
        """Return the height of a text, in pixels, broken into lines of a width."""
        return self.line_height * len(self.lines(text, width, most))

    def write(
        self, pen: ImageDraw.ImageDraw, left: int, top: int, text: str, width: int, most: int | None = None
    ) -> None:
        """Write a text whose first line begins at a place."""
        font = self._font(text)
        for number, line in enumerate(self.lines(text, width, most)):
            written = line.replace("\N{NO-BREAK SPACE}", " ")
            pen.text((left, top + number * self.line_height), written, fill=self.colour, font=font)

    def widest(self, text: str) -> int:
        """Return the width of a text's longest line, in pixels, where none is broken."""
        font = self._font(text)
        return max(math.ceil(_length(line, font)) for line in _written(text, font).split("\n"))

    def _font(self, text: str) -> Font:
        return font_for(text, self.size, self.bold)


@cache
def font_for(text: str, size: int, bold: bool = False) -> Font:
    """Return the font for a text: the usual one, or that of the system which lacks fewer of its characters."""
    characters = {character for character in unicodedata.normalize("NFC", text) if not character.isspace()}

    def lacking(font: Font) -> int:
        return sum(_lacks(font, character) for character in characters)

    usual = usual_font(size, bold)
    if not lacking(usual):
        return usual
    return min([usual, *_system_fonts(size)], key=lacking)


@cache
def usual_font(size: int, bold: bool = False) -> Font:
    """Return matplotlib's font, which has the letters of most alphabets, or Pillow's, which has those of English."""
    try:
        import matplotlib
    except ImportError:
        return ImageFont.load_default(size)
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


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
    return _picture_of(character, font) == _picture_of("\U0010fffe", font)


@cache
def _written(text: str, font: Font) -> str:
    """Return a text with `?` for what the font lacks, or with the letters that make it up (`o` for `ö`)."""
    written = ""
    for character in unicodedata.normalize("NFC", text):
        parts = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        for choice in (character, parts):
            if choice and all(part.isspace() or not _lacks(font, part) for part in choice):
                written += choice
                break
        else:
            written += "?"
    return written


def _length(text: str, font: Font) -> float:
    return font.getlength(text.replace("\N{NO-BREAK SPACE}", " "))


def readable_on(colour: str) -> str:
    """Return the ink, dark or white, in which text is easier to read on a colour (by the contrast of WCAG 2.1)."""
    channels = [value / 255 for value in ImageColor.getrgb(colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.06 else INK
