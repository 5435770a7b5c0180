"""What a search changes where nobody says: the numbers of a composition's strategy, its step sizes and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..composition import ResolvedComposition
from ..content_keys import value_at
from ..sampling.guidance import Guidance
from .search_space import Dimension, Point, Range, key_of

MOST_STEPS = 10
"""Numbers of steps end here or where the run ends, unless the composition has more: rules act in the first few."""

Accepts = Callable[[Point], bool]


def default_space(content: Mapping[str, Any], resolved: ResolvedComposition, accepts: Accepts) -> list[Dimension]:
    """Return a range for every number of the strategy that has one, for step sizes and for guidance scales.

    An integer goes from its minimum to its maximum, or to the number of sampling steps (at most `MOST_STEPS`). Another
    number goes from its minimum to its maximum; where there is none, to twice the value that it has. A list of numbers
    has a range for each of them. An option that is off unless it is given takes part where the composition gives it, a
    length of the window always.

    Args:
        content: of the composition.
        resolved: the same, resolved.
        accepts: whether the composition is valid with some values changed.
    """
    schema = resolved.strategy.options.model_json_schema()
    options = resolved.strategy.settings.model_dump(mode="json")
    space: list[Dimension] = []
    for name, property_schema in schema.get("properties", {}).items():
        branches = property_schema.get("anyOf", [property_schema])
        nullable = {"type": "null"} in branches
        kind: dict[str, Any] = next((branch for branch in branches if branch.get("type") != "null"), {})
        key, value = f"aggregation.{name}", options.get(name)
        if kind.get("type") == "integer":
            space += _steps(key, kind, value, resolved, accepts)
        elif kind.get("type") == "number" and not (nullable and value is None):
            space += _number(key, kind, value, accepts)
        elif kind.get("type") == "array":
            # Numbers that mean something beside one another only: 0 to 1 is all there is.
            relative = bool(property_schema.get("relative"))
            space += _list(key, kind, value, relative, resolved, accepts)
    members = resolved.composition.providers
    for index, block in enumerate(members):
        if block.step_size is not None:
            space += _number(f"providers.{index}.step_size", {"minimum": 0}, block.step_size, accepts)
    return [*space, *_guidance(content, resolved, accepts)]


def _steps(
    key: str, schema: Mapping[str, Any], value: int | None, resolved: ResolvedComposition, accepts: Accepts
) -> list[Dimension]:
    low = schema.get("minimum", 0)
    usual = min(resolved.composition.sampler.steps, MOST_STEPS)
    high = schema.get("maximum", max(usual, value or 0))
    # Some rules need steps before their window.
    while high > low and not accepts({key: str(high)}):
        high -= 1
    return [Range(key, low, high, whole=True)] if high > low and accepts({key: str(low)}) else []


def _number(key: str, schema: Mapping[str, Any], value: float | None, accepts: Accepts) -> list[Dimension]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0.0))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if high is None:
        if value is None or value <= low:
            return []
        high = 2 * value
    margin = 0.01 * (high - low)
    low += margin if "exclusiveMinimum" in schema else 0
    high -= margin if "exclusiveMaximum" in schema else 0
    dimension = Range(key, float(low), float(high))
    return [dimension] if all(accepts({key: text}) for text in dimension.probes()) else []


def _list(
    key: str,
    schema: Mapping[str, Any],
    value: list[Any] | None,
    relative: bool,
    resolved: ResolvedComposition,
    accepts: Accepts,
) -> list[Dimension]:
    steps = resolved.composition.sampler.steps
    if "prefixItems" in schema:
        whole = all(item.get("type") == "integer" for item in schema["prefixItems"])
        return [Range(f"{key}.{k}", 0, steps, whole=True) for k in range(len(value))] if value and whole else []
    item = schema.get("items", {})
    if item.get("type") != "number":
        return []
    low, high = item.get("minimum", 0.0), item.get("maximum")
    high = 1.0 if relative else high
    if value is None and high is None:
        return []
    # A strategy says how many it takes by what it accepts: one per member, or one per secondary.
    count = len(resolved.members)
    for length in [len(value)] if value is not None else [count - 1, count]:
        if relative and length == 1:
            # All of it, whatever its number.
            continue
        tops = [high] * length if high is not None else [2 * number for number in value or ()]
        ranges = [Range(f"{key}.{k}", float(low), float(top)) for k, top in enumerate(tops) if top > low]
        if ranges and len(ranges) == length and accepts({one.key: one.probes()[1] for one in ranges}):
            return list(ranges)
    return []


def _guidance(content: Mapping[str, Any], resolved: ResolvedComposition, accepts: Accepts) -> list[Dimension]:
    blocks = resolved.composition.providers
    space: list[Dimension] = []
    shared = len(blocks)
    for owner in [*(f"providers.{index}" for index in range(len(blocks))), "sampler"]:
        keys = (f"{owner}.guidance_scale", f"{owner}.guidance.scale")
        scales = {key: scale for key in keys if (scale := value_at(content, key_of(key))) is not None}
        if owner != "sampler":
            shared -= bool(scales)
        elif not shared:
            # Every member has a scale of its own.
            scales = {}
        elif not scales:
            scales = {keys[0]: Guidance().scale}
        for key, scale in scales.items():
            dimension = Range(key, 1.0, 2.0 * scale)
            if scale > 1 and all(accepts({key: text}) for text in dimension.probes()):
                space.append(dimension)
    return space
