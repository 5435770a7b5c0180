"""An aggregation strategy of amdm-framework whose secondaries act only inside the boxes of their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.strategies.base import AggregationStrategy


@hookimpl
def register_strategies(register: Callable[[type[AggregationStrategy]], None]) -> None:
    from .strategy import Regions

    register(Regions)
