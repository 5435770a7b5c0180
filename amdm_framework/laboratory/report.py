"""What came of an experiment as a labelled grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..picture_grid import Cell, Grid
from .experiment import INTERRUPTED, Outcome, Plan, mean_difference
from .figures import Figures
from .variants import Source


@dataclass(frozen=True)
class Arrangement:
    """Where the variants stand: as many columns in every group of rows, the variants group by group.

    Attributes:
        columns: labels.
        groups: labels; empty texts where there is nothing to say.
    """

    columns: Sequence[str]
    groups: Sequence[str] = ("",)


def make_grid(
    outcomes: Sequence[Outcome],
    plan: Plan,
    arrangement: Arrangement,
    name: str,
    source: Source,
    whole: Outcome | None = None,
) -> Grid:
    """Arrange the pictures of all variants: within every group a row for each seed.

    Args:
        outcomes: of all variants, group by group.
        plan: what they drew.
        arrangement: their places.
        name: of the scene, or of the benchmark where there is none.
        source: what they are variants of.
        whole: the variant that the others are compared with, pixel by pixel.
    """
    width = len(arrangement.columns)
    rows: list[str] = []
    cells: list[list[Cell]] = []
    for number, group in enumerate(arrangement.groups):
        of_group = outcomes[number * width : (number + 1) * width]
        for position, (scene, seed) in enumerate(plan.shown):
            label = f"seed {seed}" if plan.scene is not None else f"case {position + 1}, seed {seed}\n{scene.caption}"
            rows.append(f"{group}\n{label}" if group else label)
            cells.append([_cell(outcome, plan, position, whole) for outcome in of_group])
    title = name
    if plan.scene is not None:
        title = f"{name}: {plan.scene.caption}"
    elif plan.benchmarking is not None:
        title = f"{name}: {plan.benchmarking.benchmark.summary}"
    return Grid(
        title, _subtitle(outcomes, plan, source), arrangement.columns, rows, cells, _footer(outcomes, plan, whole)
    )


def _cell(outcome: Outcome, plan: Plan, position: int, whole: Outcome | None) -> Cell:
    if outcome.error:
        return Cell(None, f"failed: {outcome.error}")
    lines = []
    if whole is not None and outcome is not whole and not whole.error:
        difference = mean_difference(outcome.pictures[position], whole.pictures[position])
        lines.append("of another size" if difference is None else f"differs by {difference:.1f}")
    lines += _figure_lines(outcome.figures[position])
    if plan.benchmarking is not None and position == 0:
        scores = [f"{name}\N{NO-BREAK SPACE}{value:.1f}" for name, value in outcome.scores.items() if value is not None]
        lines.append(f"{len(plan.benchmarking.cases)} cases: {', '.join(scores)}")
    return Cell(outcome.pictures[position], "\n".join(lines))


def _figure_lines(figures: Figures) -> list[str]:
    short = {"norm": figures.norm_ratio, "cosine": figures.cosine, "step": figures.step_over_distance}
    known = [f"{name}\N{NO-BREAK SPACE}{value:.2f}" for name, value in short.items() if value is not None]
    return [f"{figures.evaluations:.0f} evaluations", *([", ".join(known)] if known else [])]


def _subtitle(outcomes: Sequence[Outcome], plan: Plan, source: Source) -> str:
    # What all variants have in common.
    members = max((outcome.checked.resolved.members for outcome in outcomes), key=len)
    # Where members draw together: a single one has a strategy of its own.
    together = [outcome for outcome in outcomes if len(outcome.checked.resolved.members) > 1]
    strategy = _common(together or outcomes, lambda outcome: outcome.checked.resolved.strategy.name)
    sampler = [outcome.checked.resolved.composition.sampler for outcome in outcomes]
    guidance = [member.guidance for outcome in outcomes for member in outcome.checked.resolved.members]
    common = (
        {f"T = {one.steps} steps" for one in sampler},
        {f"eta {one.eta:g}" for one in sampler},
        {f"guidance scale {one.scale:g}" for one in guidance},
    )
    size = _common(outcomes, lambda outcome: f"{outcome.checked.cost.width}x{outcome.checked.cost.height} pixels")
    facts = [
        f"composition {Path(source.file).name}",
        " + ".join(member.name for member in members),
        strategy,
        *(text for texts in common for text in texts if len(texts) == 1),
    ]
    facts += [] if "None" in size else [size]
    if plan.scene is not None:
        facts.append(f"seed{'s' if len(plan.seeds) > 1 else ''} {', '.join(map(str, plan.seeds))}")
    lines = [", ".join(fact for fact in facts if fact)]
    given = _given(outcomes, source)
    if given:
        lines.append(f"with {', '.join(given)}")
    drawn = sum(outcome.error != INTERRUPTED for outcome in outcomes)
    if drawn < len(outcomes):
        lines.append(f"incomplete: interrupted after {drawn} of {len(outcomes)} variants")
    if plan.benchmarking is not None:
        count = len(plan.benchmarking.cases)
        shown = "" if plan.scene is not None else f"; shown are the first {len(plan.shown)}"
        lines.append(f"benchmark {plan.benchmarking.benchmark.name}: means over {count} cases{shown}")
    return "\n".join(lines)


def _given(outcomes: Sequence[Outcome], source: Source) -> list[str]:
    # What was given beside the file, and does not vary.
    settings = [outcome.checked.variant.settings for outcome in outcomes]
    fixed = [f"{key}={value}" for key, value in settings[0].items() if all(one.get(key) == value for one in settings)]
    return [*source.overrides, *fixed]


def _common(outcomes: Sequence[Outcome], fact: Callable[[Outcome], str]) -> str:
    found = {fact(outcome) for outcome in outcomes}
    return found.pop() if len(found) == 1 else ""


def _footer(outcomes: Sequence[Outcome], plan: Plan, whole: Outcome | None) -> str:
    figures = [one for outcome in outcomes for one in outcome.figures]
    meanings = []
    if whole is not None:
        meanings.append(
            f"differs by: mean absolute difference of the pixels, 0 to 255, from {whole.checked.variant.label}."
        )
    meanings.append("evaluations: of networks, per picture.")
    if any(one.norm_ratio is not None for one in figures):
        meanings.append("norm: of the aggregate at the last aggregated step; 1 is that of unit noise.")
    if any(one.cosine is not None for one in figures):
        meanings.append("cosine: of the target's sample and the secondary's that is least like it.")
    if any(one.step_over_distance is not None for one in figures):
        meanings.append("step: the longest manifold step over the distance to the mean; above 1 it overshot.")
    if plan.benchmarking is not None:
        benchmark = plan.benchmarking.benchmark
        meanings += [f"{name}: {meaning.rstrip('.')} (percent)." for name, meaning in benchmark.figures.items()]
    return "\n".join(meanings)
