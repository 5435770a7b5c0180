"""Workers in processes: every group once, whatever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from amdm_framework.batch import local
from amdm_framework.batch.drawing import Drawer, Drawn
from amdm_framework.batch.engine import MAX_ATTEMPTS
from amdm_framework.batch.jobs import Job
from amdm_framework.batch.local import LocalEngine
from amdm_framework.errors import AMDMError, InputError
from amdm_framework.testing.tiny_models import write_diffusers_folder

from .conftest import job

GROUPS = [[job(f"scene {number}"), job(f"other {number}")] for number in range(6)]


class Worker:
    """Draws process numbers; dies of what the captions say, each as often as the folder allows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def draw(self, jobs: Sequence[Job]) -> list[Drawn]:
        for deadly in self.folder.glob(f"{jobs[0].name}-*"):
            deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return [Drawn(one.name, f"{one.name} by {os.getpid()}".encode()) for one in jobs]


class WaitingForAnother(Worker):
    """Draws once two workers are there, so that none has drawn everything before the other has started."""

    def draw(self, jobs: Sequence[Job]) -> list[Drawn]:
        (self.folder / f"process {os.getpid()}").touch()
        deadline = time.monotonic() + 60
        while len(list(self.folder.glob("process *"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().draw(jobs)


class DyingWhileLoading(Worker):
    def __init__(self, folder: Path) -> None:
        os._exit(7)


class Refusing(Worker):
    def __init__(self, folder: Path) -> None:
        raise InputError("there is no such checkpoint")


@pytest.fixture(scope="module", autouse=True)
def warm_processes() -> Iterator[None]:
    """Workers that are forked from a process that has imported everything; new ones import for seconds."""
    warm = multiprocessing.get_context("forkserver")
    warm.set_forkserver_preload(["amdm_framework.batch.local"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_processes", warm)
        yield


def workers(kind: type[Worker], folder: Path, count: int = 2) -> LocalEngine:
    make_drawer: partial[Drawer] = partial(kind, folder)  # type: ignore[arg-type]
    return LocalEngine([make_drawer] * count)


def test_groups_are_shared_among_workers_and_each_is_drawn_once(tmp_path: Path) -> None:
    results = list(workers(WaitingForAnother, tmp_path).run(GROUPS))
    assert sorted(group[0].name for group, _ in results) == [group[0].name for group in GROUPS]
    assert all([one.name for one in drawn] == [one.name for one in group] for group, drawn in results)
    processes = {one.png.split()[-1] for _, drawn in results for one in drawn if one.png}
    assert len(processes) == 2 and str(os.getpid()).encode() not in processes


def test_the_group_of_a_worker_that_died_is_drawn_again(tmp_path: Path) -> None:
    for name in ("scene-1-a", "scene-1-b", "scene-4-a"):
        (tmp_path / name).touch()
    # One file kills once: the first group survives its third attempt.
    results = list(workers(Worker, tmp_path).run(GROUPS))
    assert Counter(group[0].name for group, _ in results) == Counter(group[0].name for group in GROUPS)
    assert all(one.png for _, drawn in results for one in drawn) and not list(tmp_path.iterdir())


def test_a_group_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    for number in range(MAX_ATTEMPTS + 1):
        (tmp_path / f"scene-2-{number}").touch()
    results = {group[0].name: drawn for group, drawn in workers(Worker, tmp_path).run(GROUPS)}
    reason = f"given up after {MAX_ATTEMPTS} attempts at its group: the worker process died of SIGKILL"
    assert [one.error for one in results["scene-2"]] == [reason, reason]
    assert all(one.png for name, drawn in results.items() if name != "scene-2" for one in drawn)
    assert len(results) == len(GROUPS) and len(list(tmp_path.iterdir())) == 1


def test_workers_that_cannot_load_say_why(tmp_path: Path) -> None:
    with pytest.raises(AMDMError, match="there is no such checkpoint"):
        list(workers(Refusing, tmp_path).run(GROUPS))
    with pytest.raises(InputError, match="ended with exit code 7 while it loaded the models, 3 times"):
        list(workers(DyingWhileLoading, tmp_path).run(GROUPS))


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    results = workers(Worker, tmp_path).run(GROUPS)
    _, drawn = next(results)
    assert drawn[0].png is not None
    process = int(drawn[0].png.split()[-1])
    os.kill(process, 0)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process ignores is read from /proc")
def test_workers_ignore_interruptions_from_their_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_processes", multiprocessing.get_context("spawn"))
    before = signal.getsignal(signal.SIGINT)
    worker = local._Worker(partial(Worker, tmp_path))  # type: ignore[arg-type]
    try:
        status = Path(f"/proc/{worker._process.pid}/status").read_text()
    finally:
        worker.end()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert ignored >> (signal.SIGINT - 1) & 1
    assert signal.getsignal(signal.SIGINT) is before


def test_groups_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken = []

    def groups() -> Iterator[Sequence[Job]]:
        for group in GROUPS:
            taken.append(group)
            yield group

    results = workers(Worker, tmp_path).run(groups())
    next(results)
    assert len(taken) <= 3
    results.close()


def test_two_processes_draw_what_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")
    write_diffusers_folder(tmp_path / "base")
    composition = {
        "providers": [{"use": "stable_diffusion", "checkpoint": "base"}],
        "aggregation": {"strategy": "single"},
        "sampler": {"steps": 2},
    }
    make_drawer = partial(Drawer, composition, str(tmp_path), "cpu", "float32")
    drawn = {}
    for count in (1, 2):
        results = LocalEngine([make_drawer] * count).run(GROUPS)
        drawn[count] = {one.name: one.png for _, group in results for one in group}
    assert drawn[1] == drawn[2] and len(drawn[1]) == 12 and None not in drawn[1].values()
