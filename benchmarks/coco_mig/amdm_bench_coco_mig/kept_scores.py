"""The scores of pictures, kept beside them: judging that was interrupted goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from amdm_bench_coco_mig.judging import InstanceScore
from amdm_framework.batch.coco_mig import Entry
from amdm_framework.errors import InputError, Problem
from amdm_framework.picture_files import interrupted_afterwards

FILE_NAME = "judgement.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    picture: str
    of: str
    scores: list[InstanceScore]


class KeptScores:
    """A file with a line for each picture that was judged.

    A line counts as long as the same judges would judge the same picture by the same entry. One that cannot be read
    does not count: its picture is judged again. Whoever has this open holds the folder's ledger.

    Args:
        folder: of the pictures.
        judges: digest of the judges.

    Raises:
        InputError: the file cannot be read or written.
    """

    def __init__(self, folder: Path, judges: str) -> None:
        self._path = folder / FILE_NAME
        self._judges = judges
        self._scores: dict[str, list[InstanceScore]] = {}
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            # A line without its end was torn by the death of its writer.
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(self._path, whole)
        except OSError as error:
            raise self._problem("cannot be used", error) from error
        for line in content[:whole].splitlines():
            with contextlib.suppress(ValidationError):
                read = _Line.model_validate_json(line)
                self._scores[read.of] = read.scores

    def of(self, picture: Path, entry: Entry) -> str:
        """Return a digest of a picture, what it should show, and the judges.

        Raises:
            InputError: the picture cannot be read.
        """
        try:
            contents = hashlib.sha256(picture.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError([Problem(f"cannot be read: {error.strerror or error}", file=str(picture))]) from error
        text = json.dumps([self._judges, entry.model_dump(mode="json"), contents])
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, of: str) -> list[InstanceScore] | None:
        """Return the scores that were kept under a digest."""
        return self._scores.get(of)

    def keep(self, picture: Path, of: str, scores: Sequence[InstanceScore]) -> None:
        """Keep the scores of a picture.

        Raises:
            InputError: the disk is full, or the folder cannot be written to any more.
        """
        content = {"picture": picture.name, "of": of, "scores": [asdict(score) for score in scores]}
        try:
            with interrupted_afterwards(), self._path.open("ab") as file:
                file.write(json.dumps(content).encode() + b"\n")
        except OSError as error:
            raise self._problem("cannot be written", error) from error

    def _problem(self, what: str, error: OSError) -> InputError:
        return InputError([Problem(f"{what}: {error.strerror or error}", file=str(self._path))])
