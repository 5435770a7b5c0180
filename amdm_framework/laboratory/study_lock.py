"""One search at a time works on a study's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, Problem

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep a study to this process, by a file beside it that is gone at the end.

    Raises:
        InputError: another process has it, or nothing can be written beside it.
    """
    if fcntl is None:
        yield
        return
    # Not the database itself, which SQLite locks in its own way.
    path = file.with_name(f".{file.name}.lock")
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(
                [Problem(f"cannot write to this folder: {error.strerror}", "--study", str(file))]
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before removes it at the end: then another one stands there, or none.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError([Problem("another process works on this study", "--study", str(file))]) from error
        except FileNotFoundError:
            # Removed between the two looks.
            pass
        except OSError as error:
            # Some network file systems have no locks.
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise InputError([Problem(f"cannot be locked here: {error.strerror}", "--study", str(file))]) from error
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
