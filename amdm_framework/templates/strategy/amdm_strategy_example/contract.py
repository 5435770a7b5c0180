"""The contract kit for this strategy: what `pytest` and `amdm plugin-check` run it with.

Change: `target_alone` to the options of yours that give everything to the target; and `options`, where one of them has
no default.
"""

from __future__ import annotations

from typing import Any

from amdm_framework.testing import StrategyContract

from .strategy import Example


class ExampleContract(StrategyContract):
    """All that a strategy must keep, on predictions in closed form."""

    strategy = Example

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        """Return the sets of options that draw the target's own picture."""
        return [{"keep": 1.0}]
