"""The plot of a trace: its lines are the trace's figures, every member keeps its colour, all words are in the picture."""

from __future__ import annotations

import io
import itertools
import warnings

import pytest
from PIL import Image

from amdm_framework.picture_text import DISTINCT
from amdm_framework.sampling.trace import Trace, TraceRow
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.strategies.superdiff import SuperDiffAnd
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, toy_providers
from amdm_framework.trace_plot import plot_trace, trace_figure, trace_of_picture

matplotlib = pytest.importorskip("matplotlib")

SHAPE = (4, 8, 8)


def row(index: int, provider: int, **metrics: float) -> TraceRow:
    values = {name: [value] for name, value in metrics.items()}
    return TraceRow(index, 901 - 100 * index, provider, f"m{provider}", "guided", 0.1, values)


HAND_MADE = Trace(
    [
        row(0, 0), row(1, 0, norm_ratio=1.1, displacement=0.5, cosine=1), row(1, 1, pull=0.2, cosine=0.9),
        row(1, 2, pull=0.4, cosine=0.8), row(2, 0, norm_ratio=1.3, displacement=0.6, cosine=1),
        row(2, 1, pull=0.3, cosine=0.7), row(2, 2, pull=0.1, cosine=0.6), row(3, 0), row(4, 0),
    ],
    ("m0", "m1", "m2"),
)  # fmt: skip


def drawn(strategy: AggregationStrategy, count: int, steps: int = 10) -> Trace:
    latents = initial_latents([1, 2], SHAPE)
    eta = 1.0 if isinstance(strategy, SuperDiffAnd) else 0.0
    _, trace = run_toys(toy_providers(count), strategy, [latents] * count, steps, eta)
    return trace_of_picture(trace, 1)


def test_lines_are_the_figures_of_the_trace() -> None:
    panels = {axis.get_title(loc="left"): axis for axis in trace_figure(HAND_MADE, "picture").axes}
    pulls, alike, size, evaluations = panels.values()
    first, *_, last = panels
    assert first.startswith("How far each member pulled") and last.startswith("Whose network")
    found = {line.get_label(): line.get_xydata().tolist() for line in pulls.lines}
    assert found == {"m1": [[1, 0.2], [2, 0.3]], "m2": [[1, 0.4], [2, 0.1]], "all together": [[1, 0.5], [2, 0.6]]}
    found = {line.get_label(): line.get_xydata().tolist() for line in alike.lines if line.get_label()[0] == "m"}
    assert found == {"m1": [[1, 0.9], [2, 0.7]], "m2": [[1, 0.8], [2, 0.6]]}
    assert [[1, 1.1], [2, 1.3]] in [line.get_xydata().tolist() for line in size.lines]
    marks = {tuple(place) for collection in evaluations.collections for place in collection.get_offsets().tolist()}
    assert marks == {(index, 0) for index in range(5)} | {(index, k) for index in (1, 2) for k in (1, 2)}


def test_the_window_is_shaded_and_what_is_said_of_it_is_true() -> None:
    figure = trace_figure(HAND_MADE, "picture.png, drawn by slerp")
    (shade,) = figure.axes[-1].patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0.5, 2.5)
    assert [axis.get_xlim() for axis in figure.axes] == [(0.5, 2.5)] * 3 + [(-0.5, 4.5)]
    title = figure.get_suptitle()
    assert title == "picture.png, drawn by slerp\nsteps 1 to 2 of 5 are shared by m0, m1, m2; step 0 is the noisiest"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1\nt = 801", "2\nt = 701"]
    alone = trace_figure(Trace([row(0, 0), row(1, 0)], ("m0",)), "x")
    assert alone.get_suptitle() == "x\nm0 alone in 2 steps" and len(alone.axes) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cls", [AMDM, AMDMAuthors, Slerp, Composable, SuperDiffAnd, Relay, Single])
def test_members_keep_their_colours_and_every_panel_says_how_it_is_read(
    cls: type[AggregationStrategy], count: int
) -> None:
    figure = trace_figure(drawn(make_strategy(cls), count), "a picture")
    for axis in figure.axes:
        assert axis.get_title(loc="left") and axis.get_xlabel().endswith(".")
        for line in axis.lines:
            if line.get_label().startswith("toy"):
                assert line.get_color() == DISTINCT[int(line.get_label()[3:])]
        if axis.get_legend() is not None:
            assert axis.get_legend().get_texts()
    pulls = [axis for axis in figure.axes if axis.get_title(loc="left").startswith("How far each member pulled")]
    assert len(pulls) == (cls not in (Relay, Single) and count > 1)


@pytest.mark.parametrize(("cls", "steps"), [(AMDM, 50), (SuperDiffAnd, 50), (Slerp, 3)])
def test_all_words_are_inside_the_picture(cls: type[AggregationStrategy], steps: int) -> None:
    figure = trace_figure(drawn(make_strategy(cls), 3, steps), "a picture with a rather long name, drawn by " * 3)
    figure.canvas.draw()
    size = figure.bbox
    assert size.width == 800
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    assert len(texts) > 20
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= size.width and box.y0 >= 0 and box.y1 <= size.height, text.get_text()
    # Step numbers stand apart from each other.
    for axis in figure.axes:
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_names_of_any_kind_are_drawn_without_a_warning() -> None:
    odd = [TraceRow(0, 901, k, name, "guided", 0.1, {"pull": [0.1], "norm_ratio": [1.0]}) for k, name in
           enumerate(("$x^{2$ $", "猫", "_hidden", "\\frac"))]  # fmt: skip
    named = Trace(odd, tuple(row.name for row in odd))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_trace(named, "$a_{b$.png", file)
    with Image.open(file) as plot:
        assert plot.width == 800
    legend = trace_figure(named, "x").axes[0].get_legend()
    assert [text.get_text().strip() for text in legend.get_texts()][2] == "_hidden"
