"""The report as a table for people, laid out like the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LEFT = 2
"""Columns of text, at the left of those of numbers."""


def table(report: Mapping[str, Any]) -> str:
    """Lay out a report: a row per method, success by level, then everything else, and what it was measured on."""
    rows = report["rows"]
    levels = list(rows[0]["levels"])
    above = ["", "", *([""] * len(levels)), "", "95 %", "", "", "", "", "network", "seconds"]
    above[_LEFT] = "ISR"
    head = ["method", "rule", *(f"L{level}" for level in levels), "all", "interval", "mIoU", "shape", "action", "style"]
    cells = [above, [*head, "evaluations", "per picture"]]
    for row in rows:
        low, high = row["isr_interval"]
        cells.append(
            [
                row["label"],
                _rule(row),
                *(_number(row["levels"][level]["isr"]) for level in levels),
                _number(row["isr"]),
                f"{low:.1f}-{high:.1f}",
                *(_number(row[name]) for name in ("miou", "shape", "action", "style")),
                str(row["evaluations"]),
                f"{row['seconds']:.3f}",
            ]
        )
    kind = "held-out" if report["held_out"] else "development"
    return "\n".join(
        [
            *_aligned(cells),
            "",
            f"Percent of instances (ISR: right colour; mIoU; shape) and of scenes (action, style). {report['scenes']} "
            f"{kind} scenes of seed {report['seed']}, {report['steps']} steps.",
        ]
    )


def _rule(row: Mapping[str, Any]) -> str:
    window = row["window"]
    if window is None:
        return str(row["rule"])
    return f"{row['rule']} " + (f"s={window}" if isinstance(window, int) else f"{window[0]}..{window[1] - 1}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
