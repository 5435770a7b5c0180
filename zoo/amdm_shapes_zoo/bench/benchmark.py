"""The benchmark `shapes`, as commands of the framework take it: `amdm tune COMPOSITION --benchmark shapes`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amdm_framework.benchmark import Benchmark, BenchmarkCase
from amdm_shapes_zoo.bench.figures import figures
from amdm_shapes_zoo.bench.scenes import sample_bench_scenes
from amdm_shapes_zoo.judge import judge
from amdm_shapes_zoo.world import Layouts

FIGURES = {
    "isr": "instances with the right colour at their place",
    "miou": "how well instances fill their boxes; 0 where the colour is wrong",
    "shape": "instances with the right shape",
    "action": "scenes with the right interaction, of those that ask for one",
    "style": "scenes with the background of the reference picture",
    "score": "mean of isr, action and style, of those that the scenes ask for",
}

IN_SCORE = ("isr", "action", "style")
"""One figure for what each of the three models is there for, so that no model is worth more than another."""


def cases(count: int, seed: int) -> list[BenchmarkCase]:
    """Development scenes of a seed of `amdm bench shapes`, levels in turn: a multiple of 8 is balanced in everything.

    Raises:
        InputError: a seed that is too large.
    """
    bench = sample_bench_scenes(count, seed, held_out=False)
    return [
        BenchmarkCase(scene, noise_seed, bench.layouts.single(index))
        for index, (scene, noise_seed) in enumerate(zip(bench.scenes(), bench.seeds, strict=True))
    ]


def score(pictures: NDArray[np.uint8], judged: Sequence[BenchmarkCase]) -> dict[str, float | None]:
    """Every figure of pictures (N, H, W, 3) in 0..255 of N cases, in percent."""
    layouts = Layouts.concatenate([case.truth for case in judged])
    found = figures(judge(pictures, layouts), layouts.counts())
    scored = {name: found[name] for name in FIGURES if name in found}
    asked = [scored[name] for name in IN_SCORE if scored[name] is not None]
    return {**scored, "score": round(sum(asked) / len(asked), 2) if asked else None}


BENCHMARK = Benchmark(
    name="shapes",
    summary="Coloured shapes with interactions and a style reference, read by an exact judge.",
    objective="score",
    figures=FIGURES,
    cases=cases,
    score=score,
)
