"""Jobs of all pages: one is drawn at a time, the others wait in the order in which they came."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..composition import ResolvedComposition
from ..errors import AMDMError, InputError
from ..sampling.trace import Trace
from ..scene import Scene
from .messages import message_of
from .previews import Preview

MOST_WAITING = 16
"""Jobs that one page may have waiting."""

MOST_WAITING_IN_ALL = 64
"""Jobs that all pages together may have waiting."""

MOST_KEPT = 30
"""Finished jobs that are kept for one page; the pictures of older ones are in the gallery."""

MOST_KEPT_IN_ALL = 300
"""Finished jobs that are kept for all pages together."""

State = Literal["waiting", "drawing", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobRequest:
    """What a page asked for.

    Attributes:
        resolved: the composition.
        scene: what to draw.
        seeds: one picture each, all in one batch.
        alone: whether every member is drawn alone, too.
        content: composition and scene as they were written, for the page.
    """

    resolved: ResolvedComposition
    scene: Scene
    seeds: tuple[int, ...]
    alone: bool
    content: dict[str, Any]


@dataclass(frozen=True)
class View:
    """Pictures of one composition of a job.

    Attributes:
        name: the member that drew alone; an empty string for all together.
        files: names of the pictures in the output folder, one per seed.
        warnings: what the run had to say.
        evaluations: of every member's network.
        trace: what happened at every step.
    """

    name: str
    files: list[str]
    warnings: list[str]
    evaluations: dict[str, int]
    trace: Trace


class Cancelled(Exception):
    """Whoever asked for the job does not want it any more."""


@dataclass(eq=False)
class Job:
    """One job; everything that changes is changed by `JobQueue` and by `update`.

    Attributes:
        key: names it; nobody can guess it.
        session: the page that asked for it.
        request: what was asked for.
        state: where it is.
        stage: what is being done, in words.
        step: steps taken.
        steps: of all.
        previews: the latest one of every member, and of the aggregate under an empty name.
        views: what was drawn.
        error: why it failed.
        seconds: how long drawing took.
        version: grows with every change.
    """

    key: str
    session: str
    request: JobRequest
    state: State = "waiting"
    stage: str = ""
    step: int = 0
    steps: int = 0
    previews: dict[str, Preview] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0
    version: int = 0
    _cancel: threading.Event = field(default_factory=threading.Event)

    def update(self, **changes: Any) -> None:
        """Change attributes.

        Raises:
            Cancelled: it is not wanted any more.
        """
        if self._cancel.is_set():
            raise Cancelled
        for name, value in changes.items():
            setattr(self, name, value)
        self.version += 1

    def add_view(self, view: View) -> None:
        """Add pictures that are in the output folder, even where the job is not wanted any more."""
        self.views = [*self.views, view]
        self.version += 1

    @property
    def finished(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")


class JobQueue:
    """Draws jobs in a thread of its own.

    Args:
        draw: draws a job, reporting through `Job.update`.
    """

    def __init__(self, draw: Callable[[Job], None]) -> None:
        self._draw = draw
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._drawing: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
        self._thread.start()

    def submit(self, session: str, request: JobRequest) -> Job:
        """Add a job.

        Raises:
            InputError: this page, or all pages together, have too many waiting.
        """
        with self._changed:
            own = [job for job in self._jobs.values() if job.session == session]
            if sum(job.state == "waiting" for job in own) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} jobs are waiting already: let some finish, or cancel them")
            if len(self._waiting) >= MOST_WAITING_IN_ALL:
                raise InputError(f"{MOST_WAITING_IN_ALL} jobs of all pages are waiting already: try again later")
            finished = [job for job in self._jobs.values() if job.finished]
            old = [*[job for job in own if job.finished][:-MOST_KEPT], *finished[:-MOST_KEPT_IN_ALL]]
            for job in set(old):
                del self._jobs[job.key]
            job = Job(secrets.token_urlsafe(12), session, request)
            self._jobs[job.key] = job
            self._waiting.append(job)
            self._changed.notify()
        return job

    def of_session(self, session: str) -> list[Job]:
        """Return a page's jobs, oldest first."""
        with self._changed:
            return [job for job in self._jobs.values() if job.session == session]

    def find(self, session: str, key: str) -> Job:
        """Return a job of a page.

        Raises:
            InputError: the page has no such job.
        """
        with self._changed:
            job = self._jobs.get(key)
        if job is None or job.session != session:
            raise InputError("there is no such job any more")
        return job

    def ahead(self, job: Job) -> int:
        """Return how many jobs are drawn before a waiting one."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._drawing is not None)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once where it waits, after the step under way where it is drawn."""
        with self._changed:
            self._stop(job)

    def forget(self, session: str) -> None:
        """Stop all jobs of a page that nobody looks at any more, and forget them."""
        with self._changed:
            for job in [job for job in self._jobs.values() if job.session == session]:
                self._stop(job)
                del self._jobs[job.key]

    def close(self) -> None:
        """Cancel everything and wait for the thread."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job._cancel.set()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout=60)

    def _stop(self, job: Job) -> None:
        job._cancel.set()
        if job in self._waiting:
            self._waiting.remove(job)
            _finish(job, "cancelled")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                job = self._drawing = self._waiting.popleft()
                job.state = "drawing"
                job.version += 1
            began = time.perf_counter()
            try:
                self._draw(job)
                state: State = "done"
            except Cancelled:
                state = "cancelled"
            except AMDMError as error:
                job.error = message_of(error)
                state = "failed"
            except (Exception, SystemExit):
                # A defect of a model must not end the studio for everybody.
                logging.getLogger(__name__).exception("a job failed")
                job.error = "this failed for a reason that only the terminal of the studio shows"
                state = "failed"
            job.seconds = time.perf_counter() - began
            with self._changed:
                self._drawing = None
                _finish(job, state)


def _finish(job: Job, state: State) -> None:
    job.previews = {}
    job.stage = ""
    job.state = state
    job.version += 1
