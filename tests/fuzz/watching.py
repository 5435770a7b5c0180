"""A watch over one case: it may take neither more than 5 s nor more than 1 GiB of memory.

Offences are noticed while they happen, wherever the interpreter runs Python, and else when the case ends. Memory is
counted beyond what the process holds when the case begins. Address space is limited too, so that one request for far
more memory than any machine has fails on every machine alike.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 5.0
MEMORY_BYTES = 2**30

_ADDRESS_SPACE_BYTES = 8 * 2**30
_LOOK_EVERY_SECONDS = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class TookTooLong(BaseException):
    """A case ran for too long. Not an `Exception`, so that nobody takes it for an error of their own."""


class TookTooMuch(BaseException):
    """A case took too much memory."""


@contextmanager
def watched(seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Raise where what runs inside takes too much time or memory.

    Time is that of the processor, so that a busy machine does not count; sleeping is not a way out, since ten times
    the limit on the wall clock counts as well.

    Raises:
        TookTooLong: after more than `seconds`.
        TookTooMuch: with more than `memory_bytes`.
    """
    held = _held_bytes()
    _forget_peak()
    began, began_by_wall = time.process_time(), time.monotonic()

    def check(peak: int) -> None:
        taken, by_wall = time.process_time() - began, time.monotonic() - began_by_wall
        if taken > seconds or by_wall > 10 * seconds:
            raise TookTooLong(f"took {taken:.1f} s of the processor, {by_wall:.1f} s in all")
        if peak - held > memory_bytes:
            raise TookTooMuch(f"took {(peak - held) / 2**20:.0f} MiB")

    def look(number: int, frame: FrameType | None) -> None:
        check(_held_bytes())

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _address_space_bytes() + _ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY_SECONDS, _LOOK_EVERY_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    check(_peak_bytes())


def _held_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES


def _forget_peak() -> None:
    # The kernel's high-water mark of memory starts again from what is held now.
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
