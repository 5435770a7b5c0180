"""A batch draws what is missing, in groups that never change, and touches nothing that is not its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from amdm_framework.batch.drawing import Drawer, Drawn
from amdm_framework.batch.jobs import Job
from amdm_framework.batch.ledger import LEDGER_NAME, Header, Ledger
from amdm_framework.batch.local import LocalEngine
from amdm_framework.batch.run import BatchSummary, check_batch, run_batch
from amdm_framework.errors import InputError

from .conftest import job

JOBS = [job(f"scene {number}") for number in range(8)]


class Recording:
    """Stands for pictures by bytes that tell how they were drawn: by which group, and how often asked."""

    def __init__(self, stop_after: int | None = None, last_first: bool = False) -> None:
        self.groups: list[list[str]] = []
        self.stop_after = stop_after
        self.last_first = last_first

    def run(self, groups: Iterable[Sequence[Job]]) -> Generator[tuple[Sequence[Job], list[Drawn]], None, None]:
        for group in reversed(list(groups)) if self.last_first else groups:
            if len(self.groups) == self.stop_after:
                raise KeyboardInterrupt
            names = [one.name for one in group]
            self.groups.append(names)
            yield group, [Drawn(one.name, f"{one.name} seed {one.seed} in {names}".encode()) for one in group]


def draw(
    folder: Path, header: Header, jobs: Sequence[Job] = JOBS, **settings: object
) -> tuple[Recording, BatchSummary]:
    engine = Recording()
    return engine, run_batch(jobs, engine, folder, header, progress=False, **settings)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LEDGER_NAME}


def states(folder: Path) -> dict[str, str]:
    with Ledger(folder) as ledger:
        return {name: entry.state for name, entry in ledger.entries.items()}


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, header: Header) -> dict[str, bytes]:
    """The pictures of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    engine, summary = draw(folder, header)
    assert engine.groups == [[f"scene-{n}" for n in group] for group in ((0, 1, 2), (3, 4, 5), (6, 7))]
    assert [path.name for path in summary.files] == [one.file for one in JOBS]
    assert not summary.failed and summary.skipped == summary.left == 0
    return contents(folder)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, header: Header, whole: dict[str, bytes]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_batch(JOBS, Recording(stop_after=1), tmp_path, header, progress=False)
    assert set(states(tmp_path)) == {"scene-0", "scene-1", "scene-2"}
    engine, summary = draw(tmp_path, header, resume=True)
    assert summary.skipped == 3 and len(summary.files) == 5
    assert engine.groups == [["scene-3", "scene-4", "scene-5"], ["scene-6", "scene-7"]]
    assert contents(tmp_path) == whole
    engine, summary = draw(tmp_path, header, resume=True)
    assert engine.groups == [] and summary.skipped == 8 and summary.files == []


def test_a_half_finished_group_is_drawn_with_the_same_members(
    tmp_path: Path, header: Header, whole: dict[str, bytes]
) -> None:
    _, summary = draw(tmp_path, header, limit=4)
    assert summary.left == 4 and sorted(contents(tmp_path)) == [one.file for one in JOBS[:4]]
    before = (tmp_path / "scene-3.png").stat().st_mtime_ns
    engine, _ = draw(tmp_path, header, resume=True)
    assert engine.groups == [["scene-3", "scene-4", "scene-5"], ["scene-6", "scene-7"]]
    assert contents(tmp_path) == whole and (tmp_path / "scene-3.png").stat().st_mtime_ns == before


def test_pictures_do_not_depend_on_the_order_in_which_groups_come(
    tmp_path: Path, header: Header, whole: dict[str, bytes]
) -> None:
    run_batch(JOBS, Recording(last_first=True), tmp_path, header, progress=False)
    assert contents(tmp_path) == whole


def test_a_picture_that_was_deleted_is_drawn_again(tmp_path: Path, header: Header, whole: dict[str, bytes]) -> None:
    draw(tmp_path, header)
    (tmp_path / "scene-4.png").unlink()
    engine, summary = draw(tmp_path, header, resume=True)
    assert engine.groups == [["scene-3", "scene-4", "scene-5"]] and summary.skipped == 7
    assert contents(tmp_path) == whole


