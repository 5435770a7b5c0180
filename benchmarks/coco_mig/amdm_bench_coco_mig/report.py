"""The figures of judged pictures, as plain data: per level and pooled, with intervals, beside the published ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amdm_bench_coco_mig.benchmark_file import LEVELS, PER_LEVEL, is_whole
from amdm_bench_coco_mig.evaluation import Usable
from amdm_bench_coco_mig.grounding_dino import BOX_THRESHOLD, TEXT_THRESHOLD
from amdm_bench_coco_mig.intervals import CONFIDENCE, RESAMPLES, interval_of_mean
from amdm_bench_coco_mig.judging import COLOR_FRACTION, DOUBLE_OVERLAP, OUTCOMES, POSITION_OVERLAP, InstanceScore
from amdm_bench_coco_mig.published import PUBLISHED
from amdm_framework.batch.coco_mig import Entry


def make_report(
    rows: Sequence[tuple[Usable, Mapping[str, Sequence[InstanceScore]]]],
    entries: Mapping[str, Entry],
    file: str,
    judges: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything that an evaluation found.

    Args:
        rows: of each folder its pictures and the scores of their instances, by key.
        entries: of the benchmark.
        file: the benchmark's file.
        judges: the references of detector and segmenter.
    """
    return {
        "benchmark": {
            "file": file,
            "entries": len(entries),
            "per_level": dict(sorted(Counter(f"L{entry.level}" for entry in entries.values()).items())),
            "whole": is_whole(list(entries.values())),
            "expected_per_level": PER_LEVEL,
        },
        "judges": dict(judges),
        "thresholds": {
            "box": BOX_THRESHOLD,
            "text": TEXT_THRESHOLD,
            "doubles": DOUBLE_OVERLAP,
            "position": POSITION_OVERLAP,
            "color": COLOR_FRACTION,
        },
        "intervals": {"method": "percentile bootstrap over pictures", "confidence": CONFIDENCE, "resamples": RESAMPLES},
        "rows": [_row(usable, scores, entries) for usable, scores in rows],
        "published": {name: dict(row) for name, row in PUBLISHED.items()},
    }


def _row(usable: Usable, scores: Mapping[str, Sequence[InstanceScore]], entries: Mapping[str, Entry]) -> dict[str, Any]:
    by_level = {level: [scores[key] for key in scores if entries[key].level == level] for level in LEVELS}
    outcomes = Counter(score.outcome for picture in scores.values() for score in picture)
    success = {level: _values(level, pictures, success=True) for level, pictures in by_level.items()}
    overlap = {level: _values(level, pictures, success=False) for level, pictures in by_level.items()}
    return {
        "name": str(usable.folder),
        "pictures": len(scores),
        "partial": bool(usable.missing or usable.unreadable),
        "missing": list(usable.missing),
        "unreadable": list(usable.unreadable),
        "success_rate": _columns(success),
        "mean_iou": _columns(overlap),
        "seconds": fmean(usable.seconds.values()) if usable.seconds else None,
        "timed_pictures": len(usable.seconds),
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "instances": {key: [asdict(score) for score in picture] for key, picture in scores.items()},
    }


def _values(level: int, pictures: Sequence[Sequence[InstanceScore]], success: bool) -> NDArray[np.float64]:
    values = [[float(one.outcome == "success") if success else one.iou for one in picture] for picture in pictures]
    return np.array(values, dtype=np.float64).reshape(len(pictures), level)


def _columns(levels: Mapping[int, NDArray[np.float64]]) -> dict[str, Any]:
    columns = {f"L{level}": _figure([values]) for level, values in levels.items()}
    # Over all instances, not over the five levels: the published averages come out in no other way.
    return {**columns, "Avg": _figure(list(levels.values()))}


def _figure(levels: Sequence[NDArray[np.float64]]) -> dict[str, Any] | None:
    count = sum(values.size for values in levels)
    if not count:
        return None
    interval = interval_of_mean(levels)
    total = float(sum(values.sum() for values in levels))
    return {
        "percent": 100 * total / count,
        "interval": None if interval is None else [100 * end for end in interval],
        "instances": count,
    }
