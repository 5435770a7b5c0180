"""The figures of a row from the judge's scores, in percent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amdm_shapes_zoo.bench.intervals import bootstrap_interval
from amdm_shapes_zoo.judge import Scores

WITH_INTERVAL = ("isr", "action", "style")


def figures(scores: Scores, levels: NDArray[np.int64]) -> dict[str, Any]:
    """Rates over all scenes, with intervals for some, and under `levels` those of each level.

    Rates of instances (`isr`, `miou`, `shape`) are pooled over instances, not averaged over scenes. None stands where
    nothing was asked for.

    Args:
        scores: of N pictures.
        levels: (N,) number of instances of each.
    """
    parts = _parts(scores)
    result: dict[str, Any] = {}
    for name, (values, counts) in parts.items():
        result[name] = _percent(values, counts)
        if name in WITH_INTERVAL:
            ends = bootstrap_interval(values, counts)
            result[f"{name}_interval"] = None if ends is None else [round(100 * end, 2) for end in ends]
    result["levels"] = {
        str(level): {
            name: _percent(values[levels == level], counts[levels == level]) for name, (values, counts) in parts.items()
        }
        for level in np.unique(levels).tolist()
    }
    return result


def _parts(scores: Scores) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    # By figure: what every scene contributes, out of how many.
    by_scene = {
        "isr": scores.colour,
        # An instance of the wrong colour is a miss, wherever it stands.
        "miou": np.where(scores.colour == 0, 0.0, scores.overlap),
        "shape": scores.shape,
        "action": scores.action[:, None],
        "style": scores.style[:, None],
    }
    return {
        name: (np.nansum(values, axis=1), np.isfinite(values).sum(axis=1).astype(float))
        for name, values in by_scene.items()
    }


def _percent(values: NDArray[np.float64], counts: NDArray[np.float64]) -> float | None:
    return round(100 * float(values.sum() / counts.sum()), 2) if counts.sum() else None