def test_a_bad_scene_fails_alone_and_resuming_tries_it_again(tmp_path: Path, header: Header) -> None:
    bad = replace(JOBS[1], scene_json="{}", scene_hash="f" * 64, error="line 2: caption: is missing")
    engine, summary = draw(tmp_path, header, [JOBS[0], bad, JOBS[2]])
    assert summary.failed == {"scene-1": "line 2: caption: is missing"}
    assert engine.groups == [["scene-0", "scene-2"]]
    assert states(tmp_path) == {"scene-0": "done", "scene-1": "failed", "scene-2": "done"}
    size = (tmp_path / LEDGER_NAME).stat().st_size
    engine, summary = draw(tmp_path, header, [JOBS[0], bad, JOBS[2]], resume=True)
    assert engine.groups == [] and len(summary.failed) == 1 and (tmp_path / LEDGER_NAME).stat().st_size == size
    engine, summary = draw(tmp_path, header, JOBS[:3], resume=True)
    assert [path.name for path in summary.files] == ["scene-1.png"] and not summary.failed
    assert states(tmp_path)["scene-1"] == "done"


def test_a_refused_scene_fails_alone(tmp_path: Path, header: Header, make_drawer: Callable[[], Drawer]) -> None:
    jobs = [job("one"), job("refuse"), job("three"), job("four")]
    summary = run_batch(jobs, LocalEngine([make_drawer]), tmp_path, header, progress=False)
    assert summary.failed == {"refuse": "this model draws no such thing"}
    assert sorted(contents(tmp_path)) == ["four.png", "one.png", "three.png"]
    assert all(content.startswith(b"\x89PNG") for content in contents(tmp_path).values())


def test_a_folder_with_a_batch_is_refused_without_resume(tmp_path: Path, header: Header) -> None:
    draw(tmp_path, header)
    with pytest.raises(InputError, match="there is a batch in this folder already: --resume goes on"):
        draw(tmp_path, header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"composition": "1" * 64}, "the composition, or a local file that it names, is not the one"),
        ({"batch_size": 2}, "batch size: found 2, the batch was begun with 3"),
        ({"dtype": "float16"}, "dtype: found float16, the batch was begun with float32"),
        ({"device": "cuda"}, "device: found cuda, the batch was begun with cpu"),
    ],
)
def test_other_settings_are_refused_unless_forced(
    tmp_path: Path, header: Header, change: dict[str, object], message: str
) -> None:
    draw(tmp_path, header, limit=4)
    kept = contents(tmp_path)
    other = header.model_copy(update=change)
    with pytest.raises(InputError, match=message):
        draw(tmp_path, other, resume=True)
    _, summary = draw(tmp_path, other, resume=True, force=True)
    assert summary.skipped == 4 and kept.items() < contents(tmp_path).items() and len(contents(tmp_path)) == 8
    # From here on the other settings are the batch's own.
    draw(tmp_path, other, resume=True)


def test_other_versions_are_told(tmp_path: Path, header: Header) -> None:
    draw(tmp_path, header, limit=4)
    newer = header.model_copy(update={"versions": {"torch": "3"}})
    with pytest.warns(UserWarning, match="begun with torch 2, here is 3: pictures may differ slightly"):
        draw(tmp_path, newer, resume=True)


def test_changed_scenes_and_seeds_are_drawn_again_only_when_forced(tmp_path: Path, header: Header) -> None:
    draw(tmp_path, header)
    changed = [replace(JOBS[0], seed=1), replace(JOBS[1], scene_hash="f" * 64), *JOBS[2:]]
    with pytest.raises(InputError, match="2 pictures were drawn of other scenes or seeds: scene-0, scene-1"):
        draw(tmp_path, header, changed, resume=True)
    _, summary = draw(tmp_path, header, changed, resume=True, force=True)
    assert [path.name for path in summary.files] == ["scene-0.png", "scene-1.png"]
    assert b"seed 1 in" in (tmp_path / "scene-0.png").read_bytes()
    draw(tmp_path, header, changed, resume=True)


