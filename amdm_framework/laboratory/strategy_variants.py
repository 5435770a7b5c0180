"""Variants that differ in their strategy."""

from __future__ import annotations

from ..composition import ResolvedComposition
from .variants import Source, Variant, own_content


def strategy_variants(source: Source, own: str, names: list[str]) -> list[Variant]:
    """Return the composition under each of some strategies.

    The composition's options of aggregation, and its members' step sizes, belong to its own strategy; every other one
    runs with its defaults.

    Args:
        source: the composition.
        own: the name of its strategy.
        names: of the strategies wanted.
    """
    variants = []
    for name in names:
        content = own_content(source)
        if name != own:
            content["aggregation"] = {"strategy": name}
            for block in content["providers"]:
                block.pop("step_size", None)
        variants.append(Variant(f"{name} ({'as written' if name == own else 'defaults'})", content))
    return variants


def alone_variants(source: Source, resolved: ResolvedComposition) -> list[Variant]:
    """Return every member without the others.

    Args:
        source: the composition.
        resolved: the same, resolved.
    """
    variants = []
    for position, member in enumerate(resolved.members):
        content = own_content(source)
        block = {**content["providers"][position], "name": member.name}
        block.pop("step_size", None)
        content |= {"providers": [block], "aggregation": {"strategy": "single"}}
        variants.append(Variant(f"{member.name} alone", content))
    return variants
