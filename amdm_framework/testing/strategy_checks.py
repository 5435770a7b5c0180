"""What the tests of a strategy run on: what its author declares, and the runs that all of them make."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from ..errors import InputError
from ..sampling.transition import transitions
from ..strategies.base import AggregationStrategy
from .closed_form import STABLE_DIFFUSION_SCHEDULE
from .strategy_runs import STEPS, Drawn, draw


class StrategyChecks:
    """Base of the tests of one strategy.

    Attributes:
        strategy: the class under test.
        options: its options, as a composition would give them; more than one set takes more than one subclass.
        provider_counts: numbers of providers it works with, for strategies or options that fit only some.
    """

    strategy: ClassVar[type[AggregationStrategy]]
    options: ClassVar[dict[str, Any]] = {}
    provider_counts: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def without_options(self, missing: list[str]) -> None:
        """End a test that has no value for options without a default."""
        pytest.fail(f"`options` of the contract gives nothing for {', '.join(missing)}, which have no default")

    def settings(self, **changes: Any) -> BaseModel:
        """Return the checked options, some of them changed.

        Raises:
            ValidationError: they do not fit the strategy's options.
        """
        given = {**self.options, **changes}
        fields = self.strategy.options.model_fields
        missing = [name for name, field in fields.items() if field.is_required() and name not in given]
        if missing:
            self.without_options(missing)
        return self.strategy.options.model_validate(given)

    def several(self) -> list[int]:
        """Return the numbers of providers with which there is something to aggregate."""
        return [count for count in self.provider_counts if count > 1]

    def make(self, **changes: Any) -> AggregationStrategy:
        """Return a strategy, some of its options changed."""
        return self.strategy(self.settings(**changes))

    def draw(self, count: int, eta: float = 0.0, **arguments: Any) -> Drawn:
        """Run a new strategy with `count` providers; the arguments are those of `strategy_runs.draw`."""
        return draw(self.make(), count, eta, **arguments)

    def etas(self, count: int, **changes: Any) -> list[float]:
        """Return those of eta 0 and 1 whose grid the strategy takes."""
        etas = []
        for eta in (0.0, 1.0):
            strategy = self.make(**changes)
            strategy.begin(count, STEPS)
            try:
                strategy.check_grid(transitions(STABLE_DIFFUSION_SCHEDULE, STEPS, eta))
            except InputError:
                continue
            etas.append(eta)
        assert etas, "check_grid refuses both eta 0 and eta 1"
        return etas
