"""Variants that differ in their members: all, all but one, and each alone."""

from __future__ import annotations

from typing import Any

from ..composition import ResolvedComposition
from ..errors import InputError, Problem
from .strategy_variants import alone_variants
from .variants import Source, Variant, VariantChecker, own_content


def ablation_variants(
    source: Source, resolved: ResolvedComposition, checker: VariantChecker
) -> tuple[list[Variant], dict[str, str]]:
    """Return the whole, all but one member for every member, and every member alone.

    Where the target is left out, the next member becomes it. Options of the strategy with a value for every member or
    every secondary lose the value of the one that is left out.

    Args:
        source: the composition.
        resolved: the same, resolved.
        checker: says whether the strategy accepts what is left.

    Returns:
        The variants, the whole first, and for those that the strategy cannot do the reason, by label.

    Raises:
        InputError: there is one member only.
    """
    names = [member.name for member in resolved.members]
    if len(names) == 1:
        message = f"there is one member, {names[0]}: nothing can be left out"
        raise InputError([Problem(message, "providers", source.file)])
    whole = own_content(source)
    for block, name in zip(whole["providers"], names, strict=True):
        # Names that the framework gives depend on who else takes part.
        block["name"] = name
    variants = [Variant(f"all {len(names)} members" if len(names) > 2 else "both members", whole)]
    refused: dict[str, str] = {}
    # With two members, all but one is the other one alone.
    for position, name in enumerate(names) if len(names) > 2 else ():
        label = f"without {name}" + (f" ({names[1]} is the target)" if position == 0 else "")
        variant = Variant(label, _without(whole, position))
        try:
            variants.append(_shortened(variant, position, len(names), checker))
        except InputError as error:
            refused[label] = str(error)
    return [*variants, *alone_variants(source, resolved)], refused


def _without(whole: dict[str, Any], position: int) -> dict[str, Any]:
    content = {**whole, "providers": [block for k, block in enumerate(whole["providers"]) if k != position]}
    order = content.get("aggregation", {}).get("order")
    if isinstance(order, list):
        # Whose turn it is: not a value for every member, but their positions, which change.
        turns = [k - (k > position) for k in order if k != position]
        content["aggregation"] = {**content["aggregation"], "order": turns}
    return content


def _shortened(variant: Variant, position: int, count: int, checker: VariantChecker) -> Variant:
    # The strategy itself says which of its lists are too long for the members that are left.
    shortened: set[str] = set()
    while True:
        try:
            checker.resolve(variant)
            return variant
        except InputError as error:
            aggregation = dict(variant.content["aggregation"])
            complained = {problem.key.removeprefix("aggregation.") for problem in error.problems}
            for key in complained - shortened:
                values = aggregation.get(key)
                if isinstance(values, list) and len(values) in (count, count - 1):
                    # One value per member, or one per secondary, of which the first becomes the target after it.
                    index = position if len(values) == count else max(position - 1, 0)
                    aggregation[key] = values[:index] + values[index + 1 :]
                    shortened.add(key)
                    break
            else:
                raise
            variant = Variant(variant.label, {**variant.content, "aggregation": aggregation})
