"""A benchmark: scenes to draw, and a judge of the pictures. Commands that compare compositions take one by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import PluginError
from .scene import Scene

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class BenchmarkCase:
    """One picture of a benchmark.

    Attributes:
        scene: what is drawn.
        seed: of the noise.
        truth: what the benchmark's `score` compares the picture with, whatever it needs; nobody else looks at it.
    """

    scene: Scene
    seed: int
    truth: Any = None


@dataclass(frozen=True)
class Benchmark:
    """What a plugin hands to `register_benchmarks`.

    Attributes:
        name: the word behind `--benchmark`.
        summary: one line.
        objective: the figure that stands for all of them where one number is asked for.
        figures: every figure's name, and what it means in one line.
        cases: (count, seed) -> `count` cases. Equal arguments give equal cases, fewer cases are the first of more, and
            cases of different seeds have no scene and no noise in common. Raises `InputError` for a seed it has not.
        score: (pictures, cases) -> every figure of the N `pictures`, a (N, H, W, 3) array in 0..255 in the order of
            `cases`: percent from 0 to 100, higher is better, None where no case asks for it. Call `measure` instead,
            which checks the answer.

    Raises:
        PluginError: with every field that is not as described here.
    """

    name: str
    summary: str
    objective: str
    figures: Mapping[str, str]
    cases: Callable[[int, int], Sequence[BenchmarkCase]]
    score: Callable[[NDArray[np.uint8], Sequence[BenchmarkCase]], Figures]

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            problems.append(f"name must be a lower-case word like 'my_scenes', found {self.name!r}")
        if not isinstance(self.summary, str) or not self.summary:
            problems.append(f"summary must be a text, found {self.summary!r}")
        described = isinstance(self.figures, Mapping) and self.figures
        if not described or not all(isinstance(text, str) and text for pair in self.figures.items() for text in pair):
            problems.append(f"figures must be one line of text for every figure's name, found {self.figures!r}")
        elif self.objective not in self.figures:
            problems.append(f"objective must be one of the figures {', '.join(self.figures)}, found {self.objective!r}")
        for attribute in ("cases", "score"):
            if not callable(getattr(self, attribute)):
                problems.append(f"{attribute} must be a function, found {getattr(self, attribute)!r}")
        if problems:
            raise PluginError(f"benchmark {self.name}: {'; '.join(problems)}")

    def draw_cases(self, count: int, seed: int) -> list[BenchmarkCase]:
        """Return `count` cases of a seed.

        Raises:
            InputError: the benchmark has no such seed.
            PluginError: it returned something else than `count` cases.
        """
        cases = list(self.cases(count, seed))
        if len(cases) != count or not all(isinstance(case, BenchmarkCase) for case in cases):
            raise PluginError(f"benchmark {self.name}: cases returned {len(cases)} values, expected {count} cases")
        return cases

    def measure(self, pictures: NDArray[np.uint8], cases: Sequence[BenchmarkCase]) -> dict[str, float | None]:
        """Return every figure of N pictures, in the order in which the benchmark names its figures.

        Args:
            pictures: (N, H, W, 3) in 0..255.
            cases: what they should show.

        Raises:
            PluginError: the benchmark left a figure out, or returned one that is no percentage.
        """
        found = self.score(pictures, cases)
        if found.keys() != self.figures.keys():
            raise PluginError(
                f"benchmark {self.name}: score returned {', '.join(found)}; expected {', '.join(self.figures)}"
            )
        measured: dict[str, float | None] = {}
        for name in self.figures:
            value = found[name]
            measured[name] = None if value is None else float(value)
            if value is not None and not (math.isfinite(value) and 0 <= value <= 100):
                raise PluginError(f"benchmark {self.name}: figure {name} is {value}, expected 0 to 100 or None")
        return measured
