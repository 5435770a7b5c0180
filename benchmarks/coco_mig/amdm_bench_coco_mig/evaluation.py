"""Judging all pictures of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from amdm_bench_coco_mig.benchmark_file import Entry
from amdm_bench_coco_mig.interfaces import Detector, Segmenter
from amdm_bench_coco_mig.judging import InstanceScore, judge_picture
from amdm_bench_coco_mig.pictures import find_pictures, read_picture
from amdm_framework.errors import InputError, Problem


@dataclass(frozen=True)
class Usable:
    """The pictures of a folder that can be judged.

    Attributes:
        folder: where they are.
        pictures: by key, in the order of the benchmark.
        missing: keys without a picture.
        unreadable: keys whose picture cannot be read.
    """

    folder: Path
    pictures: Mapping[str, Path]
    missing: tuple[str, ...]
    unreadable: tuple[str, ...]


def examine_folder(folder: Path, entries: Mapping[str, Entry], partial: bool) -> Usable:
    """Find and read every picture of a benchmark once, before networks are loaded.

    Args:
        folder: of the pictures.
        entries: of the benchmark.
        partial: whether a part of the pictures is enough.

    Raises:
        InputError: pictures are missing or cannot be read and `partial` is not set, or there are none at all.
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
        advice = "draw them with `amdm bench coco-mig generate --resume`, or score what is there with --partial"
        raise InputError([*problems, Problem(advice, file=str(folder))] if usable else problems)
    return Usable(folder, usable, tuple(missing), tuple(unreadable))


def judge_folder(
    usable: Usable, entries: Mapping[str, Entry], detector: Detector, segmenter: Segmenter, progress: bool = True
) -> dict[str, list[InstanceScore]]:
    """Judge every picture that can be judged; return the scores of its instances by key.

    Args:
        usable: what `examine_folder` returned.
        entries: of the benchmark.
        detector: finds things.
        segmenter: finds their pixels.
        progress: whether a progress bar is shown (never where standard error is no terminal).
    """
    bar = tqdm(usable.pictures.items(), desc=str(usable.folder), unit="picture", disable=None if progress else True)
    return {key: judge_picture(read_picture(path), entries[key].segment, detector, segmenter) for key, path in bar}
