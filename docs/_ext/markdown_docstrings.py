"""How autodoc shows this project's code.

Docstrings are written as Markdown, autodoc reads reStructuredText: the little that they use is translated. The fields of
pydantic models, which have no docstrings, become a table; it stands for the signature too.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

_CODE = re.compile(r"`([^`]+)`")
# What reStructuredText would take for markup: substitutions, emphasis, and names that end in an underscore.
_MARKUP = re.compile(r"[|*\\]|(?<=\w)_(?=\W|$)")
# Packages before a name: signatures and types are read by people.
_PACKAGES = re.compile(r"~?\b(?:[A-Za-z_]\w*\.)+(?=\w)")
# A default that a dataclass makes by a function, which is no expression of Python.
_FACTORY = re.compile(r"\s*=\s*<factory>")


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


def add_fields(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Append a table of the fields of a pydantic model to its docstring, in place."""
    if not (isinstance(subject, type) and issubclass(subject, BaseModel) and subject.model_fields):
        return
    rows = [("key", "type", "default", "meaning")]
    for key, field in subject.model_fields.items():
        (meaning,) = translate([field.description or ""])
        annotation = stringify_annotation(field.annotation, "fully-qualified-except-typing")
        rows.append((f"``{key}``", f"``{_PACKAGES.sub('', annotation)}``", _default(field), meaning))
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for row in rows:
        lines += [f"   {'*' if cell == 0 else ' '} - {text}" for cell, text in enumerate(row)]
    lines.append("")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory_takes_validated_data:
        return "depends on the others"
    value = field.get_default(call_default_factory=True)
    # A model of its own, whose class says its defaults.
    return "its own defaults" if isinstance(value, BaseModel) else f"``{value!r}``"


def shorten(
    app: Sphinx, what: str, name: str, subject: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Return the signature of a class as people write it; None leaves that of anything else as it is."""
    if isinstance(subject, type) and issubclass(subject, BaseModel):
        return "(**keys)", None
    if signature and _FACTORY.search(signature):
        return _FACTORY.sub(" = ...", _PACKAGES.sub("", signature)), None
    return None


def drop_aliases(app: Sphinx, document: nodes.document) -> None:
    """Take out what autodoc adds to a type with checks: the docstring says it in words."""
    for paragraph in list(document.findall(nodes.paragraph)):
        if paragraph.astext().startswith("alias of Annotated["):
            paragraph.parent.remove(paragraph)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    # Before napoleon, which turns the sections into fields.
    app.connect("autodoc-process-docstring", process, priority=100)
    # After it, which would take the table for a part of the last section.
    app.connect("autodoc-process-docstring", add_fields, priority=900)
    app.connect("autodoc-process-signature", shorten)
    app.connect("doctree-read", drop_aliases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
