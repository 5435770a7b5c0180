"""`amdm contact-sheet`: which picture stands where, what is written below it, and folders in any state."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image, ImageColor

from amdm_framework import picture_grid
from amdm_framework.batch import contact_sheet
from amdm_framework.batch.jobs import make_job
from amdm_framework.batch.ledger import LEDGER_NAME, Entry, Header, Ledger
from amdm_framework.picture_grid import Grid, draw_grid
from amdm_framework.picture_text import DISTINCT
from pictures_in_grids import places_of

Amdm = Callable[..., Result]

BOX = {"thing": {"phrase": "a thing", "box": [0.25, 0.25, 0.75, 0.75]}}


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[Grid]:
    """Every sheet that is drawn."""
    drawn: list[Grid] = []
    monkeypatch.setattr(picture_grid, "draw_grid", lambda grid: (drawn.append(grid), draw_grid(grid))[1])
    return drawn


def begin_batch(folder: Path, header: Header, count: int, size: tuple[int, int] = (64, 64)) -> list[Image.Image]:
    """A folder as a batch leaves it, with pictures of noise that carry no settings."""
    folder.mkdir()
    pictures = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8))
        for seed in range(count)
    ]
    with Ledger(folder) as ledger:
        ledger.begin(header)
        for number, picture in enumerate(pictures):
            job = make_job(f"p{number}", {"caption": "x"}, folder)
            ledger.record(Entry.of(job))
            picture.save(folder / job.file)
    return pictures


def test_a_batch_with_captions_seeds_and_the_reason_of_a_failure(amdm: Amdm, grids: list[Grid]) -> None:
    lines = [{"caption": "one", "seed": 5, "name": "first"}, {"captoin": "two"}, {"caption": "three", "seed": 6}]
    Path("scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    amdm("batch", "composition.yaml", "--scenes", "scenes.jsonl", "--output", "out", code=1)
    assert amdm("contact-sheet", "out").stdout == "out-sheet.png\n"
    (grid,) = grids
    assert (grid.title, grid.subtitle) == ("out", "2 drawn, 1 failed")
    cells = {cell.heading: cell for row in grid.cells for cell in row}
    # The one that is wrong is known before anything is drawn.
    assert list(cells) == ["000002", "first", "000003"]
    assert cells["first"].caption == "seed 5\none" and cells["000003"].caption == "seed 6\nthree"
    assert cells["000002"].picture is None and "failed: line 2: captoin: unknown key" in cells["000002"].caption
    with Image.open("out/first.png") as picture, Image.open("out-sheet.png") as sheet:
        factor = -(-192 // max(picture.size))
        assert len(places_of(picture, sheet, factor)) == 1


def test_pictures_stand_in_the_order_of_the_ledger(amdm: Amdm, header: Header) -> None:
    pictures = begin_batch(Path("out"), header, 8)
    amdm("contact-sheet", "out", "--output", "deep/sheets")
    with Image.open("deep/sheets/out-sheet.png") as sheet:
        found = [places_of(picture, sheet, 3) for picture in pictures]
    assert all(len(places) == 1 for places in found)
    order = [(top, left) for ((left, top),) in found]
    assert order == sorted(order) and len({top for top, _ in order}) == 2


def test_many_pictures_take_several_sheets_of_bounded_size(amdm: Amdm, header: Header, grids: list[Grid]) -> None:
    begin_batch(Path("out"), header, 61, (640, 320))
    names = [f"out-sheet-{number}of3.png" for number in (1, 2, 3)]
    assert amdm("contact-sheet", "out").stdout.split() == names
    assert [sum(map(len, grid.cells)) for grid in grids] == [30, 30, 1]
    assert [cell.heading for grid in grids for row in grid.cells for cell in row] == [
        f"p{number}" for number in range(61)
    ]
    assert [grid.subtitle for grid in grids] == [f"61 drawn; sheet {number} of 3" for number in (1, 2, 3)]
    for name in names:
        with Image.open(name) as sheet:
            assert sheet.width < 6 * 256 + 250 and sheet.height < 5 * 260 + 250
    assert {cell.picture.size for row in grids[0].cells for cell in row if cell.picture} == {(256, 128)}


def test_boxes_are_drawn_over_the_pictures(amdm: Amdm) -> None:
    Path("scenes.jsonl").write_text(json.dumps({"caption": "one", "instances": BOX}))
    amdm("batch", "composition.yaml", "--scenes", "scenes.jsonl", "--output", "out")
    colour = np.array(ImageColor.getrgb(DISTINCT[0]))
    found = {}
    for option in (["--boxes"], []):
        name = amdm("contact-sheet", "out", *option).stdout.strip()
        with Image.open(name) as sheet:
            found[name] = int((np.asarray(sheet) == colour).all(-1).sum())
    assert found["out-sheet.png"] > 200 and found["out-sheet-2.png"] == 0


def test_a_batch_that_is_being_drawn_shows_what_is_there(amdm: Amdm, header: Header, grids: list[Grid]) -> None:
    begin_batch(Path("out"), header, 3)
    Path("out/p1.png").unlink()
    Path("out/p2.png").write_bytes(Path("out/p2.png").read_bytes()[:200])
    with Ledger(Path("out")) as locked, locked.path.open("ab") as file:
        # Half of a line, as another process sees it.
        file.write(b'{"name": "p3", "scene":')
        file.flush()
        amdm("contact-sheet", "out")
    (cells,) = grids[0].cells
    assert [cell.heading for cell in cells] == ["p0", "p1", "p2"]
    assert "carries no settings" in cells[0].caption and cells[0].picture is not None
    assert [cell.picture for cell in cells[1:]] == [None, None]
    assert "cannot be shown: no such file" in cells[1].caption and "truncated" in cells[2].caption


def test_what_is_no_batch_is_refused_and_nothing_is_written(amdm: Amdm, header: Header, tmp_path: Path) -> None:
    Path("empty").mkdir()
    begin_batch(Path("begun"), header, 0)
    begin_batch(Path("damaged"), header, 1)
    with Path("damaged", LEDGER_NAME).open("ab") as file:
        file.write(b"no JSON\n")
    Path("long").mkdir()
    Path("long", LEDGER_NAME).write_bytes(b"x" * (2**20 + 1))
    before = sorted(os.listdir())
    for folder, message in (
        ("empty", "empty: there is no ledger.jsonl in it, expected the folder of `amdm batch --output`"),
        ("nowhere", "nowhere: there is no ledger.jsonl in it"),
        ("composition.yaml", "is a file, expected the folder of a batch"),
        ("begun", "begun: nothing of this batch is drawn yet"),
        ("damaged", "ledger.jsonl: line 3 is damaged"),
        ("long", "ledger.jsonl: line 1 is damaged: longer than"),
    ):
        assert message in amdm("contact-sheet", folder, code=2).stderr
    assert sorted(os.listdir()) == before


def test_a_sheet_has_no_more_places_than_it_says() -> None:
    assert contact_sheet.PER_SHEET % contact_sheet.COLUMNS == 0
