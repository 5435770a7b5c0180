"""The figures of variants as lines of a table, and the table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO

from ..content_keys import value_at
from .experiment import Outcome, Plan, mean_difference
from .search_space import key_of
from .variants import Source, Variant

Value = str | int | float | None
Line = dict[str, Value]

DIFFERENCE = "mean_difference"


def lines_of(outcomes: Sequence[Outcome], plan: Plan, source: Source, whole: Outcome | None = None) -> list[Line]:
    """Return a line for every variant and seed; for every variant, where only a benchmark was drawn.

    Args:
        outcomes: of all variants.
        plan: what they drew.
        source: what they are variants of.
        whole: the variant that the others are compared with, pixel by pixel.
    """
    lines: list[Line] = []
    for outcome in outcomes:
        variant = outcome.checked.variant
        begin: Line = dict(variant.settings) or {"variant": variant.label}
        begin |= _overrides(source, variant)
        end: Line = {}
        if plan.benchmarking is not None:
            benchmark = plan.benchmarking.benchmark
            end = {f"{benchmark.name}_{figure}": outcome.scores.get(figure) for figure in benchmark.figures}
        if plan.scene is None:
            figures = outcome.benchmark_figures
            lines.append(begin | (asdict(figures) if figures else {}) | end | {"error": outcome.error})
            continue
        for position, seed in enumerate(plan.seeds):
            line: Line = begin | {"seed": seed}
            if not outcome.error:
                line |= asdict(outcome.figures[position])
            if whole is not None and not whole.error and not outcome.error:
                line[DIFFERENCE] = mean_difference(outcome.pictures[position], whole.pictures[position])
            lines.append(line | end | {"error": outcome.error})
    return lines


def _overrides(source: Source, variant: Variant) -> dict[str, str]:
    # Another strategy does not have the options of the composition's own, and another member other options.
    written = {key: value for key, _, value in (override.partition("=") for override in source.overrides)}
    return {
        key: value
        for key, value in written.items()
        if value_at(variant.content, key_of(key)) == value_at(source.content, key_of(key))
    }


def write_csv(lines: Sequence[Line], file: IO[bytes]) -> None:
    """Write lines as CSV in UTF-8; what a line has not stays empty."""
    # The longest first: a line of something that failed has fewer columns, and they keep their order.
    columns = dict.fromkeys(column for line in sorted(lines, key=len, reverse=True) for column in line)
    if not any(line.get("error") for line in lines):
        columns.pop("error", None)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow(
            {column: f"{value:.6g}" if isinstance(value, float) else value for column, value in line.items()}
        )
    file.write(text.getvalue().encode())
