"""How long pictures took to draw, kept beside them: known after an interruption, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amdm_framework.batch.engine import Engine, Results
from amdm_framework.batch.jobs import Job
from amdm_framework.errors import InputError, Problem

FILE_NAME = "drawing_times.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    picture: str
    seconds: float = Field(ge=0)


class TimedEngine:
    """An engine that keeps the time of each picture.

    A picture's time is what passes until the engine has it, divided by the number of pictures that are drawn at once;
    with several workers, what passes between two results. A run's first result holds the loading of the models and is
    left out. Writing the picture does not count.

    Args:
        engine: draws.
        folder: of the pictures; whoever draws holds its ledger.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._path = folder / FILE_NAME

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        """See `Engine.run`.

        Raises:
            InputError: the times cannot be written.
        """
        with closing(self._engine.run(groups)) as results:
            for result in results:
                yield result
                break
            began = time.perf_counter()
            for group, drawn in results:
                seconds = time.perf_counter() - began
                pictures = [f"{one.name}.png" for one in drawn if one.png is not None]
                self._keep([_Line(picture=name, seconds=seconds / len(pictures)) for name in pictures])
                yield group, drawn
                began = time.perf_counter()

    def _keep(self, lines: Sequence[_Line]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(line.model_dump_json().encode() + b"\n" for line in lines))
        except OSError as error:
            raise InputError(
                [Problem(f"cannot be written: {error.strerror or error}", file=str(self._path))]
            ) from error


def read_times(folder: Path) -> dict[str, float]:
    """Return the seconds that pictures of a folder took, by the names of their files; none where nobody measured.

    Of two times of a picture the later one counts; a line that cannot be read does not.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / FILE_NAME
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror or error}", file=str(path))]) from error
    times = {}
    for line in content.splitlines():
        with contextlib.suppress(ValidationError):
            read = _Line.model_validate_json(line)
            times[read.picture] = read.seconds
    return times
