"""How commands print: JSON or text on standard output, everything else on standard error."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import click

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def echo_json(content: Any) -> None:
    """Print plain data as JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # What would steer a terminal stands for itself as an escape of JSON.
    click.echo("".join(one if one == "\n" or _is_visible(one) else json.dumps(one)[1:-1] for one in text))


def printable(text: str) -> str:
    """Return text from anywhere as a terminal can show it: what would steer the terminal is written as an escape.

    Line ends stay; colours, other control sequences and changes of the direction of writing do not.
    """
    return "".join(one if one == "\n" or _is_visible(one) else one.encode("unicode_escape").decode() for one in text)


def _is_visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def echo_title(title: str) -> None:
    """Print the title of a part of the output."""
    click.echo(click.style(title, bold=True))


def in_units(size: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
