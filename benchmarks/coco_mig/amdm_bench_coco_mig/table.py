"""An evaluation as a table in the layout of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from amdm_bench_coco_mig.published import BENCHMARK_PAGE, PAPER

COLUMNS = ("L2", "L3", "L4", "L5", "L6", "Avg")
FIGURES = ("success_rate", "mean_iou")
_WIDTH = 6
_MARKS = {PAPER: "*", BENCHMARK_PAGE: "**"}


def table(report: Mapping[str, Any]) -> str:
    """Return the rows measured here with their intervals, then those that others published."""
    measured = [line for row in report["rows"] for line in _measured(row)]
    published = [
        (f"{name} {_MARKS[row['source']]}", _cells(row, lambda value: f"{value:.2f}"), _seconds(row))
        for name, row in report["published"].items()
    ]
    labels = max(len(label) for label, _, _ in [*measured, *published])
    side = (_WIDTH + 1) * len(COLUMNS)
    lines = [
        f"{'':{labels}} | {'Instance success rate (%)':^{side}} | {'mIoU score (%)':^{side}} | Time (s)",
        f"{'Method':{labels}} | {_side(COLUMNS)} | {_side(COLUMNS)} |",
    ]
    rule = "-" * len(lines[0])
    lines.append(rule)
    for group in (measured, published):
        for label, (success, overlap), seconds in group:
            lines.append(f"{label:{labels}} | {_side(success)} | {_side(overlap)} | {seconds:>8}".rstrip())
        lines.append(rule)
    return "\n".join([*lines, *_notes(report)])


def _measured(row: Mapping[str, Any]) -> list[tuple[str, list[list[str]], str]]:
    label = row["name"] + (f" (only {row['pictures']} pictures)" if row["partial"] else "")
    return [
        (label, _cells(row, lambda figure: f"{figure['percent']:.2f}"), _seconds(row)),
        ("  95 % interval, from", _cells(row, partial(_end, 0)), ""),
        ("  to", _cells(row, partial(_end, 1)), ""),
    ]


def _seconds(row: Mapping[str, Any]) -> str:
    return "-" if row["seconds"] is None else f"{row['seconds']:.2f}"


def _end(which: int, figure: Mapping[str, Any]) -> str:
    return "-" if figure["interval"] is None else f"{figure['interval'][which]:.2f}"


def _cells(row: Mapping[str, Any], text: Any) -> list[list[str]]:
    values = [[row[figure].get(column) for column in COLUMNS] for figure in FIGURES]
    return [["-" if value is None else text(value) for value in side] for side in values]


def _side(cells: Any) -> str:
    return "".join(f" {cell:>{_WIDTH}}" for cell in cells)


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = [
        f"*  not measured here: {PAPER}; one run, cut to two digits",
        f"** not measured here: {BENCHMARK_PAGE}",
        f"Judged by {report['judges']['detector']} and {report['judges']['segmenter']}.",
    ]
    if not report["benchmark"]["whole"]:
        counts = ", ".join(f"{count} of {level}" for level, count in report["benchmark"]["per_level"].items())
        notes.append(
            f"This is not the whole benchmark ({counts}; the published one has {report['benchmark']['expected_per_level']} "
            "of each level): the published figures do not compare."
        )
    if timed := [row for row in report["rows"] if row["timed_pictures"]]:
        counts = ", ".join(f"{row['timed_pictures']} of {row['pictures']} pictures in {row['name']}" for row in timed)
        notes.append(f"Time of a picture, where it was drawn, without the loading of the models: measured of {counts}.")
    for row in report["rows"]:
        if row["partial"]:
            notes.append(
                f"{row['name']}: scored on {row['pictures']} of {report['benchmark']['entries']} pictures; "
                f"{len(row['missing'])} are missing, {len(row['unreadable'])} cannot be read."
            )
    return notes
