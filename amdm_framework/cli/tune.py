"""`amdm tune`: search for better settings of a composition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import AMDMError, InputError, Problem
from ..plugins import PluginRegistry
from .request import device_option, dtype_option, set_option
from .results import echo_json, echo_title, json_option

if TYPE_CHECKING:
    from ..laboratory.comparison import Comparison
    from ..laboratory.search_space import Dimension
    from ..laboratory.study import Study, Trial
    from ..laboratory.tuning import Tuning

HELD_OUT = 2
"""So many times as many cases as those of the search have no part in it: their figures are the ones to believe."""


@dataclass(frozen=True)
class Request:
    """What is asked for on the command line."""

    composition: Path
    benchmark: str
    trials: int
    cases: int
    seed: int
    varied: tuple[str, ...]
    search_file: Path | None
    study_file: Path | None
    output: Path | None
    batch_size: int
    overrides: tuple[str, ...]
    device: str
    dtype: str
    no_progress: bool
    as_json: bool

    @property
    def best_file(self) -> Path:
        """Where the best composition is written."""
        return self.output or Path(f"{self.composition.stem}_best.yaml")


@click.command(short_help="Search for the settings that score best.")
@click.argument("composition", type=click.Path(path_type=Path))
@click.option("--benchmark", required=True, help="What settings are scored by (`amdm plugins` lists benchmarks).")
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Settings to try in total, the composition as it is and those that cannot be scored included.",
)
@click.option(
    "--cases", type=click.IntRange(1), default=24, show_default=True, help="Pictures that every setting is scored by."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the cases and of the search; the benchmark's next seed has the cases that the result is checked with.",
)
@click.option(
    "--vary",
    "varied",
    metavar="KEY=RANGE",
    multiple=True,
    help="What may change: KEY=1..6 (whole numbers), KEY=0.0..1.0, KEY=0.1..10 log, KEY=A,B,... Repeatable "
    "[the numbers of the strategy, step sizes and guidance scales].",
)
@click.option(
    "--search",
    "search_file",
    type=click.Path(path_type=Path),
    help="YAML file with a line `KEY: RANGE` for each value that may change, beside those of --vary.",
)
@click.option(
    "--study",
    "study_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="SQLite file that keeps the trials: the same command goes on where it was interrupted, or with more --trials.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="NAME_best.yaml in the current folder",
    help="File for the best composition, in place of one that an earlier search wrote there.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Pictures that are drawn at once.",
)
@set_option
@device_option
@dtype_option
@click.option("--no-progress", is_flag=True, help="No line for every trial.")
@json_option
@click.pass_obj
def tune(plugins: PluginRegistry, /, **options: Any) -> None:
    """Search for settings with which COMPOSITION (a YAML file) scores better on a benchmark, and write the best.

    The first trial is the composition as it is, so that the best is never worse on the cases of the search. Settings
    that were chosen by these cases look better there than they are: at the end the composition as it is and the best
    are compared on other cases, too.

    Exit codes: 0 done, 2 the input was wrong, 130 interrupted; with --study the finished trials are kept.
    """
    from ..laboratory.study import Study, require_optuna
    from ..laboratory.study_lock import locked

    require_optuna()
    request = Request(**options)
    study_file, output = request.study_file, request.best_file
    tuning = _read(plugins, request)
    if not request.no_progress:
        _echo_space(tuning.space)
    with ExitStack() as stack:
        if study_file is not None:
            stack.enter_context(locked(study_file))
        study = Study(study_file, tuning.identity, tuning.space, tuning.start_values, request.seed)

        def on_trial(trial: Trial) -> None:
            if not request.no_progress:
                _echo_trial(study, trial, request.trials)

        try:
            study.run(request.trials, tuning.propose, tuning.score, on_trial)
        except KeyboardInterrupt:
            if study_file is not None:
                click.echo(
                    f"{len(study.trials())} of {request.trials} trials are kept in {study_file}: the same command "
                    "goes on",
                    err=True,
                )
            raise
        best, done, importance = study.best(), len(study.trials()), study.importance()
    # Before the comparison, which may be interrupted or fail, and again with its figures.
    _write(tuning, best, done, [], output)
    comparisons = tuning.compare(best.settings)
    _write(tuning, best, done, comparisons, output)
    if request.as_json:
        _echo_as_json(tuning, best, done, importance, comparisons, output)
    else:
        _echo_result(tuning, best, done, importance, comparisons, output)


def _read(plugins: PluginRegistry, request: Request) -> Tuning:
    from ..laboratory.drawing import Laboratory
    from ..laboratory.search_space import parse_space
    from ..laboratory.tuning import BenchmarkCases, Tuning
    from ..laboratory.variants import VariantChecker, read_source
    from ..picture_files import check_folder

    problems: list[Problem] = []
    source = space = found = searched = held_out = None
    try:
        source = read_source(request.composition, request.overrides)
    except InputError as error:
        problems += error.problems
    try:
        space = parse_space(request.varied, request.search_file)
    except InputError as error:
        problems += error.problems
    try:
        found = plugins.benchmark(request.benchmark)
        cases, seed = request.cases, request.seed
        searched = BenchmarkCases(found.draw_cases(cases, seed), seed)
        held_out = BenchmarkCases(found.draw_cases(HELD_OUT * cases, seed + 1), seed + 1)
    except InputError as error:
        problems += error.problems
    except AMDMError as error:
        problems.append(Problem(str(error), "--benchmark"))
    try:
        check_folder(request.best_file.parent)
        others = {"the composition itself": request.composition, "the file of --study": request.study_file,
                  "the file of --search": request.search_file}  # fmt: skip
        _check_output(request.best_file, {what: file for what, file in others.items() if file is not None})
    except InputError as error:
        problems += error.problems
    if problems or source is None or space is None or found is None or searched is None or held_out is None:
        raise InputError(problems)
    scenes = [case.scene for case in (*searched.cases, *held_out.cases)]
    checker = VariantChecker(source, scenes, plugins, request.device, request.dtype)
    laboratory = Laboratory(plugins, request.device, request.dtype)
    return Tuning(source, space, found, searched, held_out, checker, laboratory, plugins, request.batch_size)


def _check_output(output: Path, others: Mapping[str, Path]) -> None:
    """Refuse to write over anything but an earlier result.

    Raises:
        InputError: the file is one of those of this search, or was not written by `amdm tune`.
    """
    for what, file in others.items():
        if output.resolve() == file.resolve() or (output.exists() and file.exists() and output.samefile(file)):
            raise InputError([Problem(f"is {what}: give another file for the best composition", "--output")])
    if not output.exists():
        return
    try:
        with output.open("rb") as file_there:
            begin = file_there.readline(200)
    except OSError as error:
        message = f"{output} is there already and cannot be read: {error.strerror or error}"
        raise InputError([Problem(message, "--output")]) from error
    # Not the whole line: its number changes.
    if not (begin.startswith(b"# The best of ") and b"of `amdm tune`" in begin):
        message = f"{output} is there already and was not written by amdm tune: choose another file or remove it"
        raise InputError([Problem(message, "--output")])


def _write(tuning: Tuning, best: Trial, done: int, comparisons: Sequence[Comparison], output: Path) -> None:
    from ..picture_files import prepare_folder, replace_file
    from ..yaml_files import to_yaml

    name, searched = tuning.benchmark.name, tuning.searched
    reached = f"{_number(best.score)} on {len(searched.cases)} cases of seed {searched.seed}"
    lines = [
        f"The best of {done} trials of `amdm tune` by {tuning.benchmark.objective} on the benchmark {name}.",
        f"{reached}, by which it was chosen; the comparison on others was not finished.",
    ]
    if comparisons:
        start, held_out = comparisons[0].start, comparisons[1]
        lines[1:] = [
            f"{reached}, where the composition it started from has {_number(start.score)};",
            f"{_number(held_out.best.score)} on {held_out.cases} other cases (seed {held_out.seed}), there "
            f"{_number(held_out.start.score)}.",
        ]
    text = "".join(f"# {line}\n" for line in lines) + to_yaml(tuning.content(best.settings, output.parent))
    prepare_folder(output.parent)
    replace_file(output, lambda file: file.write(text.encode()))


def _echo_space(space: Sequence[Dimension]) -> None:
    width = max(len(dimension.key) for dimension in space)
    click.echo("searched:", err=True)
    for dimension in space:
        click.echo(f"  {dimension.key.ljust(width)}  {dimension}", err=True)


def _echo_trial(study: Study, trial: Trial, total: int) -> None:
    done = len(study.trials())
    settings = " ".join(f"{key}={value}" for key, value in trial.settings.items()) or "the composition as it is"
    score = "no score" if trial.score is None else f"{trial.score:6.2f}"
    reason = f": {trial.reason}" if trial.reason else ""
    click.echo(f"trial {done}/{total}  {score}  best {_number(study.best().score)}  {settings}{reason}", err=True)


def _echo_result(
    tuning: Tuning,
    best: Trial,
    done: int,
    importance: Mapping[str, float],
    comparisons: Sequence[Comparison],
    output: Path,
) -> None:
    objective = tuning.benchmark.objective
    for comparison, title in zip(comparisons, ("the cases of the search", "other cases"), strict=True):
        echo_title(f"{title}: {comparison.cases} of {tuning.benchmark.name}, seed {comparison.seed}")
        rows = [["", "start", "best", "difference", ""]]
        for figure in dict.fromkeys([objective, *tuning.benchmark.figures]):
            start, reached = comparison.start.figures[figure], comparison.best.figures[figure]
            change = "-" if start is None or reached is None else f"{reached - start:+.1f}"
            interval = comparison.interval() if figure == objective else None
            note = "" if interval is None else f"95 %: {interval[0]:+.1f} to {interval[1]:+.1f}"
            rows.append([figure, _number(start), _number(reached), change, note])
        _echo_table(rows)
    if best.settings:
        echo_title("settings")
        rows = [["", "start", "best", "importance" if importance else ""]]
        for key, value in best.settings.items():
            share = f"{importance[key]:.2f}" if key in importance else ""
            rows.append([key, str(tuning.start_values.get(key, "-")), value, share])
        _echo_table(rows)
    else:
        click.echo(f"none of {done} trials was better than the composition as it is\n")
    held_out = comparisons[1]
    interval = held_out.interval()
    if best.settings:
        click.echo(
            f"The best was chosen by the cases of the search, which flatter it: believe the {held_out.cases} others."
        )
        if interval is None or interval[0] <= 0 <= interval[1]:
            click.echo("On these its difference from the start may be chance.")
    click.echo(output)


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        click.echo(f"  {'  '.join(cells)}".rstrip())
    click.echo()


def _echo_as_json(
    tuning: Tuning,
    best: Trial,
    done: int,
    importance: Mapping[str, float],
    comparisons: Sequence[Comparison],
    output: Path,
) -> None:
    echo_json(
        {
            "file": str(output),
            "benchmark": tuning.benchmark.name,
            "objective": tuning.benchmark.objective,
            "trials": done,
            "score": best.score,
            "settings": best.settings,
            "space": {dimension.key: str(dimension) for dimension in tuning.space},
            "importance": importance,
            "comparisons": [
                {
                    "cases": one.cases,
                    "seed": one.seed,
                    "start": one.start.figures,
                    "best": one.best.figures,
                    "difference": one.difference,
                    "interval": one.interval(),
                }
                for one in comparisons
            ],
        }
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
