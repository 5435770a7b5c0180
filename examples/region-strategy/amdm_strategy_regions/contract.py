"""The contract of `regions`, which `amdm plugin-check regions` runs."""

from __future__ import annotations

from amdm_framework.testing import StrategyContract

from .strategy import Regions


class RegionsContract(StrategyContract):
    """The restricted interpolation with its defaults."""

    strategy = Regions
