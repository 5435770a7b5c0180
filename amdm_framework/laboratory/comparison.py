"""How much better one composition is than another on the same cases of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..benchmark import Benchmark, BenchmarkCase
from ..composition import ResolvedComposition
from .drawing import Laboratory

GROUPS = 20
"""Cases are left out in this many groups at most, as each of them is one more look at all the others."""

FEWEST_CASES = 8
"""Fewer say nothing about chance."""


@dataclass(frozen=True)
class Measured:
    """What a composition reached on some cases.

    Attributes:
        figures: all figures of the benchmark.
        score: its objective.
        without: the objective with every group of cases left out in turn; None where none of the others asks for it.
    """

    figures: dict[str, float | None]
    score: float | None
    without: list[float | None]


@dataclass(frozen=True)
class Comparison:
    """Two compositions on the same cases.

    Attributes:
        cases: how many.
        seed: of the cases.
        start: what the first reached.
        best: what the second reached.
    """

    cases: int
    seed: int
    start: Measured
    best: Measured

    @property
    def difference(self) -> float | None:
        """How much better the second is."""
        return _difference(self.best.score, self.start.score)

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the difference: a jackknife over groups of cases, drawn alike by both.

        None for fewer than `FEWEST_CASES` cases, or where a group is all that asks for the objective.
        """
        differences = [_difference(*pair) for pair in zip(self.best.without, self.start.without, strict=True)]
        known = np.array([one for one in differences if one is not None])
        if self.cases < FEWEST_CASES or self.difference is None or len(known) < len(differences):
            return None
        count = len(known)
        error = math.sqrt((count - 1) / count * float(((known - known.mean()) ** 2).sum()))
        return self.difference - 1.96 * error, self.difference + 1.96 * error


def measure(
    laboratory: Laboratory,
    resolved: ResolvedComposition,
    benchmark: Benchmark,
    cases: Sequence[BenchmarkCase],
    batch_size: int,
) -> Measured:
    """Draw cases with a composition and measure them, all of them and all but some.

    Raises:
        AMDMError: as `Laboratory.draw`.
        PluginError: the benchmark cannot score the pictures.
    """
    _, pictures = laboratory.draw_cases(resolved, cases, batch_size)
    figures = benchmark.measure(pictures, cases)
    without = []
    if len(cases) >= FEWEST_CASES:
        for group in np.array_split(np.arange(len(cases)), min(GROUPS, len(cases))):
            others = [index for index in range(len(cases)) if index not in group]
            measured = benchmark.measure(pictures[others], [cases[index] for index in others])
            without.append(measured[benchmark.objective])
    return Measured(figures, figures[benchmark.objective], without)


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
