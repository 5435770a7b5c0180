"""Results on disk: folders checked beforehand, whole files or none, never over another file."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from .errors import InputError, Problem

KEPT_FREE_BYTES = 16 * 2**20
"""A disk is called full while this much is left: metadata, the file system and others need some."""


def check_folder(folder: Path) -> None:
    """Check that files can be written to a folder, or that it can be made, without leaving anything behind.

    Raises:
        InputError: it is not a folder, or cannot be written to.
    """
    # The nearest folder that exists decides about those still to be made.
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        message = "is a file, expected a folder to write to"
        if nearest != folder:
            message = f"cannot be made: {nearest} {message}"
        raise InputError([Problem(message, file=str(folder))])
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        if nearest == folder:
            raise _cannot("write to", folder, error) from error
        message = f"cannot be made (in {nearest}: {error.strerror or error})"
        raise InputError([Problem(message, file=str(folder))]) from error


def prepare_folder(folder: Path) -> None:
    """Make a folder where it is not there, and check that files can be written to it.

    Raises:
        InputError: it cannot be made or written to.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot("make", folder, error) from error
    check_folder(folder)


def require_space(folder: Path, count: int, height: int, width: int) -> None:
    """Check that the disk has room for pictures of a size, compressed badly.

    Raises:
        InputError: saying how much is needed and how much is left.
    """
    needed = count * (3 * height * width + 2**17) + KEPT_FREE_BYTES
    left = shutil.disk_usage(folder).free
    if left < needed:
        raise InputError(
            [Problem(f"no space: {needed / 2**20:.0f} MiB are needed on this disk, {left / 2**20:.0f} MiB are left",
                     file=str(folder))]
        )  # fmt: skip


def save_new(folder: Path, stem: str, suffix: str, write: Callable[[IO[bytes]], object]) -> Path:
    """Write a file under a name that is still free: `stem.png`, else `stem-2.png`, `stem-3.png` and so on.

    The file appears whole or not at all, whatever interrupts the writing.

    Args:
        folder: exists.
        stem: the name without suffix and number.
        suffix: with its dot.
        write: writes the contents.

    Returns:
        The file.

    Raises:
        InputError: the disk is full, or the folder cannot be written to any more.
    """
    with interrupted_afterwards():
        unfinished = _write_unfinished(folder / f"{stem}{suffix}", write)
        try:
            for number in itertools.count(1):
                path = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
                if take_name(unfinished, path):
                    return path
            raise AssertionError("unreachable")
        except OSError as error:
            raise _cannot("write", folder / f"{stem}{suffix}", error) from error
        finally:
            unfinished.unlink(missing_ok=True)


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file in the place of the one that may be there; whole, or not at all.

    Raises:
        InputError: the disk is full, or the folder cannot be written to any more.
    """
    with interrupted_afterwards():
        unfinished = _write_unfinished(path, write)
        try:
            os.replace(unfinished, path)
        except OSError as error:
            raise _cannot("write", path, error) from error
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let an interruption that comes meanwhile wait until the end; in the main thread, which is the one it reaches."""
    # Wherever Ctrl-C came while a file is written, there would be a line at which it leaves something behind.
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(signal.SIGINT, waiting[0])


def _write_unfinished(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    # Not tempfile: its files are private to their owner, and the result shall have the permissions of any new file.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            write(file)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot("write", path, error) from error
        raise
    return unfinished


def take_name(unfinished: Path, path: Path) -> bool:
    """Give a whole file its name, unless something has that name already; return whether it got it."""
    # A hard link refuses a name that is taken, even one that another process took just now; renaming does not.
    try:
        os.link(unfinished, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links.
        if path.exists():
            return False
        os.replace(unfinished, path)
    return True


def _cannot(what: str, path: Path, error: OSError) -> InputError:
    return InputError([Problem(f"cannot {what} this: {error.strerror or error}", file=str(path))])
