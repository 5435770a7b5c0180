"""How autodoc shows this project's code.

Docstrings are written as Markdown, autodoc reads reStructuredText: the little that they use is translated. Models of
options and settings have one parameter for every key, which other pages list: their signatures are left out.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

_CODE = re.compile(r"`([^`]+)`")
# What reStructuredText would take for markup: substitutions, emphasis, and names that end in an underscore.
_MARKUP = re.compile(r"[|*\\]|(?<=\w)_(?=\W|$)")


def translate(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText, for napoleon to go on with."""
    translated: list[str] = []
    text, code_from = 0, None
    for index, line in enumerate(lines):
        if not line.strip():
            translated.append(line)
            continue
        indentation = len(line) - len(line.lstrip())
        if code_from is not None and indentation >= code_from:
            translated.append(line)
            continue
        code_from = None
        if index and not lines[index - 1].strip() and indentation >= text + 4:
            # An indented block, which is code.
            code_from = indentation
            translated += [" " * text + "::", "", line]
            continue
        text = indentation
        parts = _CODE.split(line)
        # Texts and codes take turns.
        parts = [f"``{part}``" if odd % 2 else _MARKUP.sub(r"\\\g<0>", part) for odd, part in enumerate(parts)]
        translated.append("".join(parts))
    return translated


def process(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Translate the docstring that autodoc has found, in place."""
    lines[:] = translate(lines)


def shorten(
    app: Sphinx, what: str, name: str, subject: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Return the signature of a model of options; None leaves that of anything else as it is."""
    return ("(**keys)", None) if isinstance(subject, type) and issubclass(subject, BaseModel) else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    # Before napoleon, which turns the sections into fields.
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
