"""What every aggregation strategy must hold to, as tests that an author of one inherits."""

from __future__ import annotations

import builtins
import io
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from ..descriptions import describe_options
from ..errors import InputError, PluginError
from ..plugin_checks import check_strategy
from ..sampling.guidance import Guidance
from ..sampling.plan import evaluation_plan
from ..sampling.transition import transitions
from ..strategies.base import Advance, AggregationStrategy, Evaluation, WindowedStrategy
from ..strategies.single import Single
from .closed_form import STABLE_DIFFUSION_SCHEDULE, toy_providers
from .strategy_runs import (
    SEEDS,
    STEPS,
    Drawn,
    NeverWaiting,
    draw,
    example_options,
    same_providers,
    watch_advance,
)

_NOT_SQUARE = (4, 6, 10)


class StrategyContract:
    """Tests of one strategy, on predictions in closed form that go through the real denoising loop.

    Subclass it under a name that begins with `Test` in a file that pytest collects; runs have 8 steps.

    Attributes:
        strategy: the class under test.
        options: its options, as a composition would give them; more than one set takes more than one subclass.
        provider_counts: numbers of providers it works with, for strategies or options that fit only some.
        keeps_agreement: whether members that all predict the same draw what the target alone draws. False for rules
            that amplify what members agree on.
    """

    strategy: ClassVar[type[AggregationStrategy]]
    options: ClassVar[dict[str, Any]] = {}
    provider_counts: ClassVar[tuple[int, ...]] = (1, 2, 3)
    keeps_agreement: ClassVar[bool] = True

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        """Return all sets of options that give everything to the target: with them the picture is the target's own.

        Args:
            count: the number of providers.
        """
        return [{"weights": [1.0] * (count - 1)}] if "weights" in self.strategy.options.model_fields else []

    # What it says of itself.

    def test_says_what_it_is(self) -> None:
        """Name, summary, formula, space and source are what `amdm strategies` prints."""
        try:
            check_strategy(self.strategy)
        except PluginError as error:
            pytest.fail(str(error))
        for attribute in ("summary", "formula", "source"):
            assert "\n" not in getattr(self.strategy, attribute), f"{attribute} has more than one line"

    def test_every_option_is_described(self) -> None:
        """Descriptions are what `amdm strategies NAME` and editors show."""
        undescribed = [row.name for row in describe_options(self.strategy.options) if not row.description]
        assert not undescribed, f"options without `Field(description=...)`: {undescribed}"

    def test_options_survive_being_written_and_read(self) -> None:
        """A picture carries its composition, from which it is drawn again."""
        for name, value in [("", None), *example_options(self.strategy.options)]:
            try:
                settings = self.strategy.options.model_validate({**self.options, **({name: value} if name else {})})
            except ValidationError:
                continue
            again = self.strategy.options.model_validate_json(settings.model_dump_json())
            assert again == settings, f"options read as {again} after they were written as {settings}"

    # Mistakes of its users.

    def test_lists_of_the_wrong_length_are_refused_by_name(self) -> None:
        """A list is accepted, or refused before anything is evaluated by an `InputError` at `aggregation.NAME`."""
        for length in (1, 4):
            for name, value in example_options(self.strategy.options, length):
                if isinstance(value, list):
                    self._expect_acceptance_or_refusal({name: value}, f"aggregation.{name}")

    def test_numbers_that_do_not_fit_the_run_are_refused_by_name(self) -> None:
        """A count of a thousand in a run of 8 steps is accepted, or refused at a key of the aggregation."""
        for name, value in example_options(self.strategy.options):
            if isinstance(value, int) and not isinstance(value, bool):
                self._expect_acceptance_or_refusal({name: 1000}, "aggregation.")

    def test_a_run_of_one_step_is_drawn_or_refused_by_name(self) -> None:
        """Windows may be longer than the shortest runs."""
        self._expect_acceptance_or_refusal({}, "aggregation.", steps=1)

    # When it leaves the target alone.

    def test_one_provider_is_plain_sampling(self) -> None:
        """Without secondaries there is nothing to aggregate."""
        if 1 not in self.provider_counts:
            pytest.skip("the strategy does not work with one provider")
        for eta in self._etas(1):
            self._expect_target_alone(self._draw(1, eta), 1, eta, exact=True)

    def test_an_empty_window_is_the_target_alone(self) -> None:
        """`steps: 0`, or a window that ends where it begins, switches a strategy off, whatever the grid."""
        if "steps" not in self.strategy.options.model_fields:
            pytest.skip("the strategy has no `steps`")
        windows: list[dict[str, Any]] = [{"steps": 0}]
        if issubclass(self.strategy, WindowedStrategy):
            windows.append({"window": [3, 3]})
        others = {key: value for key, value in self.options.items() if key not in ("steps", "window")}
        for count in self.provider_counts:
            for window in windows:
                for eta in (0.0, 1.0):
                    drawn = draw(self.strategy(self.strategy.options(**others, **window)), count, eta)
                    assert all(set(step) == {0} for step in drawn.plan), f"secondaries are evaluated with {window}"
                    self._expect_target_alone(drawn, count, eta, exact=True)

    def test_all_weight_on_the_target_is_the_target_alone(self) -> None:
        """In every way that `target_alone` names; of `weights`, 1 keeps what was aggregated so far."""
        named = False
        for count in self._several():
            for options in self.target_alone(count):
                named = True
                eta = self._etas(count, **options)[0]
                drawn = draw(self._make(**options), count, eta, same_start=True)
                self._expect_target_alone(drawn, count, eta, exact=False)
        if not named:
            pytest.skip("no options give all weight to the target")

    def test_the_target_goes_on_alone_after_the_window(self) -> None:
        """Once no secondary is asked for any more, the target's steps are those of plain sampling."""
        fields = self.strategy.options.model_fields
        options = {"steps": 3} if "steps" in fields and "window" not in self.options else {}
        for count in self._several():
            for eta in self._etas(count, **options):
                strategy = self._make(**options)
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
        for count in self._several():
            for eta in self._etas(count):
                alone = draw(_single(), count, eta, providers=same_providers(count), same_start=True, same_noise=True)
                found = self._draw(count, eta, providers=same_providers(count), same_start=True, same_noise=True)
                kept = torch.allclose(found.latents, alone.latents, rtol=1e-9, atol=1e-9)
                assert kept == self.keeps_agreement, f"keeps_agreement is {self.keeps_agreement}, found {kept}"

    # What it computes.

    def test_results_are_finite(self) -> None:
        """With any number of providers, with and without noise and guidance, also where all members agree."""
        for count in self.provider_counts:
            for eta in self._etas(count):
                unguided = self._draw(count, eta, guidance=Guidance(scale=1.0))
                assert unguided.latents.isfinite().all(), f"not finite with {count} providers, eta {eta}, no guidance"
                agreed = self._draw(count, eta, providers=same_providers(count), same_start=True, same_noise=True)
                assert agreed.latents.isfinite().all(), f"not finite where {count} providers agree, eta {eta}"

    def test_shapes_and_dtypes_are_those_of_the_latents(self) -> None:
        """Double precision stays double, and latents need not be square."""
        for count in self.provider_counts:
            for dtype in (torch.float32, torch.float64):
                strategy = self._make()
                with watch_advance(strategy, after=partial(_check_latents, count=count, dtype=dtype)):
                    draw(strategy, count, self._etas(count)[0], dtype=dtype, shape=_NOT_SQUARE)

    def test_an_image_of_a_batch_equals_its_single_run(self) -> None:
        """Whatever its neighbours are and however many instances they have."""
        for count in self.provider_counts:
            for eta in self._etas(count):
                batch = self._draw(count, eta).latents
                singles = [self._draw(count, eta, seeds=[seed]).latents for seed in SEEDS]
                torch.testing.assert_close(batch, torch.cat(singles), rtol=1e-9, atol=1e-9)

    def test_equal_seeds_draw_equal_pictures(self) -> None:
        """All randomness comes from `state.noise`, none from torch's global generator."""
        for count in self.provider_counts:
            for eta in self._etas(count):
                pictures = []
                for seed in (1, 2):
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(seed)
                        pictures.append(self._draw(count, eta).latents)
                assert torch.equal(*pictures), "two runs of equal seeds differ"

    def test_no_noise_is_drawn_where_the_grid_adds_none(self) -> None:
        """A deterministic run takes nothing from the generators."""
        for count in self.provider_counts:
            if 0.0 in self._etas(count):
                assert not self._draw(count).noise, "noise was drawn at eta 0"

    def test_an_object_used_again_equals_a_fresh_one(self) -> None:
        """`begin` forgets the run before, which may have had another size."""
        used = self._make()
        for count in (*self.provider_counts, *reversed(self.provider_counts)):
            eta = self._etas(count)[-1]
            draw(used, count, eta, seeds=[11], steps=STEPS + 1)
            again, fresh = draw(used, count, eta), self._draw(count, eta)
            assert torch.equal(again.latents, fresh.latents), "the second run of an object differs from a first"

    def test_changes_nothing_that_it_was_given(self) -> None:
        """Latents, predictions and regions belong to the loop: an operation in place would reach others."""
        for count in self.provider_counts:
            strategy = self._make()
            given: list[torch.Tensor] = []
            copies: list[torch.Tensor] = []
            with watch_advance(strategy, partial(_remember, given, copies)):
                draw(strategy, count, self._etas(count)[0])
            assert all(map(torch.equal, given, copies)), "a tensor of the states or the regions was changed"

    # What it asks for.

    def test_the_plan_depends_on_the_step_alone(self) -> None:
        """`evaluated` is asked in any order, before a run and without one: for its cost, and for what can be freed."""
        for count in self.provider_counts:
            strategy = self._make()
            strategy.begin(count, STEPS)
            plan = [dict(strategy.evaluated(index)) for index in range(STEPS)]
            for index, step in enumerate(plan):
                assert step, f"nobody is evaluated at step {index}"
                assert set(step) <= set(range(count)), f"step {index} asks for {sorted(step)} of {count} providers"
                assert all(isinstance(evaluation, Evaluation) for evaluation in step.values())
            for index in reversed(range(STEPS)):
                assert dict(strategy.evaluated(index)) == plan[index], f"step {index} asks for others the second time"
            draw(strategy, count, self._etas(count)[0])
            assert [dict(strategy.evaluated(index)) for index in range(STEPS)] == plan, "a run changes the plan"

    def test_costs_what_amdm_check_counts(self) -> None:
        """The networks run as often as the plan of a strategy that has not run says, both halves where it says so."""
        guidance = Guidance(scale=3.0, start=0.25, stop=0.75)
        for count in self.provider_counts:
            planned = self._make()
            planned.begin(count, STEPS)
            expected = evaluation_plan(planned, [guidance] * count, STEPS)
            drawn = self._draw(count, self._etas(count)[0], guidance=guidance)
            found: list[dict[int, int]] = [{} for _ in range(STEPS)]
            for k, calls in enumerate(drawn.calls):
                for step in calls:
                    found[step.index][k] = 1 + step.guided
            assert found == list(map(dict, expected)), "the networks ran otherwise than planned"

    def test_reads_only_what_it_asked_for(self) -> None:
        """Providers that are not evaluated at a step have no prediction there, and no unconditional one unasked."""
        for count in self.provider_counts:
            for eta in self._etas(count):
                try:
                    self._draw(count, eta)
                except (RuntimeError, TypeError, AttributeError) as error:
                    pytest.fail(f"with {count} providers and eta {eta}: {error}")

    def test_every_prediction_that_it_asks_for_plays_a_part(self) -> None:
        """An evaluation that the picture does not depend on costs time for nothing: a NaN in it must show."""
        count = max(self.provider_counts)
        eta = self._etas(count)[0]
        for index, step in enumerate(self._draw(count, eta).plan):
            for k in step:
                providers = toy_providers(count)
                providers[k].not_a_number_at = index
                latents = self._draw(count, eta, providers=providers).latents
                assert latents.isnan().any(), f"provider {k} is evaluated at step {index} for nothing"

    def test_lets_go_only_of_latents_that_nobody_needs_again(self) -> None:
        """None stands for latents of providers that no later step asks for; in its place the loop shows the target's."""
        for count in self.provider_counts:
            drawn = self._draw(count, self._etas(count)[0])
            for index, report in enumerate(drawn.reports):
                later = {0}.union(*drawn.plan[index + 1 :])
                lost = [k for k, latents in enumerate(report.latents) if latents is None and k in later]
                assert not lost, f"step {index} has no latents for {lost}, who are evaluated later"

    def test_shared_latents_are_one_tensor(self) -> None:
        """`shared_latents` promises that all providers look at the very same latents."""
        if not self.strategy.shared_latents:
            pytest.skip("the providers have latents of their own")
        for count in self.provider_counts:
            for report in self._draw(count, self._etas(count)[0]).reports:
                different = [one for one in report.latents if one is not None and one is not report.latents[0]]
                assert not different, f"step {report.step.index} returns different latents"

    # What surrounds it.

    def test_metrics_have_one_entry_per_provider(self) -> None:
        """Each with one finite value per image, or None."""
        for count in self.provider_counts:
            strategy = self._make()
            with watch_advance(strategy, after=partial(_check_metrics, count=count)):
                draw(strategy, count, self._etas(count)[0])

    def test_reviews_in_sentences(self) -> None:
        """`review` returns a list of warnings, which may be empty."""
        for count in self.provider_counts:
            strategy = self._make()
            found = strategy.review(draw(strategy, count, self._etas(count)[0]).trace)
            assert isinstance(found, list), f"review returns {type(found).__name__}, expected a list"
            assert all(isinstance(sentence, str) and sentence for sentence in found)

    def test_uses_neither_network_nor_files(self) -> None:
        """A step is arithmetic."""
        count = max(self.provider_counts)
        eta = self._etas(count)[0]
        # What torch imports when it is first used is in memory after this.
        self._draw(count, eta)
        attempts: list[str] = []

        def refuse(*arguments: Any, **_: Any) -> Any:
            attempts.append(str(arguments[:1]))
            raise OSError("a strategy may use neither network nor files")

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((socket, "socket"), (builtins, "open"), (io, "open"), (os, "open")):
                patch.setattr(owner, name, refuse)
            try:
                self._draw(count, eta)
            except OSError as error:
                attempts.append(str(error))
        assert not attempts, f"network or files were used: {attempts}"

    def test_never_waits_for_the_device(self) -> None:
        """Reading a value (`.item()`, `if tensor:`, `.tolist()`, `.cpu()`) stops Python until a GPU is done with all."""
        for count in self.provider_counts:
            for eta in self._etas(count):
                strategy = self._make()
                waiting = NeverWaiting()
                with watch_advance(strategy, inside=waiting):
                    draw(strategy, count, eta)
                assert not waiting.found, f"{', '.join(sorted(waiting.found))} wait for the device"

    # How the tests run it.

    def _several(self) -> list[int]:
        return [count for count in self.provider_counts if count > 1]

    def _make(self, **changes: Any) -> AggregationStrategy:
        return self.strategy(self.strategy.options(**{**self.options, **changes}))

    def _draw(self, count: int, eta: float = 0.0, **arguments: Any) -> Drawn:
        return draw(self._make(), count, eta, **arguments)

    def _etas(self, count: int, **changes: Any) -> list[float]:
        etas = []
        for eta in (0.0, 1.0):
            strategy = self._make(**changes)
            strategy.begin(count, STEPS)
            try:
                strategy.check_grid(transitions(STABLE_DIFFUSION_SCHEDULE, STEPS, eta))
            except InputError:
                continue
            etas.append(eta)
        assert etas, "check_grid refuses both eta 0 and eta 1"
        return etas

    def _expect_target_alone(self, drawn: Drawn, count: int, eta: float, exact: bool) -> None:
        alone = draw(_single(), count, eta, same_start=True).latents
        tolerance = 0.0 if exact else 1e-9
        torch.testing.assert_close(drawn.latents, alone, rtol=tolerance, atol=tolerance)

    def _expect_acceptance_or_refusal(self, changes: dict[str, Any], key: str, steps: int = STEPS) -> None:
        try:
            settings = self.strategy.options.model_validate({**self.options, **changes})
        except ValidationError:
            return
        for count in self.provider_counts:
            providers = toy_providers(count)
            try:
                drawn = draw(self.strategy(settings), count, self._etas(count)[-1], steps=steps, providers=providers)
            except InputError as error:
                keys = [problem.key for problem in error.problems]
                assert all(found.startswith(key) for found in keys), f"{changes}: refused at {keys}, expected {key}"
                assert not any(provider.calls for provider in providers), f"{changes}: refused in the middle of the run"
            except Exception as error:  # whatever else it is, its user cannot read it
                pytest.fail(f"{changes} with {count} providers: {type(error).__name__} {error}, expected an InputError")
            else:
                assert drawn.latents.isfinite().all(), f"{changes}: accepted, but the result is not finite"


def _single() -> AggregationStrategy:
    return Single(Single.options())


def _remember(given: list[torch.Tensor], copies: list[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    given += tensors
    copies += [tensor.clone() for tensor in tensors]


def _check_latents(advance: Advance, count: int, dtype: torch.dtype) -> None:
    assert len(advance.latents) == count, f"found {len(advance.latents)} latents, expected {count}"
    for latents in advance.latents:
        if latents is not None:
            assert latents.shape == (len(SEEDS), *_NOT_SQUARE)
            assert latents.dtype == dtype


def _check_metrics(advance: Advance, count: int) -> None:
    for name, columns in advance.metrics.items():
        assert len(columns) == count, f"metric {name} has {len(columns)} entries for {count} providers"
        for column in columns:
            if column is not None:
                assert column.shape == (len(SEEDS),), f"metric {name} has shape {list(column.shape)}"
                assert column.isfinite().all(), f"metric {name} is not finite"
