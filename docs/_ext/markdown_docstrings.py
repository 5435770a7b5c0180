"""Docstrings are written as Markdown; autodoc reads reStructuredText. This translates the little that they use."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"`([^`]+)`")
# What reStructuredText would take for markup: substitutions, emphasis, and names that end in an underscore.
_MARKUP = re.compile(r"[|*\\]|(?<=\w)_(?=\W|$)")


def translate(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText, for napoleon to go on with."""
    translated = []
    for index, line in enumerate(lines):
        parts = _CODE.split(line)
        # Texts and codes take turns.
        parts = [f"``{part}``" if odd % 2 else _MARKUP.sub(r"\\\g<0>", part) for odd, part in enumerate(parts)]
        text = "".join(parts)
        if text.endswith(":") and _is_indented_block(lines, index + 1):
            text += ":"
        translated.append(text)
    return translated


def _is_indented_block(lines: list[str], start: int) -> bool:
    here = _indentation(lines[start - 1])
    return start + 1 < len(lines) and not lines[start].strip() and _indentation(lines[start + 1]) >= here + 4


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def process(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Translate the docstring that autodoc has found, in place."""
    lines[:] = translate(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    # Before napoleon, which turns the sections into fields.
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
