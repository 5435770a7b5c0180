"""Running a batch: what is left to do, drawn in groups that never change, written and entered into the ledger."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ..composition import ResolvedComposition
from ..errors import InputError, Problem
from ..metadata import composition_digest, versions_of
from ..models.context import load_contexts
from ..picture_files import check_folder, interrupted_afterwards, prepare_folder, take_name
from ..plugins import PluginRegistry
from ..record import Device, Dtype
from .engine import Engine
from .jobs import Job
from .ledger import LEDGER_NAME, Entry, Header, Ledger

_UNFINISHED = re.compile(r"\..+\.png\.part")


@dataclass
class BatchSummary:
    """What a run of a batch did.

    Attributes:
        files: the pictures it drew.
        failed: names of the jobs that failed, with their errors.
        skipped: how many jobs were done before.
        left: how many jobs lie beyond the limit.
        seconds: how long it took, loading included.
    """

    files: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    left: int = 0
    seconds: float = 0.0


def make_header(
    resolved: ResolvedComposition, device: str, dtype: str, batch_size: int, plugins: PluginRegistry
) -> Header:
    """Return what the ledger says about all pictures of a run.

    Raises:
        InputError: a device that is not here, or an option of the composition that it cannot do.
    """
    target = load_contexts(resolved, plugins, device, dtype)[0]
    versions = versions_of(resolved, plugins)
    return Header(
        composition=composition_digest(resolved),
        device=cast(Device, target.device.type),
        dtype=cast(Dtype, str(target.dtype).removeprefix("torch.")),
        batch_size=batch_size,
        versions=versions,
    )


def check_batch(
    jobs: Sequence[Job], folder: Path, header: Header, *, resume: bool = False, force: bool = False
) -> None:
    """Check what `run_batch` would refuse of a folder, long before it runs. Nothing is left behind.

    Args:
        jobs: and all that follows: as for `run_batch`.

    Raises:
        InputError: the folder or its ledger cannot be used.
    """
    check_folder(folder)
    present = set(os.listdir(folder)) if folder.exists() else set()
    entries: Mapping[str, Entry] = {}
    if LEDGER_NAME in present:
        # Versions that differ are told when the batch runs.
        with Ledger(folder) as ledger, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_ledger(ledger, jobs, header, resume, force)
            entries = ledger.entries
    pending = [job for job in jobs if not _is_done(job, entries, present)]
    _refuse_foreign_files(pending, entries, present, folder)


def run_batch(
    jobs: Sequence[Job],
    engine: Engine,
    folder: Path,
    header: Header,
    *,
    resume: bool = False,
    force: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> BatchSummary:
    """Draw what is not done yet, and return what was done.

    Groups are consecutive jobs of the whole list, `header.batch_size` of them. A group of which a part is missing is
    drawn again as a whole, and the missing part is written: a picture's last bits depend on the batch it is drawn in.
    So an interrupted run that is resumed ends with the same files as one that was not.

    Args:
        jobs: all of them, in order.
        engine: draws groups.
        folder: for the pictures and the ledger; made where it is not there.
        header: of `make_header`.
        resume: go on with the ledger that is there.
        force: go on even where it was begun with other settings or scenes; pictures of other scenes are replaced.
        limit: stop after so many jobs of the list.
        progress: whether a progress bar is shown (never where standard error is no terminal).

    Raises:
        InputError: the folder or its ledger cannot be used, or the disk is full.
        AMDMError: the models cannot be loaded.
    """
    began = time.perf_counter()
    prepare_folder(folder)
    with Ledger(folder) as ledger:
        present = set(os.listdir(folder))
        _check_ledger(ledger, jobs, header, resume, force)
        asked = jobs if limit is None else jobs[:limit]
        pending = [job for job in asked if not _is_done(job, ledger.entries, present)]
        _refuse_foreign_files(pending, ledger.entries, present, folder)
        for name in present:
            if _UNFINISHED.fullmatch(name):
                (folder / name).unlink()
        if ledger.header != header:
            ledger.begin(header)
        summary = BatchSummary(skipped=len(asked) - len(pending), left=len(jobs) - len(asked))
        with tqdm(total=len(pending), unit="picture", disable=None if progress else True) as bar:
            for job in pending:
                if job.error:
                    _remove_replaced(job, folder, ledger)
                    _fail(job, job.error, ledger, summary)
                    bar.update()
            waiting = {job.name for job in pending if not job.error}
            groups = list(_groups(jobs, waiting, header.batch_size))
            if groups:
                with closing(engine.run(groups)) as results:
                    for group, drawn in results:
                        for job, picture in zip(group, drawn, strict=True):
                            if job.name not in waiting:
                                continue
                            waiting.remove(job.name)
                            if picture.png is None:
                                _remove_replaced(job, folder, ledger)
                                _fail(job, picture.error or "unknown", ledger, summary)
                            else:
                                with interrupted_afterwards():
                                    _keep(job, picture.png, folder, ledger, summary)
                            bar.update()
    summary.seconds = time.perf_counter() - began
    return summary


def _groups(jobs: Sequence[Job], waiting: set[str], size: int) -> Iterator[list[Job]]:
    for start in range(0, len(jobs), size):
        group = [job for job in jobs[start : start + size] if not job.error]
        if any(job.name in waiting for job in group):
            yield group


def _check_ledger(ledger: Ledger, jobs: Sequence[Job], header: Header, resume: bool, force: bool) -> None:
    begun = ledger.header
    if begun is None:
        return
    if not resume:
        raise InputError(
            [Problem("there is a batch in this folder already: --resume goes on with it, or choose another --output",
                     file=str(ledger.path))]
        )  # fmt: skip
    for package in sorted({*begun.versions, *header.versions}):
        then, now = begun.versions.get(package, "none"), header.versions.get(package, "none")
        if then != now:
            warnings.warn(f"this batch was begun with {package} {then}, here is {now}: pictures may differ slightly",
                          stacklevel=3)  # fmt: skip
    if force:
        return
    differences = [
        f"{name}: found {getattr(header, key)}, the batch was begun with {getattr(begun, key)}"
        for key, name in (("device", "device"), ("dtype", "dtype"), ("batch_size", "batch size"))
        if getattr(header, key) != getattr(begun, key)
    ]
    if header.composition != begun.composition:
        differences.append(
            "the composition, or a local file that it names, is not the one that the batch was begun with"
        )
    entries = ((job, ledger.entries.get(job.name)) for job in jobs)
    changed = [job.name for job, entry in entries if entry and entry.state == "done" and not entry.is_of(job)]
    if changed:
        names = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        differences.append(f"{len(changed)} pictures were drawn of other scenes or seeds: {names}")
    if differences:
        advice = "--force goes on all the same: it keeps the pictures drawn before, but draws changed scenes again"
        raise InputError([Problem(text, file=str(ledger.path)) for text in (*differences, advice)])


def _is_done(job: Job, entries: Mapping[str, Entry], present: set[str]) -> bool:
    entry = entries.get(job.name)
    return entry is not None and entry.state == "done" and entry.is_of(job) and job.file in present


def _is_ours(job: Job, entries: Mapping[str, Entry]) -> bool:
    entry = entries.get(job.name)
    return entry is not None and entry.state == "done"


def _refuse_foreign_files(
    pending: Sequence[Job], entries: Mapping[str, Entry], present: set[str], folder: Path
) -> None:
    foreign = [job.file for job in pending if job.file in present and not _is_ours(job, entries)]
    if foreign:
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        message = f"there are files that this batch did not draw and would overwrite: {names}; move them, or choose "
        raise InputError([Problem(f"{message}another --output", file=str(folder))])


def _fail(job: Job, error: str, ledger: Ledger, summary: BatchSummary) -> None:
    entry = Entry.of(job, error)
    if ledger.entries.get(job.name) != entry:
        ledger.record(entry)
    summary.failed[job.name] = error


def _remove_replaced(job: Job, folder: Path, ledger: Ledger) -> None:
    # The picture of another scene or seed of this name. Before the entry is written: afterwards nothing would claim it.
    if _is_ours(job, ledger.entries):
        path = folder / job.file
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError([Problem(f"cannot be removed: {error.strerror or error}", file=str(path))]) from error


def _keep(job: Job, png: bytes, folder: Path, ledger: Ledger, summary: BatchSummary) -> None:
    # First the whole picture under another name, then the entry, then the name. Killed in between, there is an entry
    # without a file, and the job counts as not done; never a picture that no entry claims, which could be anybody's.
    path = folder / job.file
    unfinished = folder / f".{job.file}.part"
    taken = f"{job.file}: there is a file of this name that this batch did not draw"
    try:
        with unfinished.open("wb") as file:
            file.write(png)
            file.flush()
            os.fsync(file.fileno())
        _remove_replaced(job, folder, ledger)
        if os.path.lexists(path):
            _fail(job, taken, ledger, summary)
            return
        ledger.record(Entry.of(job))
        if take_name(unfinished, path):
            summary.files.append(path)
        else:
            _fail(job, taken, ledger, summary)
    except OSError as error:
        raise InputError([Problem(f"cannot be written: {error.strerror or error}", file=str(path))]) from error
    finally:
        unfinished.unlink(missing_ok=True)
