"""How much a page may ask for; looked at before anything else reads what it sent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import indent
from typing import Any

from ..errors import InputError, Problem
from ..yaml_files import MAX_FILE_BYTES, MAX_VALUES, parse_yaml

MOST_MEMBERS = 16
"""Models of one composition."""

MOST_STEPS = 1000
"""Steps of one run."""

MOST_ENTRIES = 100
"""Instances of one scene, and as many interactions and reference pictures."""

DEEPEST = 32
"""Lists and mappings inside each other; a composition has four or five levels."""


def plain_content(written: Any) -> dict[str, Any]:
    """Return a composition or a scene as plain data that JSON can hold.

    Args:
        written: YAML, or the content that a form holds, in which `{"$yaml": text}` is a value typed as YAML.

    Raises:
        InputError: what was typed is not YAML, or there is something in it that JSON has no word for, or too much.
    """
    try:
        text = written if isinstance(written, str) else json.dumps(written)
    except (RecursionError, ValueError) as error:
        raise InputError(f"nested too deeply, or a number that is too long: {error}") from None
    if len(text) > MAX_FILE_BYTES:
        raise InputError(f"found {len(text)} characters, expected {MAX_FILE_BYTES} at most")
    content = parse_yaml(written, "") if isinstance(written, str) else written
    if not isinstance(content, dict):
        raise InputError("expected keys and values")
    plain = _Plain().copy(content, (), typed=isinstance(written, str))
    assert isinstance(plain, dict)
    return plain


def check_amounts(content: Mapping[str, Any]) -> None:
    """Check the lengths of what a composition or a scene lists, and its number of steps.

    Raises:
        InputError: with all that is too much.
    """
    found = {key: len(value) for key, value in content.items() if isinstance(value, list | dict)}
    most = {"providers": MOST_MEMBERS, **dict.fromkeys(("instances", "interactions", "references"), MOST_ENTRIES)}
    problems = [
        Problem(f"found {found[key]}, expected {limit} at most in the studio", key)
        for key, limit in most.items()
        if found.get(key, 0) > limit
    ]
    sampler = content.get("sampler")
    steps = sampler.get("steps") if isinstance(sampler, dict) else None
    try:
        # Texts count: the composition takes "1000" for a number.
        if steps is not None and float(steps) > MOST_STEPS:
            problems.append(Problem(f"found {steps}, expected {MOST_STEPS} at most in the studio", "sampler.steps"))
    except (TypeError, ValueError):
        # Whoever reads the composition says what is wrong with it.
        pass
    if problems:
        raise InputError(problems)


class _Plain:
    """Copies content, and counts what it copies: aliases of YAML can stand for far more than was written."""

    def __init__(self) -> None:
        self._count = 0

    def copy(self, value: Any, key: Sequence[str | int], typed: bool) -> Any:
        at = ".".join(map(str, key))
        self._count += 1
        if self._count > MAX_VALUES or len(key) > DEEPEST:
            raise InputError([Problem(f"expected {MAX_VALUES} values at most, {DEEPEST} levels deep", at)])
        if isinstance(value, dict):
            if not typed and value.keys() == {"$yaml"}:
                return self.copy(_typed(value["$yaml"], at), key, typed=True)
            for name in value:
                if not isinstance(name, str):
                    raise InputError([Problem(f"found {name!r:.80} as a key, expected text: put it in quotes", at)])
            return {_text(name, at): self.copy(inner, (*key, name), typed) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.copy(inner, (*key, index), typed) for index, inner in enumerate(value)]
        if isinstance(value, str):
            return _text(value, at)
        if isinstance(value, bool | None):
            return value
        if isinstance(value, int) and value.bit_length() <= 64:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        kind = "a number" if isinstance(value, int | float) else type(value).__name__
        message = f"found {kind} that JSON cannot hold, expected text or a number of usual size: put text in quotes"
        raise InputError([Problem(message, at)])


def _typed(text: Any, at: str) -> Any:
    try:
        # Below the key, so that what is typed cannot add keys beside it.
        return parse_yaml(f"value:\n{indent(str(text), ' ')}", "")["value"]
    except InputError as error:
        lines = re.compile(r"line (\d+)")
        raise InputError(
            [
                replace(one, key=at, message=lines.sub(lambda found: f"line {int(found[1]) - 1}", one.message, count=1))
                for one in error.problems
            ]
        ) from error


def _text(value: str, at: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError([Problem("found half of a character (a lone surrogate)", at)]) from None
    return value
