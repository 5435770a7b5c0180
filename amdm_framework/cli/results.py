"""How commands print: JSON or text on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def echo_json(content: Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


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
