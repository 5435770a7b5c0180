"""Draws on a Ray cluster: actors hold the loaded models, the driver hands out groups and takes in pictures."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import AMDMError, InputError

if TYPE_CHECKING:
    from .drawing import Drawer, Drawn
    from .engine import MakeDrawer, Results
    from .jobs import Job

GROUPS_PER_WORKER = 2
"""Groups that a worker has at once: the one it draws, and the next, so that it need not wait for the driver."""


class RayEngine:
    """Draws groups of jobs with workers on a Ray cluster, each in a process of its own that keeps its models loaded.

    Every worker takes one CPU and its share of GPUs. Torch computes there with as many CPU threads as here, because
    another number of threads rounds differently and draws other bytes. Where this process is connected to a cluster
    already, that one is used.

    Args:
        make_drawer: loads the models where it is called.
        workers: how many to start; those for which the cluster has no room yet start as soon as it has.
        address: `auto` (the cluster that this machine belongs to), `HOST:PORT` or `ray://HOST:PORT`; None starts a
            cluster on this machine, which ends with the run.
        gpus_per_worker: None takes one where the cluster has GPUs and none elsewhere.
    """

    def __init__(
        self,
        make_drawer: MakeDrawer,
        workers: int,
        address: str | None = None,
        gpus_per_worker: float | None = None,
    ) -> None:
        self._make_drawer = make_drawer
        self._workers = workers
        self._address = address
        self._gpus_per_worker = gpus_per_worker

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        """Yield every group once with what became of its jobs, in any order; closing the iterator ends all workers.

        Groups are taken as they are needed, not all at once. A group whose worker dies is drawn again by another one,
        and given up after `MAX_ATTEMPTS` times: its jobs then carry the reason as their error.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
            AMDMError: the drawers cannot be loaded.
        """
        from .engine import MAX_ATTEMPTS, given_up

        remaining = iter(groups)
        # One group is always known ahead, so that an empty queue means that none is left.
        waiting = deque(_Attempt(group) for group in islice(remaining, 1))
        if not waiting:
            return
        with _connected(self._address, self._workers):
            workers = self._start_workers()
            deaths_while_loading = 0
            try:
                while waiting or any(worker.drawing for worker in workers):
                    for worker in workers:
                        while waiting and worker.has_room_for(waiting[0]):
                            worker.draw(waiting.popleft())
                            if not waiting:
                                waiting.extend(_Attempt(group) for group in islice(remaining, 1))
                    worker = _next_to_answer(workers)
                    for attempt, drawn in worker.collect():
                        yield attempt.group, drawn
                    if worker.failure is None:
                        deaths_while_loading = 0
                        continue
                    if not worker.loaded:
                        deaths_while_loading += 1
                        if deaths_while_loading == MAX_ATTEMPTS:
                            raise AMDMError(f"{MAX_ATTEMPTS} workers in a row died while loading: {worker.failure}")
                    unfinished = worker.end()
                    # Any of them may be the cause, the first too though it was finished: a death can swallow the
                    # answer before it. From here on they are drawn one at a time, so that a second death tells.
                    for attempt in unfinished:
                        attempt.deaths += 1
                        if attempt.deaths == MAX_ATTEMPTS:
                            yield attempt.group, given_up(attempt.group, worker.failure)
                    waiting.extendleft(attempt for attempt in reversed(unfinished) if attempt.deaths < MAX_ATTEMPTS)
                    workers[workers.index(worker)] = self._start_worker(worker.options)
            except ConnectionError as error:
                raise AMDMError(f"the connection to the Ray cluster was lost: {_first_line(error)}") from error
            finally:
                with suppress(ConnectionError):
                    for worker in workers:
                        worker.end()

    def _start_workers(self) -> list[_Worker]:
        import ray

        gpus = self._gpus_per_worker
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU", 0) > 0 else 0
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(int(min(node.get("CPU", 0), node.get("GPU", 0) / gpus if gpus else float("inf"))) for node in nodes)
        if room < self._workers:
            warnings.warn(
                f"the cluster has room for {room} of {self._workers} workers (each takes 1 CPU and {gpus:g} GPU); the "
                "others start when it has grown",
                stacklevel=4,
            )
        return [self._start_worker({"num_cpus": 1, "num_gpus": gpus}) for _ in range(self._workers)]

    def _start_worker(self, options: dict[str, Any]) -> _Worker:
        import ray
        import torch

        actor = ray.remote(_DrawingActor).options(**options, max_restarts=0).remote()
        return _Worker(actor, options, actor.load.remote(self._make_drawer, torch.get_num_threads(), __version__))


class _DrawingActor:
    """What runs on the cluster."""

    _drawer: Drawer

    def load(self, make_drawer: MakeDrawer, torch_threads: int, driver_version: str) -> None:
        if __version__ != driver_version:
            raise InputError(f"this node has amdm-framework {__version__}, the driver {driver_version}")
        try:
            self._drawer = make_drawer()
        except AMDMError as error:
            error.add_note(f"This is about loading the models on the node {socket.gethostname()}.")
            raise
        import torch

        torch.set_num_threads(torch_threads)

    def draw(self, group: Sequence[Job]) -> list[Drawn]:
        return self._drawer.draw(group)


@dataclass
class _Attempt:
    group: Sequence[Job]
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    """What the driver knows of an actor: the answers it waits for, in the order of their questions."""

    actor: Any
    options: dict[str, Any]
    loading: Any
    loaded: bool = False
    failure: str | None = None
    drawing: dict[Any, _Attempt] = field(default_factory=dict)

    def has_room_for(self, attempt: _Attempt) -> bool:
        if not self.loaded or not self.drawing:
            return self.loaded
        alone = attempt.deaths or any(other.deaths for other in self.drawing.values())
        return not alone and len(self.drawing) < GROUPS_PER_WORKER

    def draw(self, attempt: _Attempt) -> None:
        self.drawing[self.actor.draw.remote(attempt.group)] = attempt

    def collect(self) -> list[tuple[_Attempt, list[Drawn]]]:
        """Take the answers that have come, and note why no more will come where that is so.

        Raises:
            AMDMError: the models cannot be loaded.
        """
        import ray

        finished = []
        expected = [*([] if self.loaded else [self.loading]), *self.drawing]
        for answer in ray.wait(expected, num_returns=len(expected), timeout=0)[0]:
            try:
                content = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                reason = f"{type(error.cause).__name__}: {error.cause}"
                if not self.loaded:
                    if isinstance(error.cause, AMDMError):
                        raise error.cause from None
                    raise AMDMError(f"a worker cannot load the models: {reason}") from error
                self.failure = self.failure or " ".join(reason.split())
            except ray.exceptions.RayError as error:
                # Lines after the first are about Ray's insides, and advice that fits any end.
                self.failure = self.failure or _first_line(error)
            else:
                if answer == self.loading:
                    self.loaded = True
                else:
                    finished.append((self.drawing.pop(answer), content))
        return finished

    def end(self) -> list[_Attempt]:
        """End the process and return the groups that it did not finish."""
        import ray

        ray.kill(self.actor)
        return list(self.drawing.values())


def _next_to_answer(workers: Sequence[_Worker]) -> _Worker:
    import ray

    asked = {answer: worker for worker in workers for answer in worker.drawing}
    asked |= {worker.loading: worker for worker in workers if not worker.loaded}
    answered, _ = ray.wait(list(asked), num_returns=1)
    return asked[answered[0]]


@contextmanager
def _connected(address: str | None, workers: int) -> Iterator[None]:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("the engine ray needs Ray: pip install 'amdm-framework[ray]'") from error
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check_reachable(os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address)
    try:
        if address is None:
            # Ray would tell its makers about every cluster that is started.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                "local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        # Ray raises whatever comes, down to plain exceptions.
        ray.shutdown()
        if address is None:
            raise InputError(f"Ray cannot start a cluster on this machine: {_first_line(error)}") from error
        raise InputError(
            f"the Ray cluster at {address} cannot be used: {_first_line(error)} (one that asks for a token wants "
            "RAY_AUTH_MODE=token in the environment, and its token)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    # Ray itself tries for minutes.
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"found the address {address!r}, expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"no Ray cluster can be reached at {address}: {error.strerror or error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
