"""Whom a strategy asks for at a step, and what it does with the answers."""

from __future__ import annotations

import pytest
import torch

from ..sampling.guidance import Guidance
from ..sampling.plan import evaluation_plan
from ..strategies.base import Evaluation
from .closed_form import toy_providers
from .strategy_checks import StrategyChecks
from .strategy_runs import STEPS, draw


class PlanChecks(StrategyChecks):
    """Tests of `evaluated` and of latents that are let go."""

    def test_the_plan_depends_on_the_step_alone(self) -> None:
        """`evaluated` is asked in any order, before a run and without one: for its cost, and for what can be freed."""
        for count in self.provider_counts:
            strategy = self.make()
            strategy.begin(count, STEPS)
            plan = [dict(strategy.evaluated(index)) for index in range(STEPS)]
            for index, step in enumerate(plan):
                assert step, f"nobody is evaluated at step {index}"
                assert set(step) <= set(range(count)), f"step {index} asks for {sorted(step)} of {count} providers"
                assert all(isinstance(evaluation, Evaluation) for evaluation in step.values())
            for index in reversed(range(STEPS)):
                assert dict(strategy.evaluated(index)) == plan[index], f"step {index} asks for others the second time"
            draw(strategy, count, self.etas(count)[0])
            assert [dict(strategy.evaluated(index)) for index in range(STEPS)] == plan, "a run changes the plan"

    def test_costs_what_amdm_check_counts(self) -> None:
        """The networks run as often as the plan of a strategy that has not run says, both halves where it says so."""
        guidance = Guidance(scale=3.0, start=0.25, stop=0.75)
        for count in self.provider_counts:
            planned = self.make()
            planned.begin(count, STEPS)
            expected = evaluation_plan(planned, [guidance] * count, STEPS)
            drawn = self.draw(count, self.etas(count)[0], guidance=guidance)
            found: list[dict[int, int]] = [{} for _ in range(STEPS)]
            for k, calls in enumerate(drawn.calls):
                for step in calls:
                    found[step.index][k] = 1 + step.guided
            assert found == list(map(dict, expected)), "the networks ran otherwise than planned"

    def test_reads_only_what_it_asked_for(self) -> None:
        """Providers that are not evaluated at a step have no prediction there, and no unconditional one unasked."""
        for count in self.provider_counts:
            for eta in self.etas(count):
                try:
                    self.draw(count, eta)
                except (RuntimeError, TypeError, AttributeError) as error:
                    pytest.fail(f"with {count} providers and eta {eta}: {error}")

    def test_every_prediction_that_it_asks_for_plays_a_part(self) -> None:
        """An evaluation that the picture does not depend on costs time for nothing: a large change of it must show."""
        count = max(self.provider_counts)
        eta = self.etas(count)[0]
        unchanged = self.draw(count, eta)
        for index, step in enumerate(unchanged.plan):
            for k in step:
                providers = toy_providers(count)
                providers[k].changed_at = index
                latents = self.draw(count, eta, providers=providers).latents
                assert not torch.equal(latents, unchanged.latents), (
                    f"provider {k} is evaluated at step {index} for nothing"
                )

    def test_lets_go_only_of_latents_that_nobody_needs_again(self) -> None:
        """None stands for latents of providers that no later step asks for; in its place the loop shows the target's."""
        for count in self.provider_counts:
            drawn = self.draw(count, self.etas(count)[0])
            for index, report in enumerate(drawn.reports):
                later = {0}.union(*drawn.plan[index + 1 :])
                lost = [k for k, latents in enumerate(report.latents) if latents is None and k in later]
                assert not lost, f"step {index} has no latents for {lost}, who are evaluated later"

    def test_shared_latents_are_one_tensor(self) -> None:
        """`shared_latents` promises that all providers look at the very same latents."""
        if not self.strategy.shared_latents:
            pytest.skip("the providers have latents of their own")
        for count in self.provider_counts:
            for report in self.draw(count, self.etas(count)[0]).reports:
                different = [one for one in report.latents if one is not None and one is not report.latents[0]]
                assert not different, f"step {report.step.index} returns different latents"
