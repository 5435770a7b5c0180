"""What a search may change: ranges and choices of a composition's values, as people write them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..content_keys import value_at
from ..errors import InputError, Problem
from ..yaml_files import apply_overrides, read_yaml
from .sweep import split_values

Point = dict[str, str]
"""One value, as it would be written in YAML, for some of the keys of a search space."""

_FORMS = "expected LOW..HIGH, LOW..HIGH log, or at least two choices A,B,..."


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included.

    Attributes:
        key: dotted, as for `--set`.
        low: the smallest.
        high: the largest.
        whole: whether only whole numbers are meant.
        log: whether numbers are drawn evenly on a logarithmic scale.
    """

    key: str
    low: float
    high: float
    whole: bool = False
    log: bool = False

    def __str__(self) -> str:
        # Whole numbers are told from others by the absence of a point.
        low, high = (int(end) if self.whole else float(end) for end in (self.low, self.high))
        ends = f"{low}..{high}"
        return f"{ends} log" if self.log else ends

    def text(self, value: float) -> str:
        """Return a value as it is written: four digits of it, and never outside the range."""
        if self.whole:
            return str(int(value))
        text = repr(float(min(max(float(f"{value:.4g}"), self.low), self.high)))
        # Without a point YAML takes 1e-05 for a word.
        return text if "." in text else text.replace("e", ".0e")

    def probes(self) -> list[str]:
        """Return values that tell whether the range fits its key: both ends, and one between them."""
        between = self.low + 0.382 * (self.high - self.low)
        return list(dict.fromkeys(self.text(value) for value in (self.low, between, self.high)))

    def draw(self, chance: random.Random) -> str:
        """Return any value."""
        if self.whole:
            return self.text(chance.randint(int(self.low), int(self.high)))
        return self.text(chance.uniform(self.low, self.high))

    def value_of(self, content: Mapping[str, Any]) -> float | None:
        """Return what a composition's content says, None where that is not in the range."""
        value = value_at(content, key_of(self.key))
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and int(value) != value):
            return None
        return value if self.low <= value <= self.high else None


@dataclass(frozen=True)
class Choice:
    """Some values of any kind.

    Attributes:
        key: dotted, as for `--set`.
        values: as they are written in YAML.
    """

    key: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.values)

    def text(self, value: str) -> str:
        """Return a value as it is written."""
        return value

    def probes(self) -> list[str]:
        """Return all values."""
        return list(self.values)

    def draw(self, chance: random.Random) -> str:
        """Return any value."""
        return chance.choice(self.values)

    def value_of(self, content: Mapping[str, Any]) -> str | None:
        """Return what a composition's content says, None where that is none of the values."""
        value = value_at(content, key_of(self.key))
        return next((text for text in self.values if value is not None and _parsed(text) == value), None)


Dimension = Range | Choice


def key_of(dotted: str) -> tuple[str | int, ...]:
    """Return a dotted key as the path into parsed YAML."""
    return tuple(int(part) if part.isdigit() else part for part in dotted.split("."))


def parse_space(varied: Sequence[str], file: Path | None = None) -> list[Dimension]:
    """Read what a search may change.

    Args:
        varied: `KEY=RANGE` texts, with LOW..HIGH (whole numbers where both ends are), LOW..HIGH log, or A,B,...
        file: a YAML file with a range, or a list of choices, for every key.

    Returns:
        One dimension per key; positions of a list in their order.

    Raises:
        InputError: with every mistake.
    """
    problems: list[Problem] = []
    found: list[Dimension | None] = []
    keys: list[tuple[str, str]] = []
    for text in varied:
        key, separator, written = text.partition("=")
        if not separator or not key:
            problems.append(Problem(f"expected KEY=RANGE, found {text!r}", "--vary"))
            continue
        keys.append((key.strip(), "--vary"))
        found.append(_dimension(key.strip(), written, "--vary", problems))
    for key, value in (read_yaml(file) if file is not None else {}).items():
        place = f"--search {file}"
        keys.append((str(key), place))
        if isinstance(value, list):
            found.append(_choice(str(key), [_as_yaml(one) for one in value], place, problems))
        else:
            found.append(_dimension(str(key), str(value), place, problems))
    taken: list[str] = []
    for key, place in keys:
        clash = next(
            (other for other in taken if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")), None
        )
        if clash is not None:
            what = "is given twice" if clash == key else f"holds what {clash} holds, too"
            problems.append(Problem(f"{key} {what}: give each value one range", place))
        taken.append(key)
    if problems:
        raise InputError(problems)
    return sorted((one for one in found if one is not None), key=_in_order(taken))


def _in_order(keys: Sequence[str]) -> Any:
    # As they were given, but positions of one list from the first on, so that a list can be made of them.
    places = {key: position for position, key in enumerate(keys)}
    first = {key.rpartition(".")[0]: places[key] for key in reversed(keys) if key.rpartition(".")[2].isdigit()}

    def order(dimension: Dimension) -> tuple[int, int]:
        parent, _, last = dimension.key.rpartition(".")
        return (first[parent], int(last)) if last.isdigit() else (places[dimension.key], 0)

    return order


def _dimension(key: str, written: str, place: str, problems: list[Problem]) -> Dimension | None:
    scale = written.split()[-1:] == ["log"]
    low_text, dots, high_text = written.strip().removesuffix("log").strip().partition("..")
    low, high = _number(low_text), _number(high_text)
    if not dots or low is None or high is None:
        return _choice(key, [value.strip() for value in split_values(written)], place, problems)
    if not math.isfinite(low) or not math.isfinite(high) or low >= high:
        problems.append(
            Problem(f"{key}: found {written.strip()}, expected a range from a smaller number to a larger", place)
        )
        return None
    if scale and low <= 0:
        problems.append(Problem(f"{key}: found {written.strip()}, but a logarithmic range begins above 0", place))
        return None
    return Range(key, low, high, isinstance(low, int) and isinstance(high, int), scale)


def _choice(key: str, values: Sequence[str], place: str, problems: list[Problem]) -> Choice | None:
    written = ",".join(values)
    for value in values:
        try:
            _parsed(value)
        except InputError:
            problems.append(Problem(f"{key}: the value {value!r} is not valid YAML", place))
            return None
    if len(values) < 2 or "" in values:
        problems.append(Problem(f"{key}: found {written!r}, {_FORMS} (one value alone: --set)", place))
        return None
    if len(set(values)) < len(values):
        problems.append(Problem(f"{key}: a value is given twice in {written!r}", place))
        return None
    return Choice(key, tuple(values))


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _parsed(text: str) -> Any:
    holder: dict[str, Any] = {}
    apply_overrides(holder, [f"value={text}"])
    return holder["value"]


def _as_yaml(value: Any) -> str:
    # Texts stay as they are, so that they read as on a command line; JSON is YAML.
    return value if isinstance(value, str) and _parsed(value) == value else json.dumps(value)
