"""Variants that differ in their settings: every combination of the values of some keys."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, Problem
from ..yaml_files import parse_yaml
from .report import Arrangement
from .variants import Source, Variant

_OPENING, _CLOSING = "[{(", "]})"

# As `amdm tune` takes them.
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)(?: log)?")


@dataclass(frozen=True)
class Setting:
    """The values of one key.

    Attributes:
        key: dotted.
        values: as they were written.
    """

    key: str
    values: tuple[str, ...]


def parse_settings(texts: Sequence[str]) -> list[Setting]:
    """Read `KEY=V1,V2,...` texts. A comma inside brackets or quotes belongs to the value.

    Raises:
        InputError: with every mistake; or no key has several values.
    """
    problems = []
    settings: dict[str, Setting] = {}
    for text in texts:
        key, separator, written = text.partition("=")
        values = tuple(value.strip() for value in split_values(written))
        if not separator or not key:
            problems.append(Problem(f"expected KEY=V1,V2,..., found {text!r}", "--set"))
        elif key in settings:
            problems.append(Problem(f"{key} is given twice: give all of its values at once", "--set"))
        elif "" in values:
            problems.append(Problem(f"{key}: a value is empty in {written!r}; write null for none", "--set"))
        elif len(set(values)) < len(values):
            problems.append(Problem(f"{key}: a value is given twice in {written!r}", "--set"))
        elif any(map(_RANGE.fullmatch, values)):
            example = ",".join(value for one in values for value in _values_like(one))
            problems.append(Problem(f"sweep takes values, not ranges: {key}={example}", "--set"))
        settings.setdefault(key, Setting(key, values))
    if not problems and all(len(setting.values) == 1 for setting in settings.values()):
        problems.append(Problem("nothing varies: give --set KEY=V1,V2"))
    if problems:
        raise InputError(problems)
    return list(settings.values())


def _values_like(text: str) -> list[str]:
    """Some values of a range: all of a few whole numbers, otherwise the ends and their middle."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return [text]
    low, high = found.groups()
    if low.lstrip("-").isdigit() and high.lstrip("-").isdigit() and 0 <= int(high) - int(low) < 10:
        return [str(number) for number in range(int(low), int(high) + 1)]
    return [low, f"{(float(low) + float(high)) / 2:g}", high]


def split_values(text: str) -> list[str]:
    """Split a text at the commas that stand outside of brackets and quotes."""
    values, start, depth, quote, before = [], 0, 0, "", ","
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and before in f",:{_OPENING}":
            # An apostrophe inside a word is none.
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth <= 0:
            values.append(text[start:position])
            start = position + 1
        if not character.isspace():
            before = character
    return [*values, text[start:]]


def combinations(settings: Sequence[Setting]) -> list[tuple[str, ...]]:
    """Return every combination of the settings' values, the last key changing fastest."""
    return list(itertools.product(*(setting.values for setting in settings)))


def member_names(source: Source) -> list[str]:
    """Return what the members are called, as far as the composition is well-formed."""
    blocks = source.content.get("providers")
    blocks = blocks if isinstance(blocks, list) else []
    return [str(block.get("name", block.get("use"))) if isinstance(block, dict) else "" for block in blocks]


def arrange(settings: Sequence[Setting], members: Sequence[str]) -> Arrangement:
    """Return the places of the variants: the values of the last key that varies are the columns.

    Args:
        settings: what varies.
        members: the members' names, for labels.
    """
    *others, last = [
        # In the grid the value stays with its sign where a label is broken into lines.
        [setting_label(setting.key, value, members).replace(" = ", " =\N{NO-BREAK SPACE}") for value in setting.values]
        for setting in settings
        if len(setting.values) > 1
    ]
    return Arrangement(last, ["\n".join(labels) for labels in itertools.product(*others)])


def sweep_variants(source: Source, settings: Sequence[Setting], members: Sequence[str]) -> list[Variant]:
    """Return the composition under every combination of values.

    Args:
        source: the composition.
        settings: what varies.
        members: the members' names, for labels.
    """
    variants = []
    for combination in combinations(settings):
        chosen = {setting.key: value for setting, value in zip(settings, combination, strict=True)}
        varied = [setting.key for setting in settings if len(setting.values) > 1]
        label = ", ".join(setting_label(key, chosen[key], members) for key in varied)
        overrides = tuple(f"{key}={value}" for key, value in chosen.items())
        variants.append(Variant(label, source.content, overrides, chosen))
    return variants


def setting_label(key: str, value: str, members: Sequence[str]) -> str:
    """Say `key = value` for people: a member by its name instead of its position."""
    first, _, rest = key.partition(".")
    position, _, option = rest.partition(".")
    if first == "providers" and option and position.isdigit() and int(position) < len(members):
        key = f"{members[int(position)]}.{option}"
    options = _mapping(value)
    if options is None:
        return f"{key} = {value}"
    name = options.pop("strategy", key) if key == "aggregation" else key
    return (
        f"{name}: {', '.join(f'{option} {_short(one)}' for option, one in options.items())}" if options else str(name)
    )


def _mapping(value: str) -> dict[str, Any] | None:
    if not value.startswith("{"):
        return None
    try:
        content = parse_yaml(value, "")
    except InputError:
        # The check of the variant tells what is wrong with it.
        return None
    return content or None


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
