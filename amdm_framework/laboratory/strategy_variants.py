"""Variants that differ in their strategy."""

from __future__ import annotations

from dataclasses import replace

from ..composition import AggregationBlock, ResolvedComposition
from ..strategies.base import WindowedStrategy
from .variants import CheckedVariant, Source, Variant, own_content


def own_strategy(source: Source) -> str:
    """Return the name of the composition's strategy, as far as that is well-formed."""
    aggregation = source.content.get("aggregation")
    default = AggregationBlock().strategy
    return str(aggregation.get("strategy", default)) if isinstance(aggregation, dict) else default


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
            blocks = content.get("providers")
            for block in blocks if isinstance(blocks, list) else []:
                if isinstance(block, dict):
                    block.pop("step_size", None)
        variants.append(Variant(f"{name} ({'as written' if name == own else 'defaults'})", content))
    return variants


def with_window(checked: CheckedVariant, own: str) -> CheckedVariant:
    """Say in the label how long the window of a strategy with its defaults is, where it has one.

    Args:
        checked: one of `strategy_variants`.
        own: the name of the composition's strategy.
    """
    strategy = checked.resolved.strategy
    if strategy.name == own or not isinstance(strategy, WindowedStrategy):
        return checked
    label = f"{strategy.name} (defaults, steps {strategy.stop - strategy.start})"
    return replace(checked, variant=replace(checked.variant, label=label))


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
