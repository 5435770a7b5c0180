"""The scene that a picture was drawn of, as far as this machine can show it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError, Problem
from .record import RunRecord
from .scene import Scene, read_scene


def recorded_scene(record: RunRecord, folders: Sequence[Path], file: str) -> tuple[Scene, list[str]]:
    """Return the scene of a record, without the reference pictures that are not here.

    Args:
        record: of a picture.
        folders: where its reference pictures are looked for by name; they count where their digest is the recorded one.
        file: the picture, for messages.

    Returns:
        The scene, and the names of the reference pictures that are missing.

    Raises:
        InputError: what the record holds is no scene.
    """
    content: dict[str, Any] = copy.deepcopy(dict(record.scene))
    listed = {item.key: item for item in record.inputs if item.where == "scene"}
    found, missing = [], []
    written = content.pop("references", [])
    for index, reference in enumerate(written if isinstance(written, list) else []):
        item = listed.get(("references", index, "image"))
        if item is None or not isinstance(reference, dict):
            raise InputError([Problem("damaged: names a file that is not among the recorded inputs",
                                      f"references.{index}", f"settings in {file}")])  # fmt: skip
        path = next((path for folder in folders if _digest(path := folder / item.file) == item.sha256), None)
        if path is None:
            missing.append(item.file)
        else:
            found.append({**reference, "image": str(path.absolute())})
    try:
        return read_scene({**content, "references": found} if found else content), missing
    except InputError as error:
        raise InputError(
            [Problem(problem.message, problem.key, f"settings in {file}") for problem in error.problems]
        ) from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""
