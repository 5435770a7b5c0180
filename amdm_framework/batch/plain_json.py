"""Reading JSON from anywhere: no doubled keys, our own errors."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        InputError: it is not JSON, not an object, or has a key twice, which JSON would silently resolve to the last.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_doubled_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"expected a JSON object, found {type(content).__name__}")
    return content


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        doubled = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {doubled!r:.80} stands there twice")
    return content
