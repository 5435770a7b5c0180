"""What the web server has received and nobody has looked at yet: it may not be much, nor stay for long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError

MAX_UPLOAD_BYTES = 20 * 2**20
"""Largest file that is taken from a page."""

MAX_INCOMING_BYTES = 10 * MAX_UPLOAD_BYTES
"""Largest sum of the files that wait to be looked at, and of those under way."""

KEPT_SECONDS = 600
"""A file that nobody has looked at for so long is removed when the next one comes; pages look at once."""


class IncomingFolder:
    """The folder in which uploads arrive, each in a folder of its own.

    Args:
        folder: exists.

    Attributes:
        folder: the same, without links.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @contextmanager
    def take(self, path: str) -> Iterator[Path]:
        """Give out a file that has just arrived; it is removed afterwards, whatever happens.

        Args:
            path: as the page says it.

        Raises:
            InputError: it is not in the folder for such files, or too large.
        """
        try:
            received = Path(path).resolve()
            usable = received.is_relative_to(self.folder) and received.is_file()
        except (OSError, RuntimeError, ValueError):
            usable = False
        if not usable:
            raise InputError("this is no file that was just uploaded")
        try:
            if received.stat().st_size > MAX_UPLOAD_BYTES:
                raise InputError(f"the file is larger than {MAX_UPLOAD_BYTES // 2**20} MiB")
            yield received
        finally:
            _remove(received, self.folder)

    def has_room(self, size: int) -> bool:
        """Say whether so many bytes may come, after what lies here for too long was removed."""
        held = 0
        # Not `rglob`: others take files and folders away meanwhile.
        for parent, _, names in os.walk(self.folder):
            for path in (Path(parent, name) for name in names):
                with suppress(OSError):
                    found = path.stat()
                    if time.time() - found.st_mtime > KEPT_SECONDS:
                        _remove(path, self.folder)
                    else:
                        held += found.st_size
        return held + size <= MAX_INCOMING_BYTES


def _remove(file: Path, folder: Path) -> None:
    file.unlink(missing_ok=True)
    # Of another upload of the same content something may still lie here.
    with suppress(OSError):
        if file.parent != folder:
            file.parent.rmdir()
