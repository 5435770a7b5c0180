"""What a batch is asked for: one job per scene, from a file of scenes, a folder of them, or a COCO-MIG benchmark."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem
from ..scene import read_scene
from ..yaml_files import read_yaml
from .coco_mig import read_coco_mig
from .plain_json import parse_object

MAX_LINE_BYTES = 2**20
"""Longest line of a file of scenes; a longer one is a mistake (another kind of file)."""

MAX_SEED = 2**64 - 1

_NAME = re.compile(r"\w(?:[\w .+-]*[\w+-])?")
_MAX_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be drawn: plain data, for other processes and machines.

    Attributes:
        name: the picture's name without suffix; no other job has it.
        scene_json: the scene as it was written, `{}` where it cannot be drawn. Text, because a driver may hold a
            million of them.
        base_dir: the folder that the scene's pictures are relative to, absolute.
        seed: draws the picture.
        scene_hash: sha256 of the scene as it was written.
        error: why it cannot be drawn, empty where it can.
    """

    name: str
    scene_json: str
    base_dir: str
    seed: int
    scene_hash: str
    error: str = ""

    @property
    def scene(self) -> dict[str, Any]:
        """The scene as parsed content."""
        content: dict[str, Any] = json.loads(self.scene_json)
        return content

    @property
    def file(self) -> str:
        """Name of the picture's file."""
        return f"{self.name}.png"


def make_job(name: str, scene: dict[str, Any], base_dir: Path, seed: int | None = None, base_seed: int = 0) -> Job:
    """Return the job of a scene. One that is wrong gets the reason as its error.

    Args:
        name: of the picture, without suffix.
        scene: as it was written.
        base_dir: the folder that the scene's pictures are relative to.
        seed: of the picture [`seed_of(name, base_seed)`].
        base_seed: what seeds that are not given depend on beside the name.
    """
    try:
        read_scene(scene, base_dir)
        # The order of keys is part of a scene: it is the order in which models get the instances.
        text = json.dumps(scene, ensure_ascii=False, separators=(",", ":"))
        scene_hash = hashlib.sha256(text.encode()).hexdigest()
    except InputError as error:
        return _failed(name, one_line(error), base_dir, base_seed)
    except UnicodeEncodeError:
        return _failed(name, "a text of the scene holds half of a surrogate pair", base_dir, base_seed)
    except (TypeError, ValueError) as error:
        return _failed(name, f"the scene holds what JSON cannot: {error}", base_dir, base_seed)
    seed = seed_of(name, base_seed) if seed is None else seed
    return Job(name, text, str(base_dir.absolute()), seed, scene_hash)


def seed_of(name: str, base_seed: int) -> int:
    """Return the seed of a job that names none: the first four bytes of sha256(`BASE_SEED:NAME`).

    It depends on the name and not on the place in the list, so a list may grow and be reordered. 32 bits are a number
    that a person can copy.
    """
    return int.from_bytes(hashlib.sha256(f"{base_seed}:{name}".encode()).digest()[:4], "big")


def one_line(error: InputError) -> str:
    """Return all problems of an error in one line."""
    return "; ".join(" ".join(str(problem).split()) for problem in error.problems)


def read_jobs(source: Path, base_seed: int = 0) -> list[Job]:
    """Read all jobs of a source, in order. A scene that is wrong is a job with an error.

    Args:
        source: a `.jsonl` file with a scene per line, a folder of scene YAML files, or a COCO-MIG `.json` file.
        base_seed: what the seeds of jobs without one depend on beside their names.

    Raises:
        InputError: there is no such source, it holds no scenes, or two jobs have one name.
    """
    folder = (source if source.is_dir() else source.parent).absolute()
    if source.is_dir():
        jobs = [_job_of_file(path, folder, base_seed) for path in _scene_files(source)]
    elif source.suffix == ".jsonl":
        jobs = [_job_of_line(number, line, folder, base_seed) for number, line in _lines(source)]
    elif source.suffix == ".json":
        jobs = [
            _failed(entry.name, entry.error, folder, base_seed)
            if entry.error
            else make_job(entry.name, entry.scene, folder, None, base_seed)
            for entry in read_coco_mig(source)
        ]
    else:
        found = "no such file or folder" if not source.exists() else "is none of these"
        expected = (
            "expected a folder of scene YAML files, a .jsonl file with a scene per line, or a COCO-MIG .json file"
        )
        raise InputError([Problem(f"{found}: {expected}", file=str(source))])
    if not jobs:
        raise InputError([Problem("holds no scenes", file=str(source))])
    _refuse_equal_names(jobs, source)
    return jobs


def _scene_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror}", file=str(folder))]) from error


def _job_of_file(path: Path, folder: Path, base_seed: int) -> Job:
    if problem := _name_problem(path.stem):
        raise InputError([Problem(f"the file's name becomes the picture's: {problem}", file=str(path))])
    try:
        return make_job(path.stem, read_yaml(path), folder, None, base_seed)
    except InputError as error:
        return _failed(path.stem, one_line(error), folder, base_seed)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    message = f"line {number} is longer than {MAX_LINE_BYTES} bytes; expected one scene per line"
                    raise InputError([Problem(message, file=str(path))])
                if line.strip():
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError([Problem(f"line {number} cannot be read as text: {error}", file=str(path))]) from error
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=str(path))]) from None
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from error


def _job_of_line(number: int, line: str, folder: Path, base_seed: int) -> Job:
    name = f"{number:06}"
    try:
        scene = parse_object(line)
        if "name" in scene:
            given = scene.pop("name")
            problem = _name_problem(given) if isinstance(given, str) else f"name: expected text, found {given!r:.80}"
            if problem:
                raise InputError(problem)
            name = given
        seed = scene.pop("seed", None)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED):
            raise InputError(f"seed: expected a whole number from 0 to {MAX_SEED}, found {seed!r:.80}")
    except InputError as error:
        return _failed(name, f"line {number}: {one_line(error)}", folder, base_seed)
    job = make_job(name, scene, folder, seed, base_seed)
    return replace(job, error=f"line {number}: {job.error}") if job.error else job


def _failed(name: str, error: str, base_dir: Path, base_seed: int) -> Job:
    # Hashed over the reason: another mistake in its place is another scene.
    digest = hashlib.sha256(error.encode(errors="surrogatepass")).hexdigest()
    return Job(name, "{}", str(base_dir.absolute()), seed_of(name, base_seed), digest, error)


def _name_problem(name: str) -> str:
    if _NAME.fullmatch(name) and len(name.encode()) <= _MAX_NAME_BYTES:
        return ""
    return (
        f"name: expected at most {_MAX_NAME_BYTES} bytes of letters, digits and any of '_ .+-' inside, for a file's "
        f"name, found {name!r:.80}"
    )


def _refuse_equal_names(jobs: list[Job], source: Path) -> None:
    # File systems may take two names for one that differ in case or in the composition of accents only.
    seen: dict[str, Job] = {}
    problems = []
    for job in jobs:
        first = seen.setdefault(unicodedata.normalize("NFC", job.name).casefold(), job)
        if first is not job:
            message = f"two scenes are named {first.name!r}"
            if first.name != job.name:
                message = f"scenes are named {first.name!r} and {job.name!r}, which some file systems take for one"
            problems.append(Problem(f"{message}: names must differ, they become files", file=str(source)))
    if problems:
        raise InputError(problems[:10])
