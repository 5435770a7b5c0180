"""Judging all pictures of folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from amdm_bench_coco_mig.drawing_times import read_times
from amdm_bench_coco_mig.interfaces import Detector, Segmenter
from amdm_bench_coco_mig.judges import Judges
from amdm_bench_coco_mig.judging import InstanceScore, judge_picture
from amdm_bench_coco_mig.kept_scores import KeptScores
from amdm_bench_coco_mig.pictures import find_pictures, read_picture
from amdm_framework.batch.coco_mig import Entry
from amdm_framework.batch.ledger import Ledger
from amdm_framework.devices import is_out_of_memory
from amdm_framework.errors import AMDMError, InputError, Problem


@dataclass(frozen=True)
class Usable:
    """The pictures of a folder that can be judged.

    Attributes:
        folder: where they are.
        pictures: by key, in the order of the benchmark.
        missing: keys without a picture.
        unreadable: keys whose picture cannot be read.
        seconds: how long pictures took to draw, by key, where that is known.
    """

    folder: Path
    pictures: Mapping[str, Path]
    missing: tuple[str, ...]
    unreadable: tuple[str, ...]
    seconds: Mapping[str, float]


def examine_folder(folder: Path, entries: Mapping[str, Entry], partial: bool) -> Usable:
    """Find and read every picture of a benchmark once, before networks are loaded.

    Args:
        folder: of the pictures.
        entries: of the benchmark.
        partial: whether a part of the pictures is enough.

    Raises:
        InputError: pictures are missing or cannot be read and `partial` is not set, there are none at all, or the
            times of their drawing cannot be read.
    """
    found = find_pictures(folder, entries)
    usable, missing, unreadable, problems = {}, [], [], []
    for key in entries:
        if key not in found:
            missing.append(key)
            continue
        try:
            read_picture(found[key])
        except InputError as error:
            unreadable.append(key)
            problems += error.problems
        else:
            usable[key] = found[key]
    if missing:
        listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        message = f"{len(missing)} of {len(entries)} pictures are missing, those of the entries {listed}"
        problems.insert(0, Problem(message, file=str(folder)))
    if problems and not (partial and usable):
        advice = "remove what cannot be read and go on with the command that drew them, or score what is there with --partial"
        raise InputError([*problems, Problem(advice, file=str(folder))] if usable else problems)
    times = read_times(folder)
    seconds = {key: times[path.name] for key, path in usable.items() if path.name in times}
    return Usable(folder, usable, tuple(missing), tuple(unreadable), seconds)


def judge_folders(
    folders: Sequence[Usable], entries: Mapping[str, Entry], judges: Judges, progress: bool, keep: bool = False
) -> list[tuple[Usable, dict[str, list[InstanceScore]]]]:
    """Load the judges and judge all folders.

    Args:
        folders: what `examine_folder` returned.
        entries: of the benchmark.
        judges: who judges.
        progress: whether progress bars are shown.
        keep: whether the scores are kept in folders that batches were drawn into, and taken from there.

    Returns:
        The folders with the scores of their pictures, by key.

    Raises:
        CheckpointError: the judges are not there, are other models, or are damaged.
        AMDMError: the device has too little memory.
        InputError: another process works on a folder, or the scores cannot be written.
    """
    try:
        detector, segmenter = judges.load()
        if not keep:
            return [(one, judge_folder(one, entries, detector, segmenter, progress)) for one in folders]
        digest = judges.digest()
        rows = []
        for one in folders:
            # Its lock keeps others from drawing or judging here at the same time.
            with Ledger(one.folder):
                kept = KeptScores(one.folder, digest)
                rows.append((one, judge_folder(one, entries, detector, segmenter, progress, kept)))
        return rows
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise AMDMError("the device has too little memory to judge pictures: --device cpu takes longer") from error


def judge_folder(
    usable: Usable,
    entries: Mapping[str, Entry],
    detector: Detector,
    segmenter: Segmenter,
    progress: bool = True,
    kept: KeptScores | None = None,
) -> dict[str, list[InstanceScore]]:
    """Judge every picture that can be judged; return the scores of its instances by key.

    Args:
        usable: what `examine_folder` returned.
        entries: of the benchmark.
        detector: finds things.
        segmenter: finds their pixels.
        progress: whether a progress bar is shown (never where standard error is no terminal).
        kept: scores of before, to which new ones are added.
    """
    bar = tqdm(usable.pictures.items(), desc=str(usable.folder), unit="picture", disable=None if progress else True)
    judged = {}
    for key, path in bar:
        of = "" if kept is None else kept.of(path, entries[key])
        scores = None if kept is None else kept.find(of)
        if scores is None:
            scores = judge_picture(read_picture(path), entries[key].segment, detector, segmenter)
            if kept is not None:
                kept.keep(path, of, scores)
        judged[key] = scores
    return judged
