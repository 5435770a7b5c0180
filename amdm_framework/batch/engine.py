"""What runs drawers: the one contract of the local and the Ray engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Protocol

from .drawing import Drawer, Drawn
from .jobs import Job

MakeDrawer = Callable[[], Drawer]
"""Loads a drawer where it is called; can be pickled: `functools.partial(Drawer, composition, base_dir, ...)`."""

Results = Generator[tuple[Sequence[Job], list[Drawn]], None, None]
"""Groups with what became of their jobs; closing it ends all workers."""

MAX_ATTEMPTS = 3
"""A group whose worker died this often is given up."""


class Engine(Protocol):
    """Draws groups of jobs, somewhere."""

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        """Yield every group once with what became of its jobs, in any order; closing the iterator ends all workers.

        Groups are taken as they are needed, not all at once. A group whose worker dies is drawn again by another one,
        and given up after `MAX_ATTEMPTS` times: its jobs then carry the reason as their error.

        Raises:
            AMDMError: the drawers cannot be loaded.
        """
        ...


def given_up(group: Sequence[Job], reason: str) -> list[Drawn]:
    """Return what became of a group whose workers died again and again."""
    return [
        Drawn(job.name, error=job.error or f"given up after {MAX_ATTEMPTS} attempts at its group: {reason}")
        for job in group
    ]
