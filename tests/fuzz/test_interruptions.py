"""Ctrl-C, a full disk and a folder that cannot be written to leave whole files or none."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fuzzing import CASES, amdm

from amdm_framework import picture_files
from amdm_framework.batch import run as run_module
from amdm_framework.batch.drawing import Drawn
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.batch.ledger import LEDGER_NAME, Header
from amdm_framework.batch.run import run_batch
from amdm_framework.errors import InputError
from amdm_framework.picture_files import replace_file, save_new

MOMENTS = max(10, CASES // 100)


COMMANDS = {
    "run": ["run", "sd.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2"],
    "batch": ["batch", "sd.yaml", "--scenes", "six.jsonl", "--batch-size", "2"],
}


@pytest.fixture(scope="module")
def interrupted_runs(home: Path) -> dict[str, list[dict[str, Any]]]:
    """What an undisturbed run of each command left behind, and then what runs did that were interrupted."""
    lines = [json.dumps({"caption": f"picture {number}", "name": f"p{number}"}) for number in range(6)]
    (home / "six.jsonl").write_text("\n".join(lines))
    program = Path(__file__).with_name("interrupting.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, program, home, "1", str(MOMENTS), json.dumps(COMMANDS)],
        stdout=subprocess.PIPE, text=True, timeout=120 + 20 * MOMENTS, env=environment, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: [run for run in found if run["name"] == name] for name in COMMANDS}


def check_end(run: dict[str, Any], whole: dict[str, Any]) -> None:
    assert run["code"] in (0, 130), run
    assert "Traceback" not in run["stderr"]
    # Click has a word of its own for an interruption that comes while it reads the arguments.
    assert run["code"] == 0 or run["stderr"].splitlines()[-1] in ("interrupted", "Aborted!"), run
    assert not [name for name in run["files"] if name.endswith(".part")], run
    pictures = {name: size for name, size in run["files"].items() if name.endswith(".png")}
    assert pictures.items() <= whole["files"].items(), "a torn picture"
    if run["code"] == 0:
        assert run["files"].keys() == whole["files"].keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_runs_that_are_interrupted(interrupted_runs: dict[str, list[dict[str, Any]]], command: str) -> None:
    whole, *runs = interrupted_runs[command]
    assert whole["code"] == 0 and len(runs) == MOMENTS
    for run in runs:
        check_end(run, whole)
    assert any(run["code"] == 130 for run in runs)


WRITING = {picture_files.__file__, run_module.__file__}


@contextmanager
def interrupted_at(line: int) -> Any:
    """Send an interruption when so many lines of what writes files have run, and yield how many there were."""
    lines = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in WRITING:
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == line:
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGINT, before)


class OnePicture:
    """An engine that gives every job the same bytes."""

    def run(self, groups: Iterable[Sequence[Job]]) -> Generator[tuple[Sequence[Job], list[Drawn]], None, None]:
        for group in groups:
            yield group, [Drawn(job.name, b"whole") for job in group]


HEADER = Header(composition="0" * 64, device="cpu", dtype="float32", batch_size=1, versions={})


def run_one(folder: Path) -> None:
    """Run a batch of one scene."""
    run_batch([make_job("a", {"caption": "a"}, folder)], OnePicture(), folder, HEADER, progress=False)


SAVERS: dict[str, Callable[[Path], object]] = {
    "save_new": lambda folder: save_new(folder, "a", ".png", lambda file: file.write(b"whole")),
    "replace_file": lambda folder: replace_file(folder / "a.png", lambda file: file.write(b"whole")),
    "run_batch": run_one,
}


@pytest.mark.parametrize("name", SAVERS)
def test_a_file_is_whole_at_whatever_line_its_writing_is_interrupted(tmp_path: Path, name: str) -> None:
    with interrupted_at(0) as lines:
        SAVERS[name](tmp_path)
    count = lines[0]
    assert count > 10
    for line in range(1, count + 1):
        folder = tmp_path / str(line)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt), interrupted_at(line):
            SAVERS[name](folder)
        left = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LEDGER_NAME}
        assert left in ({}, {"a.png": b"whole"}), line


@contextmanager
def files_of_at_most(size: int) -> Any:
    """Let every write beyond a size of the file fail, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 2000])
def test_a_disk_that_fills_up_while_a_picture_is_written(home: Path, tmp_path: Path, room: int) -> None:
    arguments = [
        "run",
        "sd.yaml",
        "--scene",
        "scene.yaml",
        "--seed",
        "1",
        "--output",
        tmp_path / "out",
        "--no-progress",
    ]
    amdm("check", "sd.yaml")
    with files_of_at_most(room):
        result = amdm(*arguments, codes=(2,))
    assert "cannot write this: File too large" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("room", [0, 600, 2000])
def test_a_disk_that_fills_up_during_a_batch(home: Path, tmp_path: Path, room: int) -> None:
    (home / "scenes.jsonl").write_text('{"caption": "a", "name": "a"}\n{"caption": "b", "name": "b"}\n')
    arguments = ["batch", "sd.yaml", "--scenes", "scenes.jsonl", "--output", tmp_path / "out", "--no-progress"]
    amdm("check", "sd.yaml")
    with files_of_at_most(room):
        amdm(*arguments, codes=(1, 2))
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".png", ".part")]
    # With room again, what is missing is drawn.
    amdm(*arguments, "--resume", codes=(0,))
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png"}
    for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("command", ["run", "batch"])
def test_a_file_where_the_folder_should_be(home: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "taken").write_text("mine")
    (home / "scenes.jsonl").write_text('{"caption": "a"}\n')
    what = ["--scene", "scene.yaml"] if command == "run" else ["--scenes", "scenes.jsonl"]
    for folder in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        amdm(command, "sd.yaml", *what, "--output", folder, codes=(2,))
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_without_permission(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere, permissions do not bind root")
    with pytest.raises(InputError, match="cannot"):
        save_new(folder, "a", ".png", lambda file: file.write(b"x"))
    amdm("run", "sd.yaml", "--scene", "scene.yaml", "--output", folder, codes=(2,))
