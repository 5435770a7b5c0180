"""Interrupts `amdm` at random moments of its runs; prints what each left behind, as lines of JSON.

    python interrupting.py HOME SEED COUNT COMMANDS

A program of its own, with one thread: a process that has imported everything is forked for every run, which takes
milliseconds where a new one would import for seconds. COMMANDS is a JSON object of command lines by name, without
`--output`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from amdm_framework.cli import main


def run(arguments: list[str], folder: Path, after: float | None) -> tuple[int, float]:
    """Run `amdm` in a fork, interrupt it after some seconds, and return its exit code and how long it took."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    # An interruption waits until the child is ready to report it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        with Path(f"{folder}.stderr").open("w") as stderr:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(stderr.fileno(), 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            started = False
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                started = True
                main(arguments, prog_name="amdm")
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(int(end.code or 0))
            except BaseException as error:
                # Before the command began: no program can catch that.
                if isinstance(error, KeyboardInterrupt) and not (started and error.__traceback__.tb_next):
                    os.write(2, b"interrupted")
                    os._exit(130)
                os.write(2, f"Traceback of {error!r}".encode())
                os._exit(70)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGINT)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - began


def interrupt() -> None:
    home, chance, count = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    os.chdir(home)
    torch.set_num_threads(1)
    # The usual lock of progress bars is shared with forks: one that ends while it holds it would stop all others.
    tqdm.set_lock(threading.RLock())
    folder = home / "interrupted"
    for name, command in json.loads(sys.argv[4]).items():
        arguments = [*command, "--output", str(folder), "--no-progress", "--device", "cpu"]
        # Here, so that every fork has imported all that it needs.
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
            main(arguments, prog_name="amdm")
        code, seconds = run(arguments, folder, None)
        print(json.dumps({"name": name, "code": code, "files": sizes(folder)}))
        for _ in range(count):
            after = chance.uniform(0, seconds)
            code, _ = run(arguments, folder, after)
            stderr = Path(f"{folder}.stderr").read_text()
            print(json.dumps({"name": name, "code": code, "after": after, "files": sizes(folder), "stderr": stderr}))


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of a folder's files; none where there is no folder."""
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}


if __name__ == "__main__":
    interrupt()
