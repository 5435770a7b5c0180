"""COCO-MIG benchmark files: positions and colours of two to six objects per picture (arXiv 2402.05408)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator

from ..errors import InputError, Problem
from ..scene import Box, StrictModel
from ..yaml_files import problems_of
from .plain_json import read_object

COLORS = ("black", "blue", "brown", "green", "red", "white", "yellow")

MAX_FILE_BYTES = 64 * 2**20
"""The published file has 0.4 MiB."""

_LABEL = re.compile(rf"a (?:{'|'.join(COLORS)}) \S+(?: \S+)*")


def _check_label(label: str) -> str:
    if not _LABEL.fullmatch(label):
        raise ValueError(f"expected 'a COLOR OBJECT' with one of the colors {', '.join(COLORS)}, found {label!r:.80}")
    return label


def _check_numbers(box: Any) -> Any:
    # Text that reads like a number would be taken for one.
    if isinstance(box, list) and any(isinstance(side, str | bool) for side in box):
        raise ValueError(f"expected four numbers, found {box!r:.80}")
    return box


class Segment(StrictModel):
    """One instance: what it is, and where.

    Attributes:
        label: `a COLOR OBJECT`; the article is `a` before vowels, too.
        bbox: left, top, right, bottom as fractions of the picture's width and height.
    """

    label: Annotated[str, AfterValidator(_check_label)]
    bbox: Annotated[Box, BeforeValidator(_check_numbers)]

    @property
    def color(self) -> str:
        """The second word of the label."""
        return self.label.split(" ")[1]

    @property
    def thing(self) -> str:
        """The label without article and colour."""
        return self.label.split(" ", 2)[2]


class Entry(StrictModel):
    """One picture of the benchmark.

    Attributes:
        caption: of the whole picture.
        segment: its instances.
        image_id: number of the COCO image that the boxes are from, without leading zeros.
    """

    caption: str
    segment: tuple[Segment, ...]
    image_id: str = Field(pattern=r"^(0|[1-9][0-9]{0,11})$")

    @field_validator("segment")
    @classmethod
    def _check_segment(cls, segment: tuple[Segment, ...]) -> tuple[Segment, ...]:
        # Not by pydantic's length, which does not count instances that are wrong.
        if not segment:
            raise ValueError("expected at least one, found none")
        return segment

    @property
    def level(self) -> int:
        """Number of instances."""
        return len(self.segment)


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
    entries = read_object(path, MAX_FILE_BYTES)
    if not all(re.fullmatch(r"[0-9]{1,12}", key) for key in entries):
        raise InputError([Problem("expected a COCO-MIG file: an object with the keys 0, 1, 2, ...", file=str(path))])
    scenes = []
    for key, content in entries.items():
        try:
            scenes.append(named_scene(key, Entry.model_validate(content)))
        except ValidationError as error:
            problems = problems_of(error, Entry, prefix=(key,))
            scenes.append(NamedScene(key, {}, "; ".join(str(problem) for problem in problems)))
    return scenes


def named_scene(key: str, entry: Entry) -> NamedScene:
    """Return an entry as a scene, its instances in their order."""
    instances: dict[str, Any] = {}
    for segment in entry.segment:
        # Labels repeat, names of instances must not.
        thing = f"{segment.color} {segment.thing}"
        name, number = thing, 2
        while name in instances:
            name, number = f"{thing} {number}", number + 1
        instances[name] = {"phrase": segment.label, "box": list(segment.bbox)}
    return NamedScene(f"{int(entry.image_id):06}_{key}", {"caption": entry.caption, "instances": instances})
