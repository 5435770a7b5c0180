"""What `compare`, `sweep` and `ablate` have in common: their options, what they read, and what they write."""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import AMDMError, InputError, Problem
from ..plugins import PluginRegistry
from .request import Decorator, device_option, dtype_option, output_option
from .results import echo_json, json_option

if TYPE_CHECKING:
    from ..composition import ResolvedComposition
    from ..laboratory.experiment import Benchmarking, Outcome, Plan
    from ..laboratory.report import Arrangement
    from ..laboratory.variants import CheckedVariant, Source, Variant, VariantChecker
    from ..scene import Scene

USUAL_SIZE = 512

MOST_PICTURES = 500
"""More are drawn only where --yes says that so many are meant."""

MOST_LISTED = 20
"""Of the variants that a dry run names."""

_NEEDS_BENCHMARK = {"cases": "--cases", "benchmark_seed": "--benchmark-seed", "batch_size": "--batch-size"}

_OPTIONS: tuple[Decorator, ...] = (
    click.argument("composition", type=click.Path(path_type=Path)),
    click.option("--scene", type=click.Path(path_type=Path),
                 help="YAML file that says what to draw; needed unless --benchmark is given."),
    click.option("--seed", "seeds", type=click.IntRange(0, 2**64 - 1), multiple=True,
                 help="Draw the scene with this seed, the same in every variant; repeatable, each is a row of the grid "
                 "[random, and printed]."),
    click.option("--benchmark", help="Score every variant on this benchmark (`amdm plugins` lists them)."),
    click.option("--cases", type=click.IntRange(min=1), default=24, show_default=True,
                 help="Pictures of the benchmark that every variant draws."),
    click.option("--benchmark-seed", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Which of the benchmark's cases; other seeds have other scenes."),
    click.option("--batch-size", type=click.IntRange(1, 1024), default=8, show_default=True,
                 help="Pictures of the benchmark that are drawn at once; those of the scene always are."),
    output_option,
    device_option,
    dtype_option,
    click.option("--dry-run", is_flag=True, help="Check everything and say what would be drawn; draw nothing."),
    click.option("--yes", is_flag=True, help=f"Draw more than {MOST_PICTURES} pictures, too."),
    click.option("--no-progress", is_flag=True, help="No progress bar."),
    json_option,
)  # fmt: skip


def laboratory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `Request`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


@dataclass(frozen=True)
class Request:
    """What is asked for by the options that all of these commands have."""

    composition: Path
    scene: Path | None
    seeds: tuple[int, ...]
    benchmark: str | None
    cases: int
    benchmark_seed: int
    batch_size: int
    output: Path
    device: str
    dtype: str
    dry_run: bool
    yes: bool
    no_progress: bool
    as_json: bool

    @property
    def name(self) -> str:
        """Of the scene, or of the benchmark where there is none."""
        return self.benchmark or "" if self.scene is None else self.scene.stem


@dataclass
class Experiment:
    """A request that was read, with all that is wrong with it.

    Attributes:
        request: what was asked for.
        plugins: the installed plugins.
        source: the composition; None where it cannot be read.
        checker: of its variants; likewise.
        plan: what every variant draws.
        problems: every mistake so far.
        left_out: variants that cannot be drawn, and why, by label.
    """

    request: Request
    plugins: PluginRegistry
    source: Source | None
    checker: VariantChecker | None
    plan: Plan
    problems: list[Problem]
    left_out: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect mistakes instead of stopping at the first."""
        with _collecting(self.problems):
            yield

    def resolved(self) -> ResolvedComposition | None:
        """Return the composition as it is written, after collecting its mistakes; None where there are some."""
        from ..laboratory.variants import Variant

        if self.source is None or self.checker is None:
            return None
        with self.collecting():
            return self.checker.resolve(Variant("as written", self.source.content))
        return None

    def require_consent(self, count: int, first: Variant) -> None:
        """Refuse very many pictures that nobody confirmed, before every variant is checked.

        Args:
            count: number of variants.
            first: tells what a picture takes, about.

        Raises:
            InputError: there are more than `MOST_PICTURES` without --yes.
        """
        pictures = count * max(self.plan.pictures, 1)
        if self.checker is None or pictures <= MOST_PICTURES or self.request.yes:
            return
        # Where something cannot be read there is nothing to count.
        self.stop_at_problems()
        evaluations = self.checker.check(first).cost.evaluations * pictures
        sentence = f"this is {pictures} pictures with about {evaluations} network evaluations"
        if not self.request.dry_run:
            raise InputError(f"{sentence}; --yes draws them all")
        click.echo(f"{sentence}: all {count} variants are checked, which may take a while", err=True)

    def stop_at_problems(self) -> None:
        """Raise everything that was collected.

        Raises:
            InputError: with every mistake.
        """
        if self.problems:
            raise InputError(list(dict.fromkeys(self.problems)))


@contextmanager
def _collecting(problems: list[Problem], key: str = "") -> Iterator[None]:
    try:
        yield
    except InputError as error:
        problems += error.problems
    except AMDMError as error:
        problems.append(Problem(str(error), key))


def read_experiment(plugins: PluginRegistry, options: Mapping[str, Any], overrides: Sequence[str] = ()) -> Experiment:
    """Read what the common options name; mistakes are collected.

    Args:
        plugins: the installed plugins.
        options: the values of the common options.
        overrides: `dotted.key=value` texts that hold for every variant.
    """
    from ..laboratory.experiment import Plan
    from ..laboratory.variants import VariantChecker, read_source
    from ..picture_files import check_folder
    from ..scene import read_scene

    request = Request(**options)
    problems: list[Problem] = []
    source: Source | None = None
    scene: Scene | None = None
    benchmarking: Benchmarking | None = None
    if len(set(request.seeds)) < len(request.seeds):
        problems.append(Problem(f"a seed is given twice: {', '.join(map(str, request.seeds))}", "--seed"))
    if request.scene is None and request.benchmark is None:
        problems.append(Problem("nothing to draw: give --scene, or --benchmark, or both"))
    if request.scene is None and request.seeds:
        problems.append(Problem("goes with --scene; a benchmark has its own seeds", "--seed"))
    if request.benchmark is None:
        given = click.get_current_context().get_parameter_source
        problems += [
            Problem("goes with --benchmark, which is not given", option)
            for name, option in _NEEDS_BENCHMARK.items()
            if given(name) is ParameterSource.COMMANDLINE
        ]
    with _collecting(problems):
        source = read_source(request.composition, overrides)
    with _collecting(problems):
        scene = None if request.scene is None else read_scene(request.scene)
    with _collecting(problems, "--benchmark"):
        benchmarking = _benchmarking(request, plugins)
    with _collecting(problems):
        check_folder(request.output)
    seeds = request.seeds
    if scene is not None and not seeds:
        seeds = (secrets.randbelow(2**32),)
    plan = Plan(scene, seeds, benchmarking)
    checker = None
    if source is not None:
        checker = VariantChecker(source, plan.scenes, plugins, request.device, request.dtype)
    return Experiment(request, plugins, source, checker, plan, problems)


def _benchmarking(request: Request, plugins: PluginRegistry) -> Benchmarking | None:
    from ..laboratory.experiment import Benchmarking

    if request.benchmark is None:
        return None
    benchmark = plugins.benchmark(request.benchmark)
    return Benchmarking(benchmark, benchmark.draw_cases(request.cases, request.benchmark_seed), request.batch_size)


def carry_out(
    experiment: Experiment,
    command: str,
    variants: Sequence[CheckedVariant],
    arrangement: Arrangement,
    compared: bool = False,
) -> None:
    """Draw all variants, write their grid and their table, and print where these are.

    Args:
        experiment: without mistakes.
        command: the last part of the files' names.
        variants: what to draw, in the order of the arrangement.
        arrangement: of the grid.
        compared: whether the first variant is the one that all others are compared with.
    """
    for label, reason in experiment.left_out.items():
        click.echo(f"left out: {label}: {reason}", err=True)
    if experiment.request.dry_run:
        _echo_plan(experiment, command, variants)
        return

    from ..laboratory.experiment import INTERRUPTED
    from ..laboratory.report import make_grid
    from ..laboratory.table import lines_of, write_csv
    from ..picture_files import interrupted_afterwards, prepare_folder, require_space, save_new
    from ..picture_grid import draw_grid

    request, plan = experiment.request, experiment.plan
    prepare_folder(request.output)
    height, width = (max(getattr(one.cost, side) or USUAL_SIZE for one in variants) for side in ("height", "width"))
    require_space(request.output, len(variants) * len(plan.shown), height, width)
    if plan.scene is not None and not request.seeds:
        click.echo(f"seed: {plan.seeds[0]}", err=True)
    began = time.perf_counter()
    outcomes = _draw(experiment, variants)
    whole = outcomes[0] if compared else None
    assert experiment.source is not None
    grid = make_grid(outcomes, plan, arrangement, request.name, experiment.source, whole)
    if experiment.left_out:
        grid = replace(grid, footer=f"{grid.footer}\nLeft out: {', '.join(experiment.left_out)}.")
    lines = lines_of(outcomes, plan, experiment.source, whole)
    said: dict[str, list[str]] = {}
    for outcome in outcomes:
        for sentence in outcome.warnings:
            said.setdefault(sentence, []).append(outcome.checked.variant.label)
    sentences = [_of_some(sentence, labels, len(outcomes)) for sentence, labels in said.items()]
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=1)
    stem = f"{request.name}-{command}"
    page = draw_grid(grid)
    with interrupted_afterwards():
        picture = save_new(request.output, stem, ".png", partial(page.save, format="PNG"))
        # The number that the picture got; that of a table of another picture, if it is taken, stays with it.
        table = save_new(request.output, picture.stem, ".csv", partial(write_csv, lines))
    failed = {outcome.checked.variant.label: outcome.error for outcome in outcomes if outcome.error}
    context = click.get_current_context()
    for label, error in failed.items():
        click.echo(f"{click.style('failed:', fg='red', bold=True)} {label}: {error}", err=True)
    if context.find_root().params["debug"]:
        click.echo("".join(outcome.trace for outcome in outcomes), err=True, nl=False)
    if request.as_json:
        echo_json(
            {
                "grid": str(picture),
                "table": str(table),
                "lines": lines,
                "left_out": experiment.left_out,
                "failed": failed,
                "warnings": sentences,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
    else:
        click.echo(f"{picture}\n{table}")
    if INTERRUPTED in failed.values():
        click.echo("interrupted", err=True)
        context.exit(130)
    if failed:
        context.exit(1)


def _of_some(sentence: str, labels: Sequence[str], count: int) -> str:
    shown = "; ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
    return sentence if len(labels) == count else f"{sentence} (in {len(labels)} of {count}: {shown})"


def _draw(experiment: Experiment, variants: Sequence[CheckedVariant]) -> list[Outcome]:
    from tqdm import tqdm

    from ..laboratory.drawing import Laboratory
    from ..laboratory.experiment import run_experiment

    request, plan = experiment.request, experiment.plan
    laboratory = Laboratory(experiment.plugins, request.device, request.dtype)
    steps = plan.batches * sum(one.cost.steps for one in variants)
    with tqdm(total=steps, unit="step", disable=True if request.no_progress else None) as bar:

        def begin(checked: CheckedVariant) -> None:
            # Native code may have turned an interruption into an error of the variant before.
            if getattr(click.get_current_context().find_root().command, "interrupts", ()):
                raise KeyboardInterrupt
            bar.set_description(checked.variant.label)

        return run_experiment(laboratory, variants, plan, bar.update, begin)


def _echo_plan(experiment: Experiment, command: str, variants: Sequence[CheckedVariant]) -> None:
    plan, request = experiment.plan, experiment.request
    evaluations = sum(one.cost.evaluations for one in variants) * plan.pictures
    downloads = list(
        dict.fromkeys(name for one in variants for member in one.cost.members for name in member.downloads)
    )
    files = [str(request.output / f"{request.name}-{command}{suffix}") for suffix in (".png", ".csv")]
    if request.as_json:
        listed = [{"label": one.variant.label, "evaluations": one.cost.evaluations} for one in variants]
        echo_json(
            {
                "pictures": len(variants) * plan.pictures,
                "evaluations": evaluations,
                "variants": listed,
                "left_out": experiment.left_out,
                "downloads": downloads,
                "files": files,
            }
        )
        return
    click.echo(
        f"would draw {len(variants) * plan.pictures} picture(s), {plan.pictures} of each of {len(variants)} variant(s), "
        f"with {evaluations} network evaluations"
    )
    for one in variants[:MOST_LISTED]:
        click.echo(f"  {one.variant.label}: {one.cost.evaluations} evaluations per picture")
    if len(variants) > MOST_LISTED:
        click.echo(f"  \N{HORIZONTAL ELLIPSIS} and {len(variants) - MOST_LISTED} more")
    for name in downloads:
        click.echo(f"  download    {name}")
    for file in files:
        click.echo(f"  file        {file}")
