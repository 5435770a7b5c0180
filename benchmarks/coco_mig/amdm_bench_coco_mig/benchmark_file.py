"""The benchmark's file: what an entry holds, the rules that all of them obey, reading and writing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from amdm_framework.batch.coco_mig import MAX_FILE_BYTES, Entry, Segment
from amdm_framework.batch.plain_json import read_object
from amdm_framework.errors import InputError, Problem
from amdm_framework.picture_files import replace_file
from amdm_framework.scene import Box
from amdm_framework.yaml_files import problems_of

LEVELS = (2, 3, 4, 5, 6)
"""Numbers of instances; level L2 is the pictures with two."""

PER_LEVEL = 160
"""Entries of each level in the whole benchmark, which has 800."""

SMALLEST_SIDE = 1 / 8
"""Of a box, as a fraction of the picture's side."""

_ROUNDING = 1e-9


class _LargeSegment(Segment):
    @field_validator("bbox")
    @classmethod
    def _check_sides(cls, box: Box) -> Box:
        left, top, right, bottom = box
        # A difference of fractions may lie a rounding step below the side it stands for.
        if min(right - left, bottom - top) < SMALLEST_SIDE - _ROUNDING:
            raise ValueError(f"expected sides of at least 1/8, found {right - left:.4f} by {bottom - top:.4f}")
        return box


class _BenchmarkEntry(Entry):
    """An entry whose boxes are as large as the benchmark's, which `amdm batch` does not ask for."""

    segment: tuple[_LargeSegment, ...]


def caption_of(labels: Sequence[str]) -> str:
    """Return the caption of an entry with these labels."""
    return f"a photo of {' and '.join(labels)} "


def read_benchmark(path: Path, per_level: int | None = None) -> dict[str, Entry]:
    """Read a benchmark and check every rule.

    Args:
        path: the JSON file.
        per_level: how many entries there must be of each level; None takes any number.

    Returns:
        The entries by their keys "0", "1", and so on, in this order.

    Raises:
        InputError: with every mistake of the file.
    """
    content = read_object(path, MAX_FILE_BYTES)
    file = str(path)
    entries: dict[str, Entry] = {}
    problems = _key_problems(content, file)
    for key, entry in content.items():
        try:
            entries[key] = _BenchmarkEntry.model_validate(entry)
        except ValidationError as error:
            problems += problems_of(error, _BenchmarkEntry, file, (key,))
        problems += _level_problems(key, entry, file)
        problems += _caption_problems(key, entry, file)
    problems += _doubled_images(content, file)
    if per_level is not None:
        # Counted where the number of instances can be read, so that another mistake does not cause one here.
        segments = [entry.get("segment") for entry in content.values() if isinstance(entry, dict)]
        counts = Counter(len(segment) for segment in segments if isinstance(segment, list))
        problems += [
            Problem(f"found {counts[level]} entries of level L{level}, expected {per_level}", file=file)
            for level in LEVELS
            if counts[level] != per_level
        ]
    if not content:
        problems.append(Problem("holds no entries", file=file))
    if problems:
        raise InputError(problems)
    return entries


def write_benchmark(entries: Sequence[Entry], path: Path) -> None:
    """Write entries under the keys "0", "1", and so on. Equal entries give equal bytes.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    content = {str(number): entry.model_dump(mode="json") for number, entry in enumerate(entries)}
    text = json.dumps(content, indent=1) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))


def is_whole(entries: Sequence[Entry]) -> bool:
    """Return whether entries are as many of each level as the published benchmark has."""
    counts = Counter(entry.level for entry in entries)
    return all(counts[level] == PER_LEVEL for level in LEVELS)


def _key_problems(content: dict[str, Any], file: str) -> list[Problem]:
    return [
        Problem(f"stands where key {number} is expected: keys count from 0, in order", key, file)
        for number, key in enumerate(content)
        if key != str(number)
    ]


def _level_problems(key: str, entry: Any, file: str) -> list[Problem]:
    segment = entry.get("segment") if isinstance(entry, dict) else None
    if not isinstance(segment, list) or not segment or len(segment) in LEVELS:
        return []
    return [Problem(f"expected {LEVELS[0]} to {LEVELS[-1]} instances, found {len(segment)}", f"{key}.segment", file)]


def _caption_problems(key: str, entry: Any, file: str) -> list[Problem]:
    # Beside pydantic's checks, so that a wrong caption is reported together with whatever else is wrong.
    if not isinstance(entry, dict) or not isinstance(entry.get("segment"), list):
        return []
    segments = [segment for segment in entry["segment"] if isinstance(segment, dict)]
    labels = [label for segment in segments if isinstance(label := segment.get("label"), str)]
    caption = entry.get("caption")
    if not isinstance(caption, str) or len(labels) != len(entry["segment"]) or caption == caption_of(labels):
        return []
    return [Problem(f"expected {caption_of(labels)!r}, found {caption!r:.400}", f"{key}.caption", file)]


def _doubled_images(content: dict[str, Any], file: str) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for key, entry in content.items():
        image = entry.get("image_id") if isinstance(entry, dict) else None
        if isinstance(image, str) and first.setdefault(image, key) != key:
            message = f"found {image!r:.40}, the image of entry {first[image]}: each image is there once"
            problems.append(Problem(message, f"{key}.image_id", file))
    return problems
