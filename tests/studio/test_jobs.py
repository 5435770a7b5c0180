"""The queue of jobs: one is drawn at a time, in order; pages see their own; whatever a job does, the next one comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from amdm_framework.errors import AMDMError, InputError, Problem
from amdm_framework.studio.jobs import MOST_KEPT, MOST_WAITING, Job, JobQueue, JobRequest

REQUEST: Any = JobRequest(None, None, (1,), False, {})  # type: ignore[arg-type]


@dataclass
class Hand:
    """Draws a job when it is told to, as it is told to."""

    drawn: list[str] = field(default_factory=list)
    may: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    fails: dict[str, BaseException] = field(default_factory=dict)

    def __call__(self, job: Job) -> None:
        self.drawn.append(job.key)
        job.update(stage="drawing", steps=2)
        assert self.may.acquire(timeout=10)
        if job.session in self.fails:
            raise self.fails[job.session]
        job.update(step=1)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def queue(hand: Hand) -> Iterator[JobQueue]:
    queue = JobQueue(hand)
    yield queue
    hand.may.release(1000)
    queue.close()


def wait(job: Job, *states: str) -> None:
    end = time.monotonic() + 10
    while job.state not in states:
        assert time.monotonic() < end, job.state
        time.sleep(0.002)


def test_one_after_the_other(queue: JobQueue, hand: Hand) -> None:
    jobs = [queue.submit(f"page {number % 2}", REQUEST) for number in range(4)]
    wait(jobs[0], "drawing")
    assert [queue.ahead(job) for job in jobs] == [0, 1, 2, 3]
    assert [job.state for job in jobs[1:]] == ["waiting"] * 3
    hand.may.release()
    wait(jobs[1], "drawing")
    assert jobs[0].state == "done" and jobs[0].step == 1 and jobs[0].seconds > 0
    assert [queue.ahead(job) for job in jobs] == [0, 0, 1, 2]
    hand.may.release(3)
    wait(jobs[3], "done")
    assert hand.drawn == [job.key for job in jobs]


def test_every_change_has_a_version(queue: JobQueue, hand: Hand) -> None:
    job = queue.submit("a", REQUEST)
    wait(job, "drawing")
    seen = job.version
    hand.may.release()
    wait(job, "done")
    assert job.version > seen


def test_cancelled_while_it_waits(queue: JobQueue, hand: Hand) -> None:
    first, second, third = (queue.submit("a", REQUEST) for _ in range(3))
    wait(first, "drawing")
    queue.cancel(second)
    assert second.state == "cancelled" and second.finished and queue.ahead(third) == 1
    hand.may.release(2)
    wait(third, "done")
    assert second.key not in hand.drawn


def test_cancelled_while_it_is_drawn(queue: JobQueue, hand: Hand) -> None:
    first, second = (queue.submit("a", REQUEST) for _ in range(2))
    wait(first, "drawing")
    queue.cancel(first)
    hand.may.release(2)
    wait(second, "done")
    assert first.state == "cancelled" and first.step == 0
    # Too late for the one that is done.
    queue.cancel(second)
    assert second.state == "done"


def test_what_fails_does_not_end_the_queue(queue: JobQueue, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    noted = AMDMError("no memory")
    noted.add_note("try less")
    hand.fails = {
        "ours": noted,
        "defect": ZeroDivisionError("secret detail"),
        "exit": SystemExit(3),
    }
    hand.may.release(4)
    jobs = {name: queue.submit(name, REQUEST) for name in [*hand.fails, "good"]}
    wait(jobs["good"], "done")
    assert [jobs[name].state for name in hand.fails] == ["failed"] * 3
    assert jobs["ours"].error == "no memory\ntry less"
    for name in ("defect", "exit"):
        assert "terminal" in jobs[name].error and "secret" not in jobs[name].error
    assert "secret detail" in caplog.text


def test_errors_name_no_file_of_the_machine(queue: JobQueue, hand: Hand) -> None:
    hand.fails = {"a": InputError([Problem("no space", "sampler", "/home/somebody/studio")])}
    hand.may.release()
    job = queue.submit("a", REQUEST)
    wait(job, "failed")
    assert job.error == "sampler: no space"


def test_pages_see_their_own_jobs_only(queue: JobQueue) -> None:
    job = queue.submit("a", REQUEST)
    assert queue.find("a", job.key) is job and queue.of_session("a") == [job]
    assert queue.of_session("b") == []
    for session, key in (("b", job.key), ("a", "guessed"), ("", job.key)):
        with pytest.raises(InputError, match="no such job"):
            queue.find(session, key)
    assert len({queue.submit("a", REQUEST).key for _ in range(5)}) == 5


def test_a_page_may_have_so_many_waiting(queue: JobQueue, hand: Hand) -> None:
    first = queue.submit("a", REQUEST)
    wait(first, "drawing")
    waiting = [queue.submit("a", REQUEST) for _ in range(MOST_WAITING)]
    with pytest.raises(InputError, match=str(MOST_WAITING)):
        queue.submit("a", REQUEST)
    # Others are not concerned, and a cancelled one makes room.
    queue.submit("b", REQUEST)
    queue.cancel(waiting[0])
    queue.submit("a", REQUEST)


def test_so_many_finished_ones_are_kept(queue: JobQueue, hand: Hand) -> None:
    hand.may.release(MOST_KEPT + 5)
    jobs = []
    for _ in range(MOST_KEPT + 5):
        jobs.append(queue.submit("a", REQUEST))
        wait(jobs[-1], "done")
    last = queue.submit("a", REQUEST)
    assert queue.of_session("a") == [*jobs[-MOST_KEPT:], last]
    with pytest.raises(InputError):
        queue.find("a", jobs[0].key)


def test_closing_ends_all_and_waits(hand: Hand) -> None:
    queue = JobQueue(hand)
    first, second = (queue.submit("a", REQUEST) for _ in range(2))
    wait(first, "drawing")
    threading.Timer(0.1, hand.may.release).start()
    queue.close()
    assert first.state == "cancelled" and hand.drawn == [first.key] and second.state != "drawing"
    assert not any(thread.name == "studio-jobs" and thread.is_alive() for thread in threading.enumerate())
