"""Drawing and scoring variants one after the other; one that fails does not take the others with it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..benchmark import Benchmark, BenchmarkCase
from ..errors import AMDMError
from ..scene import Scene
from .drawing import Laboratory
from .figures import Figures, mean_figures
from .variants import CheckedVariant

INTERRUPTED = "interrupted"
"""The error of variants that were not drawn because the experiment was interrupted."""


@dataclass(frozen=True)
class Benchmarking:
    """The cases of a benchmark that every variant draws.

    Attributes:
        benchmark: scores them.
        cases: what is drawn.
        batch_size: pictures that are drawn at once.
    """

    benchmark: Benchmark
    cases: Sequence[BenchmarkCase]
    batch_size: int


@dataclass(frozen=True)
class Plan:
    """What every variant draws: a scene, the cases of a benchmark, or both.

    Attributes:
        scene: drawn once with every seed, all of them at once.
        seeds: of the scene's pictures.
        benchmarking: a benchmark; None for none.
        shown_cases: without a scene, how many of the benchmark's first cases are kept as pictures.
    """

    scene: Scene | None
    seeds: Sequence[int]
    benchmarking: Benchmarking | None = None
    shown_cases: int = 4

    @property
    def shown(self) -> list[tuple[Scene, int]]:
        """The scenes, with their seeds, whose pictures are shown."""
        if self.scene is not None:
            return [(self.scene, seed) for seed in self.seeds]
        cases = [] if self.benchmarking is None else self.benchmarking.cases[: self.shown_cases]
        return [(case.scene, case.seed) for case in cases]

    @property
    def scenes(self) -> list[Scene]:
        """All that is drawn, each scene once."""
        cases = [] if self.benchmarking is None else [case.scene for case in self.benchmarking.cases]
        return [*([] if self.scene is None else [self.scene]), *cases]

    @property
    def pictures(self) -> int:
        """Number of pictures of one variant."""
        cases = 0 if self.benchmarking is None else len(self.benchmarking.cases)
        return cases + (0 if self.scene is None else len(self.seeds))

    @property
    def batches(self) -> int:
        """Number of batches of one variant."""
        batches = 0 if self.scene is None else 1
        if self.benchmarking is not None:
            batches += -(-len(self.benchmarking.cases) // self.benchmarking.batch_size)
        return batches


@dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    Attributes:
        checked: the variant.
        pictures: those that are shown, in the order of `Plan.shown`; empty where it failed.
        figures: of these pictures.
        benchmark_figures: the means over the benchmark's cases; None without a benchmark.
        scores: of the benchmark, by the name of its figure.
        warnings: what the runs had to say.
        error: why it failed, else None.
        trace: the traceback of its failure.
    """

    checked: CheckedVariant
    pictures: Sequence[Image.Image] = ()
    figures: Sequence[Figures] = ()
    benchmark_figures: Figures | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    error: str | None = None
    trace: str = ""


def run_experiment(
    laboratory: Laboratory,
    variants: Sequence[CheckedVariant],
    plan: Plan,
    on_step: Callable[[], object] = lambda: None,
    on_variant: Callable[[CheckedVariant], object] = lambda variant: None,
) -> list[Outcome]:
    """Draw all variants.

    Args:
        laboratory: holds the models.
        variants: what to draw with.
        plan: what to draw.
        on_step: called after every step of every batch.
        on_variant: called before each variant.

    Returns:
        One outcome per variant. After an interruption, those that were not yet drawn have `INTERRUPTED` as their error.

    Raises:
        Exception: all of them failed; it is that of the first, an `AMDMError` unless a plugin raised something else.
        KeyboardInterrupt: it was interrupted before any of them was drawn.
    """
    outcomes: list[Outcome] = []
    first_error: Exception | None = None
    for position, checked in enumerate(variants):
        try:
            on_variant(checked)
            # Before this one is loaded: members that only variants before it had make room.
            laboratory.keep([later.resolved for later in variants[position:]])
            outcomes.append(_draw(laboratory, checked, plan, on_step))
        except Exception as error:
            # Plugins raise anything.
            first_error = first_error or error
            reason = str(error) if isinstance(error, AMDMError) else f"{type(error).__name__}: {error}"
            outcomes.append(Outcome(checked, error=" ".join(reason.split()), trace=traceback.format_exc()))
        except KeyboardInterrupt:
            if all(outcome.error for outcome in outcomes):
                raise
            return [*outcomes, *(Outcome(later, error=INTERRUPTED) for later in variants[position:])]
    if first_error is not None and all(outcome.error for outcome in outcomes):
        raise first_error
    return outcomes


def _draw(laboratory: Laboratory, checked: CheckedVariant, plan: Plan, on_step: Callable[[], object]) -> Outcome:
    shown = drawn = None
    scores: dict[str, float | None] = {}
    if plan.scene is not None:
        shown = laboratory.draw(
            checked.resolved, [plan.scene] * len(plan.seeds), plan.seeds, batch_size=None, on_step=on_step
        )
    if plan.benchmarking is not None:
        cases = plan.benchmarking.cases
        drawn, pictures = laboratory.draw_cases(checked.resolved, cases, plan.benchmarking.batch_size, on_step)
        scores = plan.benchmarking.benchmark.measure(pictures, cases)
    first = shown or drawn
    assert first is not None
    count = len(plan.shown)
    return Outcome(
        checked,
        first.pictures[:count],
        first.figures[:count],
        None if drawn is None else mean_figures(drawn.figures),
        scores,
        list(dict.fromkeys([*first.warnings, *(drawn.warnings if drawn is not None else ())])),
    )


def mean_difference(picture: Image.Image, other: Image.Image) -> float | None:
    """Return the mean absolute difference of two pictures' channels, from 0 to 255; None where their sizes differ."""
    if picture.size != other.size:
        return None
    first, second = (np.asarray(one.convert("RGB")).astype(np.int16) for one in (picture, other))
    return float(np.abs(first - second).mean())
