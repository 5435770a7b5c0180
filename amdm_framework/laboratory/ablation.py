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
    every secondary lose the value of the one that is left out, and positions of members change; which options these are
    their fields say: `json_schema_extra={"per": "member"}`, `{"per": "secondary"}` or `{"holds": "positions"}`.

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
        variant = Variant(label, _without(whole, resolved, position))
        try:
            checker.resolve(variant)
        except InputError as error:
            refused[label] = str(error)
        else:
            variants.append(variant)
    return [*variants, *alone_variants(source, resolved)], refused


def _without(whole: dict[str, Any], resolved: ResolvedComposition, position: int) -> dict[str, Any]:
    content = {**whole, "providers": [block for k, block in enumerate(whole["providers"]) if k != position]}
    count = len(resolved.members)
    aggregation = dict(content.get("aggregation") or {})
    for name, option in resolved.strategy.options.model_fields.items():
        values = aggregation.get(name)
        says = option.json_schema_extra
        if not isinstance(values, list) or not isinstance(says, dict):
            continue
        if says.get("holds") == "positions":
            aggregation[name] = [k - (k > position) for k in values if k != position]
        elif says.get("per") == "member" and len(values) == count:
            aggregation[name] = values[:position] + values[position + 1 :]
        elif says.get("per") == "secondary" and len(values) == count - 1:
            # Where the target goes, the first secondary takes its place.
            index = max(position - 1, 0)
            aggregation[name] = values[:index] + values[index + 1 :]
    return content | ({"aggregation": aggregation} if aggregation else {})
