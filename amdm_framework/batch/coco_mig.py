"""COCO-MIG benchmark files: positions and colours of two to six objects per picture (arXiv 2402.05408)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from ..errors import InputError, Problem
from ..scene import Box, StrictModel
from ..yaml_files import problems_of
from .plain_json import parse_object

COLORS = ("black", "blue", "brown", "green", "red", "white", "yellow")

MAX_FILE_BYTES = 64 * 2**20
"""The published file has 0.4 MiB."""

_LABEL = re.compile(rf"an? (?:{'|'.join(COLORS)}) \S.*")


def _check_label(label: str) -> str:
    if not _LABEL.fullmatch(label):
        raise ValueError(f"expected 'a COLOR OBJECT' with one of the colors {', '.join(COLORS)}, found {label!r:.80}")
    return label


class Segment(StrictModel):
    """One object of a picture."""

    label: Annotated[str, AfterValidator(_check_label)]
    bbox: Box


class Entry(StrictModel):
    """One picture of the benchmark."""

    caption: str
    segment: tuple[Segment, ...] = Field(min_length=1)
    image_id: str = Field(pattern=r"^[0-9]{1,12}$")


@dataclass(frozen=True)
class NamedScene:
    """One entry as a scene.

    Attributes:
        name: the image's number and the entry's key, as the benchmark's evaluation expects in file names.
        scene: caption and instances, empty where the entry is wrong.
        error: what is wrong with it.
    """

    name: str
    scene: dict[str, Any]
    error: str = ""


def read_coco_mig(path: Path) -> list[NamedScene]:
    """Read a benchmark file in its order. An entry that is wrong becomes one with an error.

    Raises:
        InputError: it cannot be read, is not JSON, or is not an object of numbered entries.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError([Problem(f"is larger than {MAX_FILE_BYTES} bytes", file=str(path))])
        entries = parse_object(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=str(path))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(f"cannot be read as text: {error}", file=str(path))]) from error
    except InputError as error:
        raise InputError([Problem(problem.message, file=str(path)) for problem in error.problems]) from error
    if not all(re.fullmatch(r"[0-9]{1,12}", key) for key in entries):
        raise InputError([Problem("expected a COCO-MIG file: an object with the keys 0, 1, 2, ...", file=str(path))])
    return [_named_scene(key, entry) for key, entry in entries.items()]


def _named_scene(key: str, content: Any) -> NamedScene:
    try:
        entry = Entry.model_validate(content)
    except ValidationError as error:
        problems = problems_of(error, Entry, prefix=(key,))
        return NamedScene(key, {}, "; ".join(str(problem) for problem in problems))
    instances: dict[str, Any] = {}
    for segment in entry.segment:
        # Labels repeat, names of instances must not.
        thing = segment.label.partition(" ")[2]
        name, number = thing, 2
        while name in instances:
            name, number = f"{thing} {number}", number + 1
        instances[name] = {"phrase": segment.label, "box": list(segment.bbox)}
    scene = {"caption": entry.caption, "instances": instances}
    return NamedScene(f"{int(entry.image_id):06}_{key}", scene)
