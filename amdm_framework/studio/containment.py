"""Which files of the machine a page may name: uploaded pictures by name, and weights in folders that were opened to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..composition import ResolvedComposition
from ..errors import InputError, Problem
from ..input_files import InputFile, files_of_composition, paths_of_composition, replace_value
from .uploads import UploadFolder


@dataclass(frozen=True)
class ReadableFiles:
    """Says no to everything else, without a look at whether it exists.

    Attributes:
        uploads: pictures that came through the page.
        folders: folders of weights that whoever started the studio opened to it.
        files: files and folders that the compositions name which it was started with.
    """

    uploads: UploadFolder
    folders: Sequence[Path] = ()
    files: Sequence[Path] = ()

    @property
    def base_dir(self) -> Path:
        """The folder that names in compositions and scenes are relative to."""
        return self.uploads.folder

    def check_scene(self, content: dict[str, Any]) -> None:
        """Check the pictures of a scene that has not been read yet.

        Raises:
            InputError: one is not the name of an uploaded picture.
        """
        references = content.get("references")
        problems = []
        for index, reference in enumerate(references if isinstance(references, list) else ()):
            image = reference.get("image") if isinstance(reference, dict) else None
            if isinstance(image, str) and self.uploads.find(image) is None:
                problems.append(_not_uploaded(image, f"references.{index}.image"))
        if problems:
            raise InputError(problems)

    def check_composition(self, resolved: ResolvedComposition) -> None:
        """Check whatever a composition could name a file with, in its options and in its conditions.

        Raises:
            InputError: a picture that was not uploaded, or a path that leads elsewhere.
        """
        problems = []
        for file in paths_of_composition(resolved):
            key = ".".join(map(str, file.key))
            if file.key[2] == "condition":
                if file.path.parent != self.base_dir or self.uploads.find(file.path.name) is None:
                    problems.append(_not_uploaded(file.path.name, key))
            elif not self._may_read(file):
                opened = ", ".join(map(str, self.folders)) or "none"
                message = (
                    "leads out of the folders that this studio may read: write `hf://owner/repo`, or a path in a folder "
                    f"that it was started with (--models FOLDER; now: {opened})"
                )
                problems.append(Problem(message, key))
        if problems:
            raise InputError(problems)

    def place(self, content: dict[str, Any], resolved: ResolvedComposition) -> bool:
        """Replace names of weights in a composition's content by their paths in the opened folders, in place.

        Args:
            content: the composition as it was written.
            resolved: the same, resolved.

        Returns:
            Whether anything was replaced.
        """
        placed = False
        for file in files_of_composition(resolved):
            if not file.declared or file.key[2] == "condition" or not file.path.is_relative_to(self.base_dir):
                continue
            name = file.path.relative_to(self.base_dir)
            if ".." in name.parts:
                continue
            for path in (folder / name for folder in self.folders):
                # One that leads out by a link is refused later, whether there is something at its end or not.
                if os.path.exists(path) or not any(_leads_into(path, folder) for folder in self.folders):
                    replace_value(content, file.key, str(path))
                    placed = True
                    break
        return placed

    def _may_read(self, file: InputFile) -> bool:
        return any(_leads_into(file.path, root) for root in (*self.folders, *self.files, self.uploads.folder))


def _leads_into(path: Path, root: Path) -> bool:
    # Links are followed first: a link in an opened folder may lead out of it.
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _not_uploaded(image: str, key: str) -> Problem:
    return Problem(f"there is no uploaded picture {Path(image).name!r:.80}: drop the file onto the page", key)
