"""Contact sheets of a batch: its pictures in the ledger's order, with what they show and why some are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..errors import InputError
from ..picture_grid import Cell, Grid, enlargement
from ..record import open_picture, read_record
from ..recorded_scene import recorded_scene
from ..scene_preview import draw_boxes
from .ledger import Entry

COLUMNS = 6
PER_SHEET = 30

LARGEST_CELL = 256
"""Pictures are made smaller until their longer side has this many pixels."""

_TEXT_LINES = 4
"""The seed in one of them, and three of a caption or of a reason."""


def contact_sheet(folder: Path, entries: Sequence[Entry], page: str, boxes: bool) -> Grid:
    """Arrange pictures of a batch on one sheet.

    Args:
        folder: of the pictures.
        entries: what became of the jobs whose places are on this sheet, at most `PER_SHEET`.
        page: what stands below the title.
        boxes: whether the boxes of a picture's scene are drawn over it.
    """
    cells = [_cell(folder, entry, boxes) for entry in entries]
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    columns = [""] * len(rows[0])
    return Grid(folder.resolve().name, page, columns, [""] * len(rows), rows, most_lines=_TEXT_LINES)


def _cell(folder: Path, entry: Entry, boxes: bool) -> Cell:
    def cell(picture: Image.Image | None, text: str) -> Cell:
        return Cell(picture, f"seed {entry.seed}\n{text}", entry.name)

    if entry.file is None:
        return cell(None, f"failed: {entry.error}")
    path = folder / entry.file
    try:
        picture = open_picture(path)
    except InputError as error:
        return cell(None, f"cannot be shown: {error.problems[0].message}")
    picture.thumbnail((LARGEST_CELL, LARGEST_CELL), Image.Resampling.LANCZOS)
    try:
        record = read_record(path)
        caption = str(record.scene.get("caption", ""))
        if boxes:
            scale = enlargement([picture])
            enlarged = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)
            scene, _ = recorded_scene(record, [], str(path))
            picture = draw_boxes(scene, enlarged)
    except InputError as error:
        return cell(picture, error.problems[0].message)
    return cell(picture, caption)
