"""The pictures in the output folder, and what is in a picture that somebody brings: a composition, a scene and a seed."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..composition import Composition
from ..content_keys import replace_value, value_at
from ..errors import InputError
from ..record import open_picture, read_record
from ..yaml_files import problems_of
from .containment import ReadableFiles
from .drawing import ALONE
from .previews import data_uri, uri_of

PAGE = 24
"""Pictures that are shown at once."""

THUMBNAIL = 192
"""Longest side of a picture in the gallery, in pixels."""

_NAME = re.compile(rf"(?:{ALONE}/)?[a-z0-9][a-z0-9-]{{0,200}}\.png")


@dataclass(frozen=True)
class GalleryEntry:
    """One picture.

    Attributes:
        name: of its file.
        thumbnail: as a data URI.
        caption: of its scene.
        seed: its own, as text: JavaScript's numbers hold 53 bits.
        made_by: the members that drew it.
    """

    name: str
    thumbnail: str
    caption: str
    seed: str
    made_by: str


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
        found = []
        for path in self._folder.glob("*.png"):
            # Somebody may take one away meanwhile.
            with suppress(OSError):
                if self.find(path.name):
                    found.append((path.name, path.stat().st_mtime_ns))
        found.sort(key=lambda key: (key[1], key[0]), reverse=True)
        # Only of what is there now; another thread may look at the older ones at the same time.
        known = {key: self._entries[key] for key in found if key in self._entries}
        entries: list[GalleryEntry] = []
        for key in found:
            if key not in known:
                known[key] = _entry(self._folder / key[0])
            if (entry := known[key]) is not None:
                entries.append(entry)
            if len(entries) > start + PAGE:
                break
        self._entries = known
        return entries[start : start + PAGE], len(entries) > start + PAGE

    def find(self, name: str) -> Path | None:
        """Return the file of a picture by its name, None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        path = self._folder / name
        # Neither it nor the folder on the way may be a link: it could lead out.
        return path if path.is_file() and path.resolve() == path else None

    def content(self, name: str) -> str:
        """Return a picture's file, settings included, as a data URI.

        Raises:
            InputError: there is no such picture.
        """
        return uri_of(self.existing(name).read_bytes(), "png")

    def existing(self, name: str) -> Path:
        """Return the file of a picture that carries settings, by its name.

        Raises:
            InputError: there is no such picture; others in the folder do not belong to the studio.
        """
        path = self.find(name)
        try:
            if path is not None:
                read_record(path)
                return path
        except InputError:
            pass
        raise InputError("there is no such picture any more")


def settings_of(picture: Path, files: ReadableFiles) -> dict[str, Any]:
    """Return what made a picture: its composition and scene as content, and its seed.

    Weights in the opened folders are found by name. A reference picture that is not among the uploads stays named as it
    was; checking the scene says so.

    Args:
        picture: a PNG with settings, of whatever origin.
        files: what may be named.

    Raises:
        InputError: it carries no settings, or damaged ones, in which the composition may lack its providers. Whether
            their plugins are here is another question, which checking the composition answers.
    """
    try:
        record = read_record(picture)
        try:
            Composition.model_validate(record.composition)
        except ValidationError as error:
            raise InputError(problems_of(error, Composition, prefix=("composition",))) from error
    except InputError as error:
        # Where a file is kept is nobody's business; and the page shows messages without their keys.
        first = error.problems[0]
        message = first.message.replace(str(picture), picture.name)
        raise InputError(f"its settings are damaged: {first.key}: {message}" if first.key else message) from error
    contents = {"composition": copy.deepcopy(dict(record.composition)), "scene": copy.deepcopy(dict(record.scene))}
    for item in record.inputs:
        content = contents[item.where]
        if item.where == "composition" and value_at(content, item.key) == item.file:
            found = next((file for file in files.files if file.name == item.file), None)
            if found is not None:
                replace_value(content, item.key, str(found))
    return {**contents, "seed": str(record.seed), "caption": _caption(record.scene)}


def _entry(path: Path) -> GalleryEntry | None:
    try:
        record = read_record(path)
        small = open_picture(path)
    except InputError:
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return GalleryEntry(
        path.name,
        data_uri(small),
        _caption(record.scene),
        str(record.seed),
        " + ".join(one.name for one in record.members),
    )


def _caption(scene: Mapping[str, Any]) -> str:
    return str(scene.get("caption", ""))