@pytest.mark.parametrize("error", ["", "line 1: caption: is missing"])
def test_a_changed_scene_that_fails_loses_its_old_picture(tmp_path: Path, header: Header, error: str) -> None:
    class Failing(Recording):
        def run(self, groups: Iterable[Sequence[Job]]) -> Generator[tuple[Sequence[Job], list[Drawn]], None, None]:
            for group, drawn in super().run(groups):
                yield group, [Drawn(one.name, error="refused") if one.name == "scene-0" else one for one in drawn]

    draw(tmp_path, header)
    changed = [replace(JOBS[0], seed=1, error=error), *JOBS[1:]]
    summary = run_batch(changed, Failing(), tmp_path, header, resume=True, force=True, progress=False)
    assert summary.failed == {"scene-0": error or "refused"} and states(tmp_path)["scene-0"] == "failed"
    assert sorted(contents(tmp_path)) == [one.file for one in JOBS[1:]]
    _, summary = draw(tmp_path, header, [replace(JOBS[0], seed=1), *JOBS[1:]], resume=True)
    assert [path.name for path in summary.files] == ["scene-0.png"]


def test_foreign_files_are_never_overwritten(tmp_path: Path, header: Header) -> None:
    (tmp_path / "scene-2.png").write_text("mine")
    (tmp_path / "holiday.png").write_text("mine too")
    for resume in (False, True):
        with pytest.raises(InputError, match=r"files that this batch did not draw and would overwrite: scene-2\.png"):
            draw(tmp_path, header, resume=resume)
    draw(tmp_path, header, [JOBS[0]])
    with pytest.raises(InputError, match=r"scene-2\.png"):
        draw(tmp_path, header, resume=True)
    assert (tmp_path / "scene-2.png").read_text() == "mine" and (tmp_path / "holiday.png").read_text() == "mine too"


def test_a_foreign_file_that_appears_meanwhile_is_kept(tmp_path: Path, header: Header) -> None:
    class Meddling(Recording):
        def run(self, groups: Iterable[Sequence[Job]]) -> Generator[tuple[Sequence[Job], list[Drawn]], None, None]:
            for result in super().run(groups):
                (tmp_path / result[0][0].file).write_text("mine")
                yield result

    summary = run_batch(JOBS[:2], Meddling(), tmp_path, header, progress=False)
    assert summary.failed == {"scene-0": "scene-0.png: there is a file of this name that this batch did not draw"}
    assert (tmp_path / "scene-0.png").read_text() == "mine" and len(summary.files) == 1


def test_scenes_may_be_added_at_the_end(tmp_path: Path, header: Header, whole: dict[str, bytes]) -> None:
    draw(tmp_path, header, JOBS[:6])
    engine, _ = draw(tmp_path, header, resume=True)
    assert engine.groups == [["scene-6", "scene-7"]] and contents(tmp_path) == whole


def test_resuming_nothing_begins(tmp_path: Path, header: Header, whole: dict[str, bytes]) -> None:
    draw(tmp_path / "new", header, resume=True)
    assert contents(tmp_path / "new") == whole


def test_a_disk_that_fails_leaves_no_file_and_a_ledger_to_go_on_with(
    tmp_path: Path, header: Header, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(file: int) -> None:
        calls.append(file)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(InputError, match="No space left on device"):
            draw(tmp_path, header)
    assert all(whole[name] == content for name, content in contents(tmp_path).items())
    draw(tmp_path, header, resume=True)
    assert contents(tmp_path) == whole


def test_the_ledger_tells_everything_about_every_picture(tmp_path: Path, header: Header) -> None:
    draw(tmp_path, header)
    entries = [json.loads(line) for line in (tmp_path / LEDGER_NAME).read_text().splitlines()[1:]]
    assert [(entry["name"], entry["scene"], entry["seed"]) for entry in entries] == [
        (one.name, one.scene_hash, one.seed) for one in JOBS
    ]


def test_a_folder_is_checked_beforehand_and_left_as_it_is(tmp_path: Path, header: Header) -> None:
    check_batch(JOBS, tmp_path / "new", header)
    assert not (tmp_path / "new").exists()
    begun = tmp_path / "begun"
    draw(begun, header, limit=4)
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    check_batch(JOBS, begun, header, resume=True)
    with pytest.raises(InputError, match="there is a batch in this folder already"):
        check_batch(JOBS, begun, header)
    with pytest.raises(InputError, match="batch size: found 9"):
        check_batch(JOBS, begun, header.model_copy(update={"batch_size": 9}), resume=True)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / JOBS[0].file).write_bytes(b"mine")
    with pytest.raises(InputError, match="files that this batch did not draw"):
        check_batch(JOBS, foreign, header)
    with pytest.raises(InputError, match="is a file, expected a folder"):
        check_batch(JOBS, foreign / JOBS[0].file, header)
