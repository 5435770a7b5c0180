"""The search for better settings of a composition by the score of a benchmark."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..benchmark import Benchmark, BenchmarkCase
from ..composition import ResolvedComposition
from ..content_keys import replace_value
from ..errors import InputError, Problem
from ..input_files import files_of_composition
from ..metadata import contents_digest, versions_of
from ..plugins import PluginRegistry
from .comparison import Comparison, measure
from .default_space import default_space
from .drawing import Laboratory
from .search_space import Dimension, Point
from .settings import check_space, propose, variant_of
from .study import DIGEST, Suggest
from .variants import Source, Variant, VariantChecker, own_content


@dataclass(frozen=True)
class BenchmarkCases:
    """Cases of one seed.

    Attributes:
        cases: what is drawn.
        seed: of the cases.
    """

    cases: Sequence[BenchmarkCase]
    seed: int


@dataclass
class Tuning:
    """A composition, what may change in it, and what it is scored by.

    Attributes:
        source: the composition.
        space: what may change; empty for `default_space`.
        benchmark: scores pictures.
        searched: the cases by which settings are chosen.
        held_out: cases that have no part in the choice.
        checker: of variants of the source, for the scenes of all cases.
        laboratory: holds the models.
        plugins: the installed plugins.
        batch_size: pictures that are drawn at once.

    Raises:
        InputError: with every mistake of the composition, or of the space.
    """

    source: Source
    space: Sequence[Dimension]
    benchmark: Benchmark
    searched: BenchmarkCases
    held_out: BenchmarkCases
    checker: VariantChecker
    laboratory: Laboratory
    plugins: PluginRegistry
    batch_size: int
    start: ResolvedComposition = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.checker.check(Variant("as written", self.source.content)).resolved
        if not self.space:
            self.space = default_space(self.source.content, self.start, self._is_valid)
        if not self.space:
            raise InputError([Problem("nothing of this composition has a usual range: give one", "--vary")])
        check_space(self.source, self.space, self.checker, self.plugins)

    @cached_property
    def identity(self) -> dict[str, str]:
        """What makes trials of one search comparable, each in words that a person knows it by."""
        contexts = self.laboratory.contexts(self.start)
        judge = self.plugins.benchmarks[self.benchmark.name].distribution
        versions = versions_of(self.start, self.plugins) | {judge.name: judge.version}
        written = _leaves("", self.start.composition.model_dump(mode="json", exclude_unset=True))
        files = files_of_composition(self.start)
        return {
            **{f"composition {key}": value for key, value in written.items()},
            **{f"the contents of {'.'.join(map(str, one.key))}": DIGEST + contents_digest(one.path) for one in files},
            "search space": "; ".join(f"{one.key}={one}" for one in self.space),
            "benchmark": self.benchmark.name,
            "number of cases": str(len(self.searched.cases)),
            "seed": str(self.searched.seed),
            "device": ", ".join(dict.fromkeys(context.device.type for context in contexts)),
            "dtype": ", ".join(dict.fromkeys(str(context.dtype).removeprefix("torch.") for context in contexts)),
            **{f"version of {name}": version for name, version in versions.items()},
        }

    @property
    def start_values(self) -> dict[str, float | str]:
        """The composition's own values, as far as they lie in the space."""
        values = {one.key: one.value_of(self.source.content) for one in self.space}
        return {key: value for key, value in values.items() if value is not None}

    def propose(self, suggest: Suggest) -> Point:
        """Ask for the values of a trial."""
        return propose(self.space, suggest, self.plugins)

    def resolve(self, point: Point) -> ResolvedComposition:
        """Return the composition with some values changed.

        Raises:
            InputError: it is not valid with them.
        """
        if not point:
            return self.start
        return self.checker.resolve(variant_of(self.source, point, self.plugins))

    def score(self, point: Point) -> float:
        """Draw the cases of the search with some values changed, and return the benchmark's objective.

        Raises:
            AMDMError: the composition is not valid with them or cannot be drawn, or no case asks for the objective.
        """
        resolved = self.resolve(point)
        # Members that only other trials had make room.
        self.laboratory.keep([self.start, resolved])
        _, pictures = self.laboratory.draw_cases(resolved, self.searched.cases, self.batch_size)
        found = self.benchmark.measure(pictures, self.searched.cases)[self.benchmark.objective]
        if found is None:
            raise InputError(
                [Problem(f"none of {len(pictures)} cases asks for {self.benchmark.objective}: give more", "--cases")]
            )
        return found

    def compare(self, point: Point) -> list[Comparison]:
        """Measure the composition as it is and with some values changed, on the cases of the search and on others."""
        comparisons = []
        for part in (self.searched, self.held_out):
            measured = [
                measure(self.laboratory, resolved, self.benchmark, part.cases, self.batch_size)
                for resolved in ([self.start, self.resolve(point)] if point else [self.start])
            ]
            comparisons.append(Comparison(len(part.cases), part.seed, measured[0], measured[-1]))
        return comparisons

    def content(self, point: Point, folder: Path) -> Mapping[str, Any]:
        """Return the composition with some values changed, as it is written into a folder.

        Args:
            point: the values.
            folder: paths of files are relative to it.
        """
        content = variant_of(self.source, point, self.plugins).content if point else own_content(self.source)
        if folder.resolve() != self.source.base_dir.resolve():
            for file in files_of_composition(self.resolve(point)):
                replace_value(content, file.key, os.path.relpath(file.path.resolve(), folder.resolve()))
        return content

    def _is_valid(self, point: Point) -> bool:
        try:
            self.resolve(point)
        except InputError:
            return False
        return True


def _leaves(key: str, content: Any) -> dict[str, str]:
    """Return what stands at every key of parsed YAML, by dotted key."""
    if isinstance(content, list) and not any(isinstance(one, dict | list) for one in content):
        return {key: json.dumps(content)}
    if not isinstance(content, dict | list):
        return {key: str(content)}
    parts = content.items() if isinstance(content, dict) else enumerate(content)
    return {
        dotted: text for part, value in parts for dotted, text in _leaves(f"{key}.{part}".lstrip("."), value).items()
    }
