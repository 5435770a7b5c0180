"""The trace of one picture: as plain data, and drawn for a person to read."""

from __future__ import annotations

import textwrap
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

from .errors import InputError
from .picture_text import DISTINCT, FAINT, INK
from .sampling.trace import Trace, TraceRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^DvP*X"
_WINDOW = "#f1f1f4"
_TITLE_WIDTH = 100


@dataclass(frozen=True)
class _Panel:
    """What a panel shows.

    Attributes:
        metric: of every member, in its colour.
        title: what is drawn.
        unit: of the vertical axis.
        help: how to read it, in a sentence.
        together: a metric of all together, in ink.
        level: where a line is drawn across, that the sentence speaks of.
        from_zero: whether the vertical axis begins at 0.
        of_target: whether the metric says anything of the target.
    """

    metric: str
    title: str
    unit: str
    help: str
    together: str = ""
    level: float | None = None
    from_zero: bool = False
    of_target: bool = True


_PANELS = (
    _Panel(
        "pull",
        "How far each member pulled the picture from the target's own way",
        "latent units (RMS)",
        "The higher a line, the more that member changed at this step; dashed is what came of all, and of the rule itself.",
        together="displacement",
        from_zero=True,
    ),
    _Panel(
        "kappa",
        "Weight of each member's prediction",
        "weight",
        "The weights of a step sum to 1; one below 0 or above 1 goes beyond the members' own predictions.",
    ),
    _Panel(
        "cosine",
        "How alike each secondary's result is to the target's",
        "cosine",
        "At 1 a secondary wants what the target wants and there is nothing to aggregate; lower is of another opinion.",
        level=1,
        of_target=False,
    ),
    _Panel(
        "distance_to_mean",
        "How far the aggregate lies from where each member would go",
        "latent units",
        "The lowest line belongs to the member that got its way most.",
    ),
    _Panel(
        "step_over_distance",
        "How much of that way the member's manifold step goes",
        "share of the distance",
        "At 1 the step ends at the member's mean; above 1 it overshoots and pushes the other members away.",
        level=1,
        from_zero=True,
    ),
    _Panel(
        "",
        "Size of the aggregate",
        "norm over $\\sqrt{n}$",
        "A sample of one model has about 1 in the noisy steps; far from it the networks are asked what they never saw.",
        together="norm_ratio",
        level=1,
    ),
)


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
    rows = [
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
    return Trace(rows, trace.names)


def plot_trace(trace: Trace, title: str, file: IO[bytes]) -> None:
    """Draw the trace of one picture as PNG, 800 pixels wide.

    Args:
        trace: of `trace_of_picture`.
        title: stands above everything, and below it who was aggregated when.
        file: where the PNG goes.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib()
    with warnings.catch_warnings():
        # Names may have letters that the font lacks.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        trace_figure(trace, title).savefig(file, format="png", dpi=100)


def trace_figure(trace: Trace, title: str) -> Figure:
    """Arrange the trace of one picture: a panel for each thing it tells, a line per member, over the steps.

    Args:
        trace: of `trace_of_picture`.
        title: stands above everything, and below it who was aggregated when.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    # Figures belong to aggregated steps, in which somebody's result is made of several or is not the target's.
    window = sorted({row.index for row in trace.rows if row.metrics})
    last = max((row.index for row in trace.rows), default=0)
    members = list(dict.fromkeys((row.provider, row.name) for row in trace.rows)) or list(enumerate(trace.names))
    members.sort()
    shown = [panel for panel in _PANELS if _has_values(trace, panel)]
    heights = [2.0] * len(shown) + [0.55 + 0.22 * len(members)]
    figure = Figure(
        figsize=(8, 1.0 + sum(heights) + 0.75 * len(heights)), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.12)
    )
    FigureCanvasAgg(figure)
    text = [title, _summary(window, last, [name for _, name in members])]
    lines = [line for one in text for line in textwrap.wrap(one, _TITLE_WIDTH)]
    figure.suptitle(_plain("\n".join(lines)), x=0.02, ha="left", fontsize=10.5, color=INK)
    axes = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    for axis, panel in zip(axes, shown, strict=False):
        _plot_panel(axis, panel, trace, members)
        # Where the window is a small part of the run, lines would be dots.
        axis.set_xlim(window[0] - 0.5, window[-1] + 0.5)
    _plot_evaluations(axes[-1], trace, members, bool(shown))
    axes[-1].set_xlim(-0.5, last + 0.5)
    if window:
        axes[-1].axvspan(window[0] - 0.5, window[-1] + 0.5, color=_WINDOW, zorder=0)
    timesteps = {row.index: row.timestep for row in trace.rows}
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
        axis.tick_params(labelsize=8, colors=FAINT)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#c7c7cc")
        axis.set_axisbelow(True)
        axis.grid(alpha=0.35, linewidth=0.6)
        first, end = axis.get_xlim()
        ticks = [index for index in map(round, axis.get_xticks()) if first <= index <= end and index in timesteps]
        axis.set_xticks(ticks, [f"{index}\nt = {timesteps[index]}" for index in ticks])
    return figure


