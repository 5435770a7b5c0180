"""Reading JSON objects from anywhere: no doubled keys, a limit for files, our own errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem


def read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """Read the JSON object in a file.

    Args:
        path: the file.
        max_bytes: a larger file is a mistake.

    Raises:
        InputError: there is no such file, it is too large, is not text, not JSON, no object, or has a key twice.
    """
    file = str(path)
    try:
        if path.stat().st_size > max_bytes:
            raise InputError([Problem(f"is larger than {max_bytes} bytes, expected another file", file=file)])
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=file)]) from None
    except UnicodeDecodeError as error:
        raise InputError([Problem(f"cannot be read as text: {error}", file=file)]) from error
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror or error}", file=file)]) from error
    try:
        return parse_object(text)
    except InputError as error:
        raise InputError([Problem(problem.message, problem.key, file) for problem in error.problems]) from error


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
