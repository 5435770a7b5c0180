"""Every test of the strategy contract can fail: for each there is a strategy broken in the way that it looks for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import BeforeValidator, Field, field_serializer

from amdm_framework.errors import InputError
from amdm_framework.provider import Step
from amdm_framework.sampling.trace import Trace
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.base import (
    Advance,
    AggregationStrategy,
    Evaluation,
    ProviderState,
    WindowedStrategy,
    advance_together,
    per_sample_norm,
)
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.instance_relay import InstanceRelay
from amdm_framework.strategies.linear import Linear, LinearOptions
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.testing import StrategyContract
from amdm_framework.testing.strategy_contract import GeneralStrategyContract
from amdm_framework.testing.strategy_runs import NeverWaiting

MUTANTS: list[Any] = []

States = Sequence[ProviderState]


def fails(test: str) -> Callable[[type[AggregationStrategy]], type[AggregationStrategy]]:
    """Say which test of the contract a strategy fails."""

    def take(strategy: type[AggregationStrategy]) -> type[AggregationStrategy]:
        contract = type("Mutant", (StrategyContract,), {"strategy": strategy})
        MUTANTS.append(pytest.param(test, contract, id=f"{test}-{strategy.__name__}"))
        return strategy

    return take


def with_latents(advance: Advance, change: Callable[[torch.Tensor], torch.Tensor]) -> Advance:
    return replace(advance, latents=[None if one is None else change(one) for one in advance.latents])


@fails("test_says_what_it_is")
class WithoutAFormula(Linear):
    formula = ""


@fails("test_says_what_it_is")
class WithAParagraphAsSummary(Linear):
    summary = "One line.\nAnd another."


class UndescribedOptions(LinearOptions):
    strength: float = 1.0


@fails("test_every_option_is_described")
class Undescribed(Linear):
    options = UndescribedOptions


@fails("test_its_contract_is_found")
class NamesAContractThatIsNotThere(Linear):
    contract = "amdm_framework.testing:NoContract"


@fails("test_its_contract_is_found")
class NamesTheContractOfAnother(Linear):
    contract = "amdm_framework.testing:StrategyContract"


class NotANumberOptions(LinearOptions):
    strength: float = Field(default=1.0, ge=0, description="How much.")


@fails("test_odd_values_of_options_are_refused")
class AcceptsInfinity(Linear):
    options = NotANumberOptions


class ListOptions(LinearOptions):
    strengths: tuple[float, ...] = Field(default=(), description="How much of each.")


@fails("test_odd_values_of_options_are_refused")
class AcceptsNaNInAList(Linear):
    options = ListOptions


class StrippedOptions(LinearOptions):
    mode: Annotated[str, BeforeValidator(lambda text: text.strip())] = Field(default="plain", description="How.")


@fails("test_odd_values_of_options_are_refused")
class ExpectsAText(Linear):
    options = StrippedOptions


class RoundedOptions(LinearOptions):
    strength: float = Field(default=1.0, description="How much.")

    @field_serializer("strength")
    def _in_whole_numbers(self, strength: float) -> int:
        return round(strength)


@fails("test_options_survive_being_written_and_read")
class Rounded(Linear):
    options = RoundedOptions


@fails("test_lists_of_the_wrong_length_are_refused_by_name")
class CountsWeightsTooLate(Slerp):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        WindowedStrategy.begin(self, provider_count, num_inference_steps)
        self.fractions = [1 - weight for weight in self.settings.weights or [0.5] * (provider_count - 1)]


@fails("test_lists_of_the_wrong_length_are_refused_by_name")
class DoesNotSayWhichList(Slerp):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        if self.settings.weights is not None and len(self.settings.weights) != provider_count - 1:
            raise InputError("a list has the wrong length")
        super().begin(provider_count, num_inference_steps)


class StartingOptions(LinearOptions):
    first: int = Field(default=0, description="The first step.")


@fails("test_numbers_that_do_not_fit_the_run_are_refused_by_name")
class LooksUpAStep(Linear):
    options = StartingOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.first = list(range(num_inference_steps))[self.settings.first]


@fails("test_a_run_of_one_step_is_drawn_or_refused_by_name")
class NeedsTwoSteps(Linear):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.share = 1 / (num_inference_steps - 1)


@fails("test_one_provider_is_plain_sampling")
class LimitsTheTarget(Linear):
    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        return with_latents(super().advance(step, states, transition), lambda latents: latents.clamp(-1, 1))


@fails("test_an_empty_window_is_the_target_alone")
class AtLeastOneStep(Linear):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.stop = max(self.stop, 1)


@fails("test_all_weight_on_the_target_is_the_target_alone")
class WeightsTheOtherWayRound(Slerp):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.fractions = [1 - fraction for fraction in self.fractions]


@fails("test_the_target_goes_on_alone_after_the_window")
class GoesOnScaling(Linear):
    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        return with_latents(super().advance(step, states, transition), lambda latents: 1.01 * latents)


@fails("test_the_target_goes_on_alone_after_the_window")
class BothHalvesAfterTheWindow(Linear):
    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return super().evaluated(index) if self.in_window(index) else {0: Evaluation.BOTH_HALVES}


@fails("test_the_target_goes_on_alone_after_the_window")
class OneStepTooLong(Linear):
    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return super().evaluated(max(index - 1, 0))


@fails("test_members_that_agree_draw_the_targets_picture")
class SharesThatSumToMore(Linear):
    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        self.shares = [1.1 * share for share in self.shares]


@fails("test_results_are_finite")
class DividesByTheDistance(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        distance = per_sample_norm(states[1].epsilon - states[0].epsilon)
        scaled = with_latents(super().aggregate(step, states, transition), lambda latents: latents / distance)
        return with_latents(scaled, lambda latents: latents * distance)


@fails("test_shapes_and_dtypes_are_those_of_the_latents")
class InSinglePrecision(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        return with_latents(super().aggregate(step, states, transition), lambda latents: latents.float())


@fails("test_shapes_and_dtypes_are_those_of_the_latents")
class ForgetsTheSecondaries(Linear):
    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        return replace(
            super().advance(step, states, transition), latents=[super().advance(step, states, transition).latents[0]]
        )


@fails("test_an_image_of_a_batch_equals_its_single_run")
class OneNormForTheBatch(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        advance = super().aggregate(step, states, transition)
        return with_latents(advance, lambda latents: latents / latents.std() * states[0].latents.std())


@fails("test_an_image_of_a_batch_equals_its_single_run")
class CountsTheBoxesOfTheBatch(InstanceRelay):
    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        assert step.regions is not None
        scale = 1 + 0.01 * step.regions.shape[1]
        return with_latents(super().advance(step, states, transition), lambda latents: scale * latents)


@fails("test_equal_seeds_draw_equal_pictures")
class NoiseOfItsOwn(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        advance = super().aggregate(step, states, transition)
        return with_latents(advance, lambda latents: latents + 0.01 * torch.randn_like(latents))


@fails("test_no_noise_is_drawn_where_the_grid_adds_none")
class DrawsNoiseAnyhow(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        noise = transition.std * states[0].noise()
        return with_latents(super().aggregate(step, states, transition), lambda latents: latents + noise)


@fails("test_an_object_used_again_equals_a_fresh_one")
class RemembersTheRunBefore(Linear):
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.momentum = 0.0

    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        self.momentum = 0.5 * self.momentum + 0.01
        return with_latents(super().aggregate(step, states, transition), lambda latents: (1 + self.momentum) * latents)


@fails("test_changes_nothing_that_it_was_given")
class AddsInPlace(EpsilonAverage):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        states[0].epsilon.mul_(0.99)
        return super().aggregate(step, states, transition)


@fails("test_the_plan_depends_on_the_step_alone")
class StopsAfterItsFirstRun(Linear):
    stopped = False

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return {0: Evaluation.GUIDED} if self.stopped else super().evaluated(index)

    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        advance = super().advance(step, states, transition)
        self.stopped = step.index == step.count - 1
        return advance


@fails("test_the_plan_depends_on_the_step_alone")
class AsksForSomebodyWhoIsNotThere(Linear):
    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return {**super().evaluated(index), self.provider_count: Evaluation.GUIDED}


@fails("test_costs_what_amdm_check_counts")
class CheaperWhenAskedFirst(Linear):
    asked = 0

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        self.asked += 1
        return {0: Evaluation.GUIDED}

    def advance(self, step: Step, states: States, transition: Transition) -> Advance:
        return Advance([transition.sample(states[0].latents, states[0].epsilon, states[0].noise)] * len(states))

    def check_grid(self, grid: Sequence[Transition]) -> None:
        # The loop comes by here, `amdm check` does not.
        everybody = dict.fromkeys(range(self.provider_count), Evaluation.GUIDED)
        self.evaluated = lambda index: everybody  # type: ignore[method-assign]


@fails("test_reads_only_what_it_asked_for")
class ReadsTheTargetWhileItRests(Relay):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        own = transition.sample(states[0].latents, states[0].epsilon, states[0].noise)
        return with_latents(super().aggregate(step, states, transition), lambda latents: 0.5 * (latents + own))


@fails("test_every_prediction_that_it_asks_for_plays_a_part")
class AsksEverybodyAndReadsOne(Relay):
    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        return dict.fromkeys(range(self.provider_count), Evaluation.GUIDED)


@fails("test_lets_go_only_of_latents_that_nobody_needs_again")
class LetsGoTooEarly(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        advance = super().aggregate(step, states, transition)
        return replace(advance, latents=[advance.latents[0]] + [None] * (len(states) - 1))


@fails("test_shared_latents_are_one_tensor")
class SharesCopies(EpsilonAverage):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        return with_latents(super().aggregate(step, states, transition), lambda latents: latents.clone())


@fails("test_metrics_have_one_entry_per_provider")
class MeasuresTheTargetAlone(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        advance = super().aggregate(step, states, transition)
        return replace(advance, metrics={"cosine": advance.metrics["cosine"][:1]})


@fails("test_metrics_have_one_entry_per_provider")
class MeasuresTheBatch(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        return replace(super().aggregate(step, states, transition), metrics={"mean": [torch.ones(1)] * len(states)})


@fails("test_reviews_in_sentences")
class ReviewsInOneText(Linear):
    def review(self, trace: Trace) -> Any:
        return "all is well"


@fails("test_uses_neither_network_nor_files")
class ReadsAFile(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        Path(__file__).read_text()
        return super().aggregate(step, states, transition)


@fails("test_uses_neither_network_nor_files")
class TellsSomebody(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        with contextlib.suppress(OSError):
            socket.socket().close()
        return super().aggregate(step, states, transition)


@fails("test_never_waits_for_the_device")
class LooksAtAValue(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        if states[0].epsilon.abs().max() > 100:
            raise RuntimeError("this prediction is too large")
        return super().aggregate(step, states, transition)


@fails("test_never_waits_for_the_device")
class TakesItsFiguresHome(Linear):
    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        self.figures = per_sample_norm(states[0].epsilon).flatten().tolist()
        return super().aggregate(step, states, transition)


WAITING: dict[str, Callable[[torch.Tensor], object]] = {
    "a selection": lambda x: x[x > 0],
    "a selection of rows": lambda x: x[x.mean((1, 2, 3)) > 0],
    "writing into a selection": lambda x: x.clone().__setitem__(x > 0, x[x > 0] * 2),
    "to the CPU": lambda x: x.to("cpu"),
    "to the CPU by keyword": lambda x: x.to(device="cpu"),
    "repeating by a tensor": lambda x: x.repeat_interleave(torch.ones(len(x), dtype=torch.int64), 0),
    "distinct rows": lambda x: torch.unique(x, dim=0),
    "distinct neighbours": lambda x: torch.unique_consecutive(x),
    "comparing": lambda x: torch.allclose(x, x),
    "an inverse": lambda x: torch.linalg.inv(x),
    "printing": lambda x: f"{x.sum()}",
}
NOT_WAITING: dict[str, Callable[[torch.Tensor], object]] = {
    "a choice": lambda x: torch.where(x > 0, x, 0),
    "a slice": lambda x: x[:, 1:],
    "positions": lambda x: x[torch.tensor([1, 0])],
    "filling a selection": lambda x: x.clone().__setitem__(x > 0, 0.0),
    "another dtype": lambda x: x.to(torch.float32),
    "the device of another": lambda x: x.to(x.device),
    "repeating by a number": lambda x: x.repeat_interleave(2, 0),
}


@pytest.mark.parametrize("operation", WAITING)
def test_operations_that_wait_are_found(operation: str) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with NeverWaiting() as waiting:
        WAITING[operation](latents)
    assert waiting.found


@pytest.mark.parametrize("operation", NOT_WAITING)
def test_operations_that_do_not_wait_are_not(operation: str) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with NeverWaiting() as waiting:
        NOT_WAITING[operation](latents)
    assert not waiting.found


class TakesTheLarger(EpsilonAverage):
    """A rule that selects by comparison."""

    def aggregate(self, step: Step, states: States, transition: Transition) -> Advance:
        largest = states[0].epsilon
        for state in states[1:]:
            largest = torch.where(state.epsilon > largest, state.epsilon, largest)
        return advance_together(largest, states, transition)


def test_a_rule_that_selects_reads_what_it_asks_for() -> None:
    contract = type("Selecting", (StrategyContract,), {"strategy": TakesTheLarger})
    contract().test_every_prediction_that_it_asks_for_plays_a_part()


class NeededOptions(LinearOptions):
    strength: float = Field(ge=0, le=1, allow_inf_nan=False, description="How much; no default.")


class NeedsAnOption(Linear):
    options = NeededOptions


@pytest.mark.parametrize(
    ("base", "outcome"),
    [(StrategyContract, pytest.fail.Exception), (GeneralStrategyContract, pytest.skip.Exception)],
)
def test_an_option_without_a_default_is_asked_for(base: type[StrategyContract], outcome: type[BaseException]) -> None:
    contract = type("Needing", (base,), {"strategy": NeedsAnOption})
    with pytest.raises(outcome, match="strength"):
        contract().test_results_are_finite()
    # What needs no run is checked all the same.
    contract().test_every_option_is_described()
    given = type("Given", (base,), {"strategy": NeedsAnOption, "options": {"strength": 0.5}})
    given().test_results_are_finite()


@pytest.mark.parametrize(("test", "contract"), MUTANTS)
def test_a_broken_strategy_is_found(test: str, contract: type[StrategyContract]) -> None:
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            getattr(contract(), test)()
    except pytest.skip.Exception:
        pytest.fail(f"{test} does not look at {contract.strategy.__name__}")


def test_every_test_of_the_contract_can_fail() -> None:
    tests = {name for name in dir(StrategyContract) if name.startswith("test_")}
    assert {parameters.values[0] for parameters in MUTANTS} == tests
