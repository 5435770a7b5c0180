"""Which files of the machine a page may name: uploaded pictures by name, and weights in folders that were opened to it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..content_keys import replace_value
from ..errors import InputError, Problem
from ..input_files import InputFile, paths_in_composition
from ..plugins import PluginRegistry
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

    def place(self, content: dict[str, Any], plugins: PluginRegistry) -> dict[str, Any]:
        """Check whatever a composition that has not been read yet could name a file with, in options and conditions.

        Args:
            content: the composition as it was written.
            plugins: the installed plugins.

        Returns:
            The same, with names of files in the opened folders replaced by their paths.

        Raises:
            InputError: a picture that was not uploaded, or a path that leads elsewhere.
        """
        placed = copy.deepcopy(content)
        problems = []
        for file in paths_in_composition(content, plugins, self.base_dir):
            key = ".".join(map(str, file.key))
            if file.in_condition:
                if file.path.parent != self.base_dir or self.uploads.find(file.path.name) is None:
                    problems.append(_not_uploaded(file.path.name, key))
                continue
            path = self._placed(file)
            if not any(_leads_into(path, root) for root in (*self.folders, *self.files, self.uploads.folder)):
                opened = ", ".join(map(str, self.folders)) or "none"
                message = (
                    "leads out of the folders that this studio may read: write `hf://owner/repo`, or a path in a folder "
                    f"that it was started with (--models FOLDER; now: {opened})"
                )
                problems.append(Problem(message, key))
            elif path != file.path:
                replace_value(placed, file.key, str(path))
        if problems:
            raise InputError(problems)
        return placed

    def _placed(self, file: InputFile) -> Path:
        """Return where a file is: in an opened folder, where its name is relative and one of them has it."""
        if file.declared and file.path.is_relative_to(self.base_dir):
            name = file.path.relative_to(self.base_dir)
            for path in (folder / name for folder in self.folders if ".." not in name.parts):
                # One that leads out by a link is refused later, whether there is something at its end or not.
                if os.path.exists(path) or not any(_leads_into(path, folder) for folder in self.folders):
                    return path
        return file.path


def _leads_into(path: Path, root: Path) -> bool:
    # Links are followed first: a link in an opened folder may lead out of it.
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _not_uploaded(image: str, key: str) -> Problem:
    return Problem(f"there is no uploaded picture {Path(image).name!r:.80}: drop the file onto the page", key)
