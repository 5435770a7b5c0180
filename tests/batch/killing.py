"""Runs a batch again and again in children that are killed, until each folder is finished; prints what was found.

    python killing.py FOLDER SEED

A program of its own, with one thread: a loaded drawer is forked into every child, which takes milliseconds where a
new process would import for seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from amdm_framework.batch import ledger, run
from amdm_framework.batch.drawing import Drawer
from amdm_framework.batch.jobs import make_job
from amdm_framework.batch.ledger import LEDGER_NAME, Header, Ledger
from amdm_framework.batch.local import LocalEngine
from amdm_framework.batch.run import run_batch
from toy_plugin import toy_registry

COMPOSITION: dict[str, Any] = {
    "providers": [{"use": "toy"}],
    "aggregation": {"strategy": "single"},
    "sampler": {"steps": 3},
}
JOBS = [make_job(f"scene-{number}", {"caption": f"scene {number}"}, Path()) for number in range(7)]
JOBS.insert(3, make_job("bad", {"caption": 3}, Path()))
HEADER = Header(composition="0" * 64, device="cpu", dtype="float32", batch_size=3, versions={})
WRITING = {run.__file__, ledger.__file__}
TIMED_KILLS = 20
COUNTED_KILLS = 30


def main() -> None:
    folder, generator = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    torch.set_num_threads(1)
    # The usual lock of progress bars is shared with forks: one that is killed while it holds it would stop all others.
    tqdm.set_lock(threading.RLock())
    drawer = Drawer(COMPOSITION, ".", "cpu", "float32", True, toy_registry())
    engine = LocalEngine([lambda: drawer])

    def draw(target: Path) -> None:
        run_batch(JOBS, engine, target, HEADER, resume=True, progress=False)

    draw(folder / "warm-up")
    began = time.perf_counter()
    draw(folder / "whole")
    seconds = time.perf_counter() - began
    lines = _count_lines(lambda: draw(folder / "counted"))
    whole = _pictures(folder / "whole")

    def by_time() -> tuple[float | None, int | None]:
        return generator.uniform(0, 2 * seconds), None

    def by_line() -> tuple[float | None, int | None]:
        return None, generator.randrange(lines)

    kills = {"timed": 0, "counted": 0}
    folders = []
    for kind, moment, enough in (("timed", by_time, TIMED_KILLS), ("counted", by_line, COUNTED_KILLS)):
        while kills[kind] < enough:
            target = folder / f"{kind}-{len(folders)}"
            folders.append(target)
            while _was_killed(lambda target=target: draw(target), *moment()):  # type: ignore[misc]
                kills[kind] += 1
                _check_interrupted(target, whole)
            _check_finished(target, whole)
    print(json.dumps({"kills": kills, "folders": len(folders), "lines": lines, "pictures": len(whole)}))


def _was_killed(action: Callable[[], None], seconds: float | None, line: int | None) -> bool:
    child = os.fork()
    if child == 0:
        if line is not None:
            sys.settrace(_killing_at(line))
        action()
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def _killing_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    # Between any two lines of what writes.
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in WRITING:
            return None
        if event == "line":
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        return trace

    return trace


def _count_lines(action: Callable[[], None]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in WRITING:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return count


def _pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def _check_interrupted(folder: Path, whole: dict[str, bytes]) -> None:
    if not folder.exists():
        return
    # A picture is there whole or not at all, and none without its entry.
    pictures = _pictures(folder)
    assert pictures.items() <= whole.items(), folder
    if not (folder / LEDGER_NAME).exists():
        assert not pictures
        return
    with Ledger(folder) as written:
        done = {entry.file for entry in written.entries.values() if entry.state == "done"}
    assert pictures.keys() <= done, folder


def _check_finished(folder: Path, whole: dict[str, bytes]) -> None:
    assert _pictures(folder) == whole, folder
    assert sorted(os.listdir(folder)) == sorted([LEDGER_NAME, *whole]), folder
    with Ledger(folder) as written:
        states = {name: entry.state for name, entry in written.entries.items()}
    assert states == {job.name: "failed" if job.error else "done" for job in JOBS}, folder


if __name__ == "__main__":
    main()
