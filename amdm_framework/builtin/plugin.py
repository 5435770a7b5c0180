"""The built-ins' hooks. What they register is imported inside them, so that finding plugins stays light."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from ..provider import ProviderSpec
    from ..strategies.base import AggregationStrategy


@hookimpl
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    from .stable_diffusion import SPEC

    register(SPEC)


@hookimpl
def register_strategies(register: Callable[[type[AggregationStrategy]], None]) -> None:
    from ..strategies.builtin import BUILTIN_STRATEGIES

    for strategy in BUILTIN_STRATEGIES:
        register(strategy)
