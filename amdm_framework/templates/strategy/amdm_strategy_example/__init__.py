"""Example as an aggregation strategy of the AMDM framework. It is imported when it is asked for.

Change nothing here, unless the package offers more: further strategies, models, commands or weights have hooks of their
own (`amdm_framework.hookspecs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.strategies.base import AggregationStrategy


@hookimpl
def register_strategies(register: Callable[[type[AggregationStrategy]], None]) -> None:
    """Announce `example`."""
    from .strategy import Example

    register(Example)
