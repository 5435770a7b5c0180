"""The pictures in the output folder, and what is in a picture that somebody brings: a composition, a scene and a seed."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from ..input_files import replace_value, value_at
from ..record import RunRecord, read_record
from .containment import ReadableFiles
from .drawing import ALONE
from .previews import data_uri

PAGE = 24
"""Pictures that are shown at once."""

THUMBNAIL = 192
"""Longest side of a picture in the gallery, in pixels."""

_NAME = re.compile(rf"(?:{ALONE}/)?[a-z0-9][a-z0-9-]*\.png")


@dataclass(frozen=True)
class GalleryEntry:
    """One picture.

    Attributes:
        name: of its file.
        thumbnail: as a data URI.
        caption: of its scene.
        seed: its own.
    """

    name: str
    thumbnail: str
    caption: str
    seed: int


class Gallery:
    """The pictures of the studio in its output folder.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._entries: dict[tuple[str, int], GalleryEntry | None] = {}

    def page(self, start: int) -> tuple[list[GalleryEntry], bool]:
        """Return some of the pictures that carry settings, the newest first, and whether there are older ones.

        Args:
            start: how many are passed over.
        """
        found = sorted(
            ((path.stat().st_mtime_ns, path) for path in self._folder.glob("*.png") if self.find(path.name)),
            reverse=True,
        )
        entries: list[GalleryEntry] = []
        for changed, path in found:
            key = path.name, changed
            if key not in self._entries:
                self._entries[key] = _entry(path)
            if (entry := self._entries[key]) is not None:
                entries.append(entry)
            if len(entries) > start + PAGE:
                break
        return entries[start : start + PAGE], len(entries) > start + PAGE

    def find(self, name: str) -> Path | None:
        """Return the file of a picture by its name, None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        path = self._folder / name
        return path if path.is_file() and not path.is_symlink() else None

    def content(self, name: str) -> str:
        """Return a picture's file, settings included, as a data URI.

        Raises:
            InputError: there is no such picture.
        """
        return f"data:image/png;base64,{base64.b64encode(self.existing(name).read_bytes()).decode()}"

    def existing(self, name: str) -> Path:
        """Return the file of a picture by its name.

        Raises:
            InputError: there is no such picture.
        """
        path = self.find(name)
        if path is None:
            raise InputError("there is no such picture any more")
        return path


def settings_of(picture: Path, files: ReadableFiles) -> dict[str, Any]:
    """Return what made a picture: its composition and scene as content, and its seed.

    Weights in the opened folders are found by name. A reference picture that is not among the uploads stays named as it
    was; checking the scene says so.

    Args:
        picture: a PNG with settings, of whatever origin.
        files: what may be named.

    Raises:
        InputError: it carries no settings, or damaged ones.
    """
    record = read_record(picture)
    contents = {"composition": copy.deepcopy(dict(record.composition)), "scene": copy.deepcopy(dict(record.scene))}
    for item in record.inputs:
        content = contents[item.where]
        if item.where == "composition" and value_at(content, item.key) == item.file:
            found = next((file for file in files.files if file.name == item.file), None)
            if found is not None:
                replace_value(content, item.key, str(found))
    return {**contents, "seed": record.seed, "caption": _caption(record.scene)}


def _entry(path: Path) -> GalleryEntry | None:
    try:
        record: RunRecord = read_record(path)
        with Image.open(path, formats=("PNG",)) as picture:
            small = picture.convert("RGB")
    except (InputError, OSError, ValueError):
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return GalleryEntry(path.name, data_uri(small), _caption(record.scene), record.seed)


def _caption(scene: Mapping[str, Any]) -> str:
    return str(scene.get("caption", ""))
