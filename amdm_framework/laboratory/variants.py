"""Variants of a composition: what is different, in words and as content, and all of their mistakes at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ..composition import ResolvedComposition, read_composition
from ..cost import MemberInspections, RunCost, examine_scenes
from ..errors import AMDMError, InputError, Problem
from ..plugins import PluginRegistry
from ..sampling.transition import transitions
from ..scene import Scene
from ..yaml_files import apply_overrides, read_yaml

Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """The composition that is varied.

    Attributes:
        content: as it was written, after overrides.
        file: where it came from, for messages.
        base_dir: the folder that its paths are relative to.
        overrides: those `dotted.key=value` texts.
    """

    content: dict[str, Any]
    file: str
    base_dir: Path
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One way of writing the composition.

    Attributes:
        label: what is different, for people.
        content: a composition.
        overrides: `dotted.key=value` texts on top of it.
        settings: what was varied, as it was written, by key.
    """

    label: str
    content: dict[str, Any]
    overrides: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedVariant:
    """A variant that can be drawn.

    Attributes:
        variant: what was asked for.
        resolved: its composition.
        cost: what a picture takes.
    """

    variant: Variant
    resolved: ResolvedComposition
    cost: RunCost


def read_source(path: Path, overrides: Sequence[str] = ()) -> Source:
    """Read the composition that is varied.

    Raises:
        InputError: it cannot be read as YAML, or an override leads nowhere.
    """
    content = read_yaml(path)
    apply_overrides(content, overrides)
    return Source(content, str(path), path.parent, tuple(overrides))


def own_content(source: Source) -> dict[str, Any]:
    """Return a copy of the source's content, to be changed."""
    return copy.deepcopy(source.content)


class VariantChecker:
    """Checks variants as far as that is possible without loading a network.

    Args:
        source: what they are variants of.
        scenes: what all of them are to draw.
        plugins: the installed plugins.
        device: as in `Laboratory`.
        dtype: as in `Laboratory`.
    """

    def __init__(
        self, source: Source, scenes: Sequence[Scene], plugins: PluginRegistry, device: str, dtype: str
    ) -> None:
        self._source = source
        self._scenes = scenes
        self._plugins = plugins
        self._device = device
        self._dtype = dtype
        # What files say does not change from one variant to the next.
        self._inspect = MemberInspections()

    def resolve(self, variant: Variant) -> ResolvedComposition:
        """Find a variant's names and check its options.

        Raises:
            InputError: with every mistake.
        """
        try:
            return read_composition(variant.content, self._plugins, variant.overrides, self._source.base_dir)
        except InputError as error:
            # Only the source knows the file; an override stands in none.
            file = self._source.file
            problems = [
                problem if problem.key == "--set" else replace(problem, file=file) for problem in error.problems
            ]
            raise InputError(problems) from error

    def check(self, variant: Variant) -> CheckedVariant:
        """Check that a variant can draw the scenes, and count what that takes.

        Raises:
            InputError: with every mistake.
            IncompatibleProvidersError: its models cannot be aggregated.
        """
        resolved = self.resolve(variant)
        cost, reports = examine_scenes(resolved, self._scenes, self._plugins, self._device, self._dtype, self._inspect)
        # The members share one noise schedule, so that any of them will do.
        known = next((report for report in reports if report is not None), None)
        if known is not None:
            sampler = resolved.composition.sampler
            resolved.strategy.check_grid(transitions(known.noise_schedule, sampler.steps, sampler.eta))
        return CheckedVariant(variant, resolved, cost)

    def check_all(self, variants: Sequence[Variant]) -> list[CheckedVariant]:
        """Check variants.

        Raises:
            InputError: with the mistakes of all of them; one that only some of them have says which.
        """
        return collect(variants, self.check)


def collect(variants: Sequence[Variant], attempt: Callable[[Variant], Result]) -> list[Result]:
    """Attempt something with every variant.

    Raises:
        InputError: with the mistakes of all of them, each once; one that only some of them have says which.
    """
    results = []
    found: dict[Problem, list[str]] = {}
    for variant in variants:
        try:
            results.append(attempt(variant))
        except InputError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(variant.label)
        except AMDMError as error:
            found.setdefault(Problem(str(error)), []).append(variant.label)
    if found:
        raise InputError(
            [
                problem if len(labels) == len(variants) else _of_some(problem, labels)
                for problem, labels in found.items()
            ]
        )
    return results


def _of_some(problem: Problem, labels: Sequence[str]) -> Problem:
    shown = "; ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
    return replace(problem, message=f"{problem.message} (in: {shown})")
