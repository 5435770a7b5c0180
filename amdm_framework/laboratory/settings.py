"""From values of a search space to compositions, and whether a space fits the composition at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..content_keys import value_at
from ..errors import InputError, Problem, did_you_mean
from ..plugins import PluginRegistry
from ..yaml_files import apply_overrides
from .search_space import Choice, Dimension, Point, key_of
from .study import Suggest
from .variants import Source, Variant, VariantChecker, own_content

STRATEGY = "aggregation.strategy"

_ATTEMPTS = 40


def variant_of(source: Source, point: Point, plugins: PluginRegistry) -> Variant:
    """Return the composition with some values changed.

    A list that the composition does not give is made where all of its positions are. With another strategy the options
    that it does not have are left out.

    Raises:
        InputError: a key leads nowhere.
    """
    content = own_content(source)
    _make_lists(content, point)
    try:
        apply_overrides(content, [f"{key}={value}" for key, value in point.items()])
    except InputError as error:
        raise InputError([replace(problem, key="") for problem in error.problems]) from error
    if STRATEGY in point:
        _leave_out_unknown(content, plugins)
    label = ", ".join(f"{key}={value}" for key, value in point.items()) or "as written"
    return Variant(label, content, settings=point)


def propose(space: Sequence[Dimension], suggest: Suggest, plugins: PluginRegistry) -> Point:
    """Ask for a value of every dimension; where the strategy varies, of those alone that the chosen one has."""
    strategy = next((dimension for dimension in space if dimension.key == STRATEGY), None)
    if strategy is None:
        return {dimension.key: suggest(dimension) for dimension in space}
    chosen = suggest(strategy)
    return {STRATEGY: chosen} | {
        dimension.key: suggest(dimension)
        for dimension in space
        if dimension is not strategy and _has_option(chosen, dimension.key, plugins)
    }


def check_space(source: Source, space: Sequence[Dimension], checker: VariantChecker, plugins: PluginRegistry) -> None:
    """Check that every dimension fits the composition: its ends and choices give something valid.

    A value that does not fit by itself is tried together with values of the other dimensions.

    Raises:
        InputError: with every dimension that does not fit.
    """
    problems = []
    strategy = next((one for one in space if isinstance(one, Choice) and one.key == STRATEGY), None)
    for dimension in space:
        option = _option(dimension.key)
        if (
            strategy is not None
            and option
            and not any(_has_option(name, dimension.key, plugins) for name in strategy.values)
        ):
            known = [name for value in strategy.values for name in _options(value, plugins)]
            message = f"no strategy of the search has such an option.{did_you_mean(option, known)}"
            problems.append(Problem(message, dimension.key))
            continue
        for text in dimension.probes():
            error = _reason_against(dimension, text, source, space, checker, plugins)
            if error is not None:
                problems.append(Problem(f"{text} does not fit: {error}", dimension.key))
                break
    if problems:
        raise InputError(problems)


def _reason_against(
    dimension: Dimension,
    text: str,
    source: Source,
    space: Sequence[Dimension],
    checker: VariantChecker,
    plugins: PluginRegistry,
) -> InputError | None:
    chance = random.Random(0)
    first: InputError | None = None
    points = [{dimension.key: text}]
    for _ in range(_ATTEMPTS):
        points.append(propose(space, lambda one: text if one is dimension else one.draw(chance), plugins))
    for point in points:
        if dimension.key not in point:
            continue
        try:
            checker.resolve(variant_of(source, point, plugins))
        except InputError as error:
            first = first or error
        else:
            return None
    return first


def _make_lists(content: dict[str, Any], point: Point) -> None:
    positions: dict[str, list[int]] = {}
    for key in point:
        parent, _, last = key.rpartition(".")
        if last.isdigit() and value_at(content, key_of(parent)) is None:
            positions.setdefault(parent, []).append(int(last))
    for parent, given in positions.items():
        if sorted(given) != list(range(len(given))):
            raise InputError(
                f"{parent} is not in the composition: give it there, or vary all of its positions from {parent}.0 on"
            )
        apply_overrides(content, [f"{parent}=[{', '.join('null' for _ in given)}]"])


def _leave_out_unknown(content: dict[str, Any], plugins: PluginRegistry) -> None:
    name = content["aggregation"]["strategy"]
    if name not in plugins.strategies:
        return
    known = _options(name, plugins)
    content["aggregation"] = {
        key: value for key, value in content["aggregation"].items() if key == "strategy" or key in known
    }
    if "step_sizes" not in known:
        for block in content["providers"]:
            block.pop("step_size", None)


def _options(strategy: str, plugins: PluginRegistry) -> list[str]:
    offer = plugins.strategies.get(strategy)
    return [] if offer is None else list(offer.value.options.model_fields)


def _option(key: str) -> str:
    """The option of the strategy that a key leads to, empty for other keys."""
    first, *rest = key.split(".")
    if first == "providers" and rest[1:] == ["step_size"]:
        return "step_sizes"
    return rest[0] if first == "aggregation" and rest and key != STRATEGY else ""


def _has_option(strategy: str, key: str, plugins: PluginRegistry) -> bool:
    option = _option(key)
    # A strategy that is not installed is refused elsewhere.
    return not option or strategy not in plugins.strategies or option in _options(strategy, plugins)
