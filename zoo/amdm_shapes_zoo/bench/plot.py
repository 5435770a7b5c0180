"""Draws what a window's position and length do."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from amdm_framework.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = {"isr": "ISR, %", "action": "action, %", "style": "style, %"}


def require_matplotlib() -> None:
    """Check that plots can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            "--positions: the plot is drawn by matplotlib, which is not installed: pip install 'amdm-framework[plots]'"
        )


def plot_positions(report: Mapping[str, Any], file: IO[bytes]) -> None:
    """Draw a report as PNG: a row per figure, a column per aggregate, a line per rule and length of the window.

    Args:
        report: whose aggregated rows have windows with a first and a last step.
        file: where the PNG goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    alone = next(row for row in report["rows"] if row["window"] is None)
    aggregated = [row for row in report["rows"] if row["window"] is not None]
    labels = list(dict.fromkeys(row["label"] for row in aggregated))
    figure = Figure(figsize=(1 + 4.5 * len(labels), 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(FIGURES), len(labels), squeeze=False, sharex=True, sharey="row")
    for column, label in enumerate(labels):
        panels[0, column].set_title(label, fontsize=10)
        panels[-1, column].set_xlabel("first aggregated step (0 is the noisiest)")
        own = [row for row in aggregated if row["label"] == label]
        for place, (name, title) in enumerate(FIGURES.items()):
            panel: Axes = panels[place, column]
            for key in dict.fromkeys((row["rule"], _length(row)) for row in own):
                line = [row for row in own if (row["rule"], _length(row)) == key and row[name] is not None]
                starts, values = [row["window"][0] for row in line], [row[name] for row in line]
                panel.plot(starts, values, marker="o", markersize=3, label=f"{key[0]}, s = {key[1]}")
            if alone[name] is not None:
                panel.axhline(alone[name], color="gray", linestyle="--", linewidth=1, label=f"{alone['label']} alone")
            panel.set_ylim(-3, 103)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(alpha=0.3)
            if column == 0:
                panel.set_ylabel(title)
    panels[0, 0].legend(fontsize=7)
    figure.savefig(file, format="png", dpi=120)


def _length(row: Mapping[str, Any]) -> int:
    start, stop = row["window"]
    return int(stop - start)
