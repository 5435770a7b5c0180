"""A strategy by regions that evaluates only the secondary at first: proof that the contract has room for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
import torch
from pydantic import BaseModel, Field

from amdm_framework.provider import Step
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.transition import Transition
from amdm_framework.scene import StrictModel
from amdm_framework.strategies.base import Advance, AggregationStrategy, Evaluation, ProviderState, advance_together
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, toy_providers

SHAPE = (4, 8, 8)


class RegionOptions(StrictModel):
    secondary_steps: int = Field(default=2, ge=0, description="First steps that the secondary draws alone.")
    mixed_steps: int = Field(default=2, ge=0, description="Steps after them that shift every instance as a whole.")
    limit: float = Field(default=1.0, gt=0, description="Largest predicted x0 inside the window.")


class ShiftInstances(AggregationStrategy):
    """The secondary alone, then only its mean difference over every instance, in x0; then the target alone."""

    name = "shift_instances"
    summary = "Regions and x0."
    formula = "x0 = x0_A + sum_k 1_k mean_k(x0_B - x0_A)"
    space = "x0"
    privileged_target = True
    source = "this test"
    options: ClassVar[type[BaseModel]] = RegionOptions
    settings: RegionOptions
    needs_regions: ClassVar[bool] = True
    shared_latents: ClassVar[bool] = True

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        if index < self.settings.secondary_steps:
            return {1: Evaluation.GUIDED}
        if index < self.settings.secondary_steps + self.settings.mixed_steps:
            return {0: Evaluation.GUIDED, 1: Evaluation.GUIDED}
        return {0: Evaluation.GUIDED}

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        needed = self.evaluated(step.index)
        if 1 not in needed:
            return advance_together(states[0].epsilon, states, transition)
        latents = states[0].latents
        original = transition.original_sample(latents, states[1].epsilon)
        if 0 in needed:
            assert step.regions is not None
            target = transition.original_sample(latents, states[0].epsilon)
            masks = step.regions[:, :, None]
            weight = masks.sum((-2, -1), keepdim=True).clamp(min=1)
            shift = (masks * (original - target)[:, None]).sum((-2, -1), keepdim=True) / weight
            original = target + (masks * shift).sum(1)
        original = original.clamp(-self.settings.limit, self.settings.limit)
        return advance_together(transition.noise_from_original(latents, original), states, transition)


def regions() -> torch.Tensor:
    masks = torch.zeros(2, 2, 8, 8)
    masks[:, 0, :4, :4] = 1
    masks[0, 1, 5:, 5:] = 1
    return masks


def run(**options: float) -> tuple[torch.Tensor, list[StepReport], list[int]]:
    providers = toy_providers(2, SHAPE)
    latents = [initial_latents([1, 2], SHAPE, salt=k) for k in range(2)]
    seen: list[StepReport] = []
    final, _ = run_toys(
        providers, make_strategy(ShiftInstances, **options), latents, 8, regions=regions(), on_step_end=seen.append
    )
    return final, seen, [len(provider.calls) for provider in providers]


def test_the_target_rests_while_the_secondary_draws() -> None:
    final, seen, calls = run()
    assert final.isfinite().all()
    assert calls == [6, 4]
    assert seen[0].states[0].noise_prediction is None
    assert torch.equal(seen[0].states[1].latents, initial_latents([1, 2], SHAPE))


def test_outside_the_regions_the_target_keeps_everything() -> None:
    _, seen, _ = run(secondary_steps=0, mixed_steps=1, limit=100.0)
    report = seen[0]
    target = report.transition.mean(report.states[0].latents, report.states[0].epsilon)
    difference = report.latents[0] - target
    inside = regions().sum(1)[:, None].expand_as(difference) > 0
    assert difference[~inside].abs().max() < 1e-5
    first = difference[0, :, :4, :4]
    torch.testing.assert_close(first, first.mean((-2, -1), keepdim=True).expand_as(first), rtol=0, atol=1e-5)
    assert first.abs().max() > 1e-3


def test_reading_a_provider_that_was_not_evaluated_is_a_clear_error() -> None:
    class Greedy(ShiftInstances):
        def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
            return advance_together(states[0].epsilon, states, transition)

    with pytest.raises(RuntimeError, match="did not ask to be evaluated"):
        run_toys(
            toy_providers(2, SHAPE), make_strategy(Greedy), [initial_latents([1], SHAPE)] * 2, 8, regions=regions()
        )
