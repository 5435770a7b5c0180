"""The trace of one picture: as plain data, and drawn for a person to read."""

from __future__ import annotations

from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

from .errors import InputError
from .sampling.trace import Trace, TraceRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {
    "distance_to_mean": "distance to the member's mean\n(latent units)",
    "step_over_distance": "manifold step over that distance\n(above 1 it overshoots)",
    "cosine": "cosine with the target's sample",
    "norm_ratio": "norm of the aggregate over $\\sqrt{n}$",
}


def require_matplotlib() -> None:
    """Check that plots can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            "the plot of a trace is drawn by matplotlib, which is not installed: pip install 'amdm-framework[plots]'"
        )


def trace_of_picture(trace: Trace, image: int) -> Trace:
    """Return the trace with the figures of one image of the batch alone."""
    return Trace(
        [
            TraceRow(
                row.index,
                row.timestep,
                row.provider,
                row.name,
                row.evaluated,
                row.seconds,
                {name: [values[image]] for name, values in row.metrics.items()},
            )
            for row in trace.rows
        ]
    )


def plot_trace(trace: Trace, title: str, file: IO[bytes]) -> None:
    """Draw the trace of one picture as PNG: a panel per figure, a line per member, over the steps.

    Args:
        trace: of `trace_of_picture`.
        title: stands above the panels.
        file: where the PNG goes.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [metric for metric in _PANELS if any(metric in row.metrics for row in trace.rows)]
    heights = [2.4] * len(shown) + [0.6 + 0.25 * len({row.provider for row in trace.rows})]
    figure = Figure(figsize=(8, 0.8 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    names = list(dict.fromkeys(row.name for row in trace.rows))
    for panel, metric in zip(panels, shown, strict=False):
        for position, name in enumerate(names):
            rows = [row for row in trace.rows if row.name == name and metric in row.metrics]
            if rows:
                values = [row.metrics[metric][0] for row in rows]
                label = "aggregate" if metric == "norm_ratio" else name
                steps = [row.index for row in rows]
                panel.plot(steps, values, marker="o", markersize=3, color=f"C{position}", label=label)
        panel.set_ylabel(_PANELS[metric], fontsize=8)
        panel.legend(fontsize=8)
    _plot_evaluations(panels[-1], trace, names)
    # One range of steps for all, so that panels can be compared by eye.
    last = max((row.index for row in trace.rows), default=0)
    for panel in panels:
        panel.set_xlim(-0.5, last + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step (0 is the noisiest)")
    figure.savefig(file, format="png", dpi=120)


def _plot_evaluations(panel: Axes, trace: Trace, names: list[str]) -> None:
    for position, name in enumerate(names):
        steps = [row.index for row in trace.rows if row.name == name and row.evaluated]
        panel.scatter(steps, [position] * len(steps), marker="s", s=14, color=f"C{position}")
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_ylabel("evaluated at", fontsize=8)
