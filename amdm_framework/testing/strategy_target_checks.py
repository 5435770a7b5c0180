"""Where a strategy leaves the target alone."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from ..strategies.base import Evaluation, WindowedStrategy
from ..strategies.single import Single
from .strategy_checks import StrategyChecks
from .strategy_runs import STEPS, Drawn, draw, same_providers


class TargetChecks(StrategyChecks):
    """Tests of runs that are, or end, as plain sampling of the target.

    Attributes:
        keeps_agreement: whether members that all predict the same draw what the target alone draws. False for rules
            that amplify what members agree on.
    """

    keeps_agreement: ClassVar[bool] = True

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        """Return all sets of options that give everything to the target: with them the picture is the target's own.

        Args:
            count: the number of providers.
        """
        return [{"weights": [1.0] * (count - 1)}] if "weights" in self.strategy.options.model_fields else []

    def test_one_provider_is_plain_sampling(self) -> None:
        """Without secondaries there is nothing to aggregate."""
        if 1 not in self.provider_counts:
            pytest.skip("the strategy does not work with one provider")
        for eta in self.etas(1):
            self._expect_target_alone(self.draw(1, eta), 1, eta, exact=True)

    def test_an_empty_window_is_the_target_alone(self) -> None:
        """`steps: 0`, or a window that ends where it begins, switches a strategy off, whatever the grid."""
        if "steps" not in self.strategy.options.model_fields:
            pytest.skip("the strategy has no `steps`")
        windows: list[dict[str, Any]] = [{"steps": 0}]
        if issubclass(self.strategy, WindowedStrategy):
            windows.append({"window": [3, 3]})
        # One of the two at a time.
        off = {key: None for key in ("steps", "window") if key in self.options}
        for count in self.provider_counts:
            for window in windows:
                for eta in (0.0, 1.0):
                    drawn = draw(self.strategy(self.settings(**(off | window))), count, eta)
                    assert all(set(step) == {0} for step in drawn.plan), f"secondaries are evaluated with {window}"
                    self._expect_target_alone(drawn, count, eta, exact=True)

    def test_all_weight_on_the_target_is_the_target_alone(self) -> None:
        """In every way that `target_alone` names; of `weights`, 1 keeps what was aggregated so far."""
        named = False
        for count in self.several():
            for options in self.target_alone(count):
                named = True
                eta = self.etas(count, **options)[0]
                drawn = draw(self.make(**options), count, eta, same_start=True)
                self._expect_target_alone(drawn, count, eta, exact=False)
        if not named:
            pytest.skip("no options give all weight to the target")

    def test_the_target_goes_on_alone_after_the_window(self) -> None:
        """Once no secondary is asked for any more, the target's steps are those of plain sampling."""
        fields = self.strategy.options.model_fields
        options = {"steps": 3} if "steps" in fields and "window" not in self.options else {}
        for count in self.several():
            for eta in self.etas(count, **options):
                strategy = self.make(**options)
                drawn = draw(strategy, count, eta)
                last = max((index for index, step in enumerate(drawn.plan) if set(step) - {0}), default=-1)
                if isinstance(strategy, WindowedStrategy):
                    assert last < strategy.stop, f"step {last} is evaluated after the window's end at {strategy.stop}"
                for index in range(last + 1, STEPS):
                    state, transition = drawn.reports[index].states[0], drawn.reports[index].transition
                    assert dict(drawn.plan[index]) == {0: Evaluation.GUIDED}
                    alone = transition.sample(state.latents, state.epsilon, state.noise)
                    latents = drawn.reports[index].latents[0]
                    assert latents is not None
                    assert torch.equal(latents, alone), f"step {index} is not the target's own"

    def test_members_that_agree_draw_the_targets_picture(self) -> None:
        """Interpolations keep what all members say; rules that add up do not, and say so in `keeps_agreement`."""
        for count in self.several():
            for eta in self.etas(count):
                alone = draw(
                    Single(Single.options()),
                    count,
                    eta,
                    providers=same_providers(count),
                    same_start=True,
                    same_noise=True,
                )
                found = self.draw(count, eta, providers=same_providers(count), same_start=True, same_noise=True)
                kept = torch.allclose(found.latents, alone.latents, rtol=1e-9, atol=1e-9)
                assert kept == self.keeps_agreement, f"keeps_agreement is {self.keeps_agreement}, found {kept}"

    def _expect_target_alone(self, drawn: Drawn, count: int, eta: float, exact: bool) -> None:
        alone = draw(Single(Single.options()), count, eta, same_start=True).latents
        tolerance = 0.0 if exact else 1e-9
        torch.testing.assert_close(drawn.latents, alone, rtol=tolerance, atol=tolerance)
