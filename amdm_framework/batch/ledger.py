"""The ledger of a batch: an append-only file with one line per job, beside the pictures it tells about."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, Problem
from ..record import Device, Dtype, Sha256
from ..yaml_files import problems_of
from .jobs import MAX_SEED, Job
from .plain_json import parse_object

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEDGER_NAME = "ledger.jsonl"

MAX_LINE_BYTES = 2**20
MAX_ERROR_LENGTH = 4000

_BEGINNING = b'{"format": 1, '


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Header(_Line):
    """What all pictures drawn after it have in common.

    Attributes:
        format: version of this layout.
        composition: digest of the composition after overrides and of the local files it names.
        device: kind of device the networks run on.
        dtype: what they compute in.
        batch_size: jobs per batch.
        versions: of this framework, the libraries below it, and the plugins that take part.
    """

    format: Literal[1] = 1
    composition: Sha256
    device: Device
    dtype: Dtype
    batch_size: int = Field(ge=1)
    versions: dict[str, str]


class Entry(_Line):
    """What became of one job.

    Attributes:
        name: the job's.
        scene: digest of its scene.
        seed: the picture's.
        state: what became of it.
        file: name of the picture in the ledger's folder.
        error: why there is none.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/\\\x00]+$")]
    scene: Sha256
    seed: int = Field(ge=0, le=MAX_SEED)
    state: Literal["done", "failed"]
    file: str | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _file_or_error(self) -> Self:
        if self.state == "done" and (self.file != f"{self.name}.png" or self.error is not None):
            raise ValueError(f"a job that is done has the file {self.name}.png and no error")
        if self.state == "failed" and (self.file is not None or not self.error):
            raise ValueError("a job that failed has an error and no file")
        return self

    @classmethod
    def of(cls, job: Job, error: str | None = None) -> Self:
        """Return the entry of a job that is done, or that failed with an error."""
        state: Literal["done", "failed"] = "done" if error is None else "failed"
        file = job.file if error is None else None
        shortened = None if error is None else error[:MAX_ERROR_LENGTH] or "unknown"
        return cls(name=job.name, scene=job.scene_hash, seed=job.seed, state=state, file=file, error=shortened)

    def is_of(self, job: Job) -> bool:
        """Return whether this is about the job as it is now, not about another scene or seed of its name."""
        return (self.name, self.scene, self.seed) == (job.name, job.scene_hash, job.seed)


class Ledger:
    """An open ledger, locked for this process until it is closed.

    The last header and the last entry of a name count. A last line that was torn by the death of its writer is cut
    off.

    Args:
        folder: of the pictures; it exists.

    Attributes:
        header: of the latest run, None in a new ledger.
        entries: the latest one of every name.

    Raises:
        InputError: another process has it open, it cannot be written, or a line is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_NAME
        self.header: Header | None = None
        self.entries: dict[str, Entry] = {}
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666
            )
        except OSError as error:
            raise self._problem(f"cannot be opened for writing: {error.strerror}") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and its lock."""
        os.close(self._descriptor)

    def begin(self, header: Header) -> None:
        """Write a header; entries written after it belong to it.

        Raises:
            InputError: the disk is full or failed.
        """
        self._append(header)
        self.header = header

    def record(self, entry: Entry) -> None:
        """Write what became of a job; when this returns it is on the disk.

        Raises:
            InputError: the disk is full or failed.
        """
        self._append(entry)
        self.entries[entry.name] = entry

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._problem("another `amdm batch` is writing to this folder; wait for it or end it") from error

    def _read(self) -> None:
        try:
            with open(self._descriptor, "rb", closefd=False) as file:
                number = whole = 0
                while line := file.readline(MAX_LINE_BYTES + 1):
                    number += 1
                    if not line.endswith(b"\n"):
                        self._finish(line, number, whole)
                        return
                    self._take(line, number)
                    whole += len(line)
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}") from error

    def _finish(self, line: bytes, number: int, whole: int) -> None:
        # A line without its end was torn, unless nothing but the end is missing (an editor may have dropped it).
        try:
            self._take(line, number)
        except InputError:
            begins_like_ours = line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
            if len(line) > MAX_LINE_BYTES or (number == 1 and not begins_like_ours):
                raise
            os.ftruncate(self._descriptor, whole)
        else:
            os.write(self._descriptor, b"\n")

    def _take(self, line: bytes, number: int) -> None:
        content = _parse(line, number, self.path, first=self.header is None)
        if isinstance(content, Header):
            self.header = content
        else:
            self.entries[content.name] = content

    def _append(self, line: _Line) -> None:
        data = json.dumps(line.model_dump(mode="json", exclude_none=True)).encode() + b"\n"
        try:
            size = os.fstat(self._descriptor).st_size
            # One call, so that another reader sees the whole line; a short count means that the disk is full.
            if os.write(self._descriptor, data) < len(data):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._problem(f"cannot be written: {error.strerror}") from error

    def _problem(self, message: str) -> InputError:
        return InputError([Problem(message, file=str(self.path))])


def read_entries(folder: Path) -> list[Entry]:
    """Read what has become of the jobs of a batch so far, whether it is being drawn or not.

    Returns:
        The latest entry of every name, in the order in which the names first appeared.

    Raises:
        InputError: there is no ledger in the folder, or a line of it is damaged.
    """
    path = folder / LEDGER_NAME
    entries: dict[str, Entry] = {}
    try:
        with path.open("rb") as file:
            number = 0
            # A last line without its end is being written, or was torn.
            while (line := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n"):
                number += 1
                content = _parse(line, number, path, first=number == 1)
                if isinstance(content, Entry):
                    entries[content.name] = content
    except FileNotFoundError:
        raise InputError([Problem(f"there is no {LEDGER_NAME} in it, expected the folder of `amdm batch --output`",
                                  file=str(folder))]) from None  # fmt: skip
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from error
    if len(line) > MAX_LINE_BYTES:
        raise InputError([Problem(f"line {number + 1} is damaged: longer than {MAX_LINE_BYTES} bytes", file=str(path))])
    return list(entries.values())


def _parse(line: bytes, number: int, path: Path, first: bool) -> Header | Entry:
    try:
        content = parse_object(line)
        return (Header if first or "format" in content else Entry).model_validate_json(line)
    except ValidationError as error:
        model = Header if error.title == "Header" else Entry
        message = "; ".join(str(problem) for problem in problems_of(error, model))
        raise InputError([Problem(f"line {number} is damaged: {message}", file=str(path))]) from error
    except InputError as error:
        raise InputError([Problem(f"line {number} is damaged: {error}", file=str(path))]) from error
