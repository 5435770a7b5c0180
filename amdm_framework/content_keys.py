"""Values in parsed YAML or JSON, by where they stand."""

from __future__ import annotations

from typing import Any

from .yaml_files import positions_of

Key = tuple[str | int, ...]


def value_at(content: Any, key: Key) -> Any:
    """Return the value at a key of parsed YAML or JSON, None where there is none; a member's name is a position."""
    for part in key:
        if isinstance(content, list) and isinstance(part, str) and len(positions := positions_of(content, part)) == 1:
            part = positions[0]
        try:
            content = content[part]
        except (LookupError, TypeError):
            return None
    return content


def replace_value(content: Any, key: Key, value: str) -> None:
    """Set the value at an existing key of parsed YAML or JSON, in place."""
    *parents, last = key
    value_at(content, tuple(parents))[last] = value