def _summary(window: list[int], last: int, names: list[str]) -> str:
    if not window:
        return f"{names[0]} alone in {last + 1} steps"
    steps = f"step {window[0]} of {last + 1} is" if len(window) == 1 else (
        f"steps {window[0]} to {window[-1]} of {last + 1} are"
    )  # fmt: skip
    return f"{steps} shared by {', '.join(names)}; step 0 is the noisiest"


def _plain(text: str) -> str:
    # Between two dollars matplotlib reads formulas, and it leaves out of legends what begins with an underscore.
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _has_values(trace: Trace, panel: _Panel) -> bool:
    return any(
        panel.together in row.metrics or (panel.metric in row.metrics and (panel.of_target or row.provider > 0))
        for row in trace.rows
    )


def _values(trace: Trace, metric: str, provider: int) -> tuple[list[int], list[float]]:
    rows = [row for row in trace.rows if row.provider == provider and metric in row.metrics]
    return [row.index for row in rows], [row.metrics[metric][0] for row in rows]


def _style(provider: int) -> tuple[str, str]:
    return DISTINCT[provider % len(DISTINCT)], _MARKERS[provider % len(_MARKERS)]


def _plot_panel(axis: Axes, panel: _Panel, trace: Trace, members: list[tuple[int, str]]) -> None:
    if panel.level is not None:
        axis.axhline(panel.level, color=FAINT, linewidth=0.8, linestyle=":")
    for provider, name in members:
        colour, marker = _style(provider)
        steps, values = _values(trace, panel.metric, provider)
        if steps and (panel.of_target or provider > 0):
            axis.plot(steps, values, marker=marker, markersize=5, linewidth=1.6, color=colour, label=_plain(name))
    steps, values = _values(trace, panel.together, 0)
    if steps:
        axis.plot(steps, values, marker=".", linewidth=1.2, linestyle="--", color=INK, label="all together")
    if panel.from_zero:
        axis.set_ylim(bottom=0)
    if panel.metric:
        axis.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    _describe(axis, panel.title, panel.unit, panel.help)


def _plot_evaluations(axis: Axes, trace: Trace, members: list[tuple[int, str]], below_others: bool) -> None:
    for place, (provider, _) in enumerate(members):
        colour, marker = _style(provider)
        steps = [row.index for row in trace.rows if row.provider == provider and row.evaluated]
        axis.scatter(steps, [place] * len(steps), marker=marker, s=22, color=colour)
    axis.set_yticks(range(len(members)), [_plain(name) for _, name in members])
    axis.set_ylim(len(members) - 0.5, -0.5)
    help = "Every mark is a network evaluation"
    help += "; the panels above show the steps that are shaded here." if below_others else "."
    _describe(axis, "Whose network was evaluated", "", help)


def _describe(axis: Axes, title: str, unit: str, help: str) -> None:
    axis.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK)
    axis.set_ylabel(unit, fontsize=8, color=FAINT)
    axis.set_xlabel(help, loc="left", fontsize=8, color=FAINT)
