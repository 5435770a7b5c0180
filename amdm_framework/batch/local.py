"""Groups drawn on this machine: in this process, or by several worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import torch
from tqdm import tqdm

from ..errors import AMDMError, InputError
from ..plugins import PluginWarning
from .drawing import DEVICE_FAILURES, Drawn
from .engine import MAX_ATTEMPTS, MakeDrawer, Results, given_up
from .jobs import Job

_processes = multiprocessing.get_context("spawn")


class LocalEngine:
    """Draws in this process where there is one drawer, else in a process of its own for each.

    Args:
        make_drawers: one per worker; for workers on different devices they differ in the device.
    """

    def __init__(self, make_drawers: Sequence[MakeDrawer]) -> None:
        self._make_drawers = list(make_drawers)

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        """See `Engine.run`."""
        if len(self._make_drawers) > 1:
            yield from self._in_processes(iter(groups))
            return
        try:
            drawer = self._make_drawers[0]()
            for group in groups:
                yield group, drawer.draw(group)
        except DEVICE_FAILURES as error:
            reason = str(error).partition("\n")[0]
            raise AMDMError(f"the device failed: {reason}; what is drawn is kept, the batch can be resumed") from error

    def _in_processes(self, groups: Iterator[Sequence[Job]]) -> Results:
        workers = [_Worker(make_drawer) for make_drawer in self._make_drawers]
        again: deque[Sequence[Job]] = deque()
        # By the name of a group's first job: groups share no jobs.
        losses: Counter[str] = Counter()
        exhausted = False
        try:
            while True:
                for worker in workers:
                    if worker.ready and worker.group is None and not (exhausted and not again):
                        group = again.popleft() if again else next(groups, None)
                        if group is None:
                            exhausted = True
                        else:
                            worker.give(group)
                if exhausted and not again and all(worker.group is None for worker in workers):
                    return
                awaited = {worker.connection: worker for worker in workers if worker.group or not worker.ready}
                for connection in wait(list(awaited)):
                    worker = awaited[connection]  # type: ignore[index]
                    group = worker.group
                    drawn = worker.receive()
                    if group is None:
                        continue
                    if drawn is None:
                        losses[group[0].name] += 1
                        if losses[group[0].name] < MAX_ATTEMPTS:
                            again.append(group)
                            continue
                        drawn = given_up(group, worker.last_end)
                    yield group, drawn
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """One process with a drawer, started again whenever it dies.

    Attributes:
        connection: to the process; replaced when it is started again.
        ready: whether its drawer is loaded.
        group: what it draws at the moment.
        last_end: how it died last.
    """

    def __init__(self, make_drawer: MakeDrawer) -> None:
        self._make_drawer = make_drawer
        self._failed_starts = 0
        self.last_end = ""
        self._start()

    def _start(self) -> None:
        self.ready = False
        self.group: Sequence[Job] | None = None
        self.connection, theirs = _processes.Pipe()
        # Another number of threads rounds sums differently: pictures would not be the same to the byte.
        arguments = (theirs, self._make_drawer, torch.get_num_threads())
        self._process = _processes.Process(target=_work, args=arguments, daemon=True)
        with _ignoring_interrupts():
            self._process.start()
        # Held by the process alone, so that its death ends the connection.
        theirs.close()

    def give(self, group: Sequence[Job]) -> None:
        """Let it draw a group. That it died meanwhile is found when its answer is received."""
        self.group = group
        with contextlib.suppress(OSError):
            self.connection.send(group)

    def receive(self) -> list[Drawn] | None:
        """Return what it drew; None where it has just been loaded, or where it died and was started again.

        Raises:
            AMDMError: its drawer cannot be loaded.
        """
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self._note_death()
            self._start()
            return None
        if kind == "refused":
            raise AMDMError(content)
        self.group = None
        if kind == "ready":
            self.ready = True
            self._failed_starts = 0
            return None
        drawn: list[Drawn] = content
        return drawn

    def _note_death(self) -> None:
        was_ready = self.ready
        self.end()
        code = self._process.exitcode or 0
        self.last_end = f"the worker process died of {signal.Signals(-code).name}" if code < 0 else (
            f"the worker process ended with exit code {code}"
        )  # fmt: skip
        self._failed_starts += not was_ready
        if self._failed_starts == MAX_ATTEMPTS:
            raise InputError(
                f"{self.last_end} while it loaded the models, {MAX_ATTEMPTS} times: is there memory for all workers?"
            )

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self.connection.close()
        self._process.kill()
        self._process.join()


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    # A process that is started meanwhile ignores them from its beginning, not only once it has imported everything.
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(connection: Connection, make_drawer: MakeDrawer, threads: int) -> None:
    # Ctrl-C reaches every process of a terminal: the one that writes results decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", PluginWarning)
    # The usual lock of progress bars is a semaphore that a process which is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(threads)
    try:
        try:
            drawer = make_drawer()
        except AMDMError as error:
            connection.send(("refused", "\n".join([str(error), *getattr(error, "__notes__", ())])))
            return
        connection.send(("ready", None))
        while True:
            connection.send(("drawn", drawer.draw(connection.recv())))
    except (EOFError, ConnectionError):
        # The process that wanted the pictures is gone.
        return
