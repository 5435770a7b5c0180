"""What a strategy says of itself, and what it makes of options, good and bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
from pydantic import ValidationError

from ..descriptions import describe_options
from ..errors import InputError, PluginError
from ..plugin_checks import check_strategy
from .closed_form import toy_providers
from .input_checks import ODD_VALUES
from .strategy_checks import StrategyChecks
from .strategy_runs import STEPS, draw, example_options


class OptionChecks(StrategyChecks):
    """Tests of the class and its options."""

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

    def test_its_contract_is_found(self) -> None:
        """`amdm plugin-check` finds the author's contract by `contract = "module:Class"`, which leads elsewhere."""
        named = self.strategy.contract
        if named is None:
            pytest.skip("the strategy names no contract")
        module, _, name = named.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            pytest.fail(f"contract {named!r} leads nowhere: {error}")
        tested = getattr(found, "strategy", None)
        assert tested is self.strategy, f"contract {named!r} is that of {tested}, not of {self.strategy.__name__}"

    def test_options_survive_being_written_and_read(self) -> None:
        """A picture carries its composition, from which it is drawn again."""
        for name, value in [("", None), *example_options(self.strategy.options)]:
            try:
                settings = self.settings(**({name: value} if name else {}))
            except ValidationError:
                continue
            again = self.strategy.options.model_validate_json(settings.model_dump_json())
            assert again == settings, f"options read as {again} after they were written as {settings}"

    def test_odd_values_of_options_are_refused(self) -> None:
        """A wrong value in a composition passes as NaN or infinity, or ends in an error of Python in a validator."""
        for name in self.strategy.options.model_fields:
            for value in (*ODD_VALUES, [math.nan], [math.inf], [[math.nan]]):
                try:
                    settings = self.settings(**{name: value})
                except ValidationError:
                    continue
                except Exception as error:
                    pytest.fail(f"{name}={value!r}: a validator fails with {type(error).__name__}: {error}")
                assert _is_finite(settings.model_dump()[name]), (
                    f"{name}={value!r} is accepted: Field(allow_inf_nan=False), as pictures of it cannot be recorded"
                )

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

    def _expect_acceptance_or_refusal(self, changes: dict[str, Any], key: str, steps: int = STEPS) -> None:
        try:
            settings = self.settings(**changes)
        except ValidationError:
            return
        for count in self.provider_counts:
            providers = toy_providers(count)
            try:
                drawn = draw(self.strategy(settings), count, self.etas(count)[-1], steps=steps, providers=providers)
            except InputError as error:
                keys = [problem.key for problem in error.problems]
                assert all(found.startswith(key) for found in keys), f"{changes}: refused at {keys}, expected {key}"
                assert not any(provider.calls for provider in providers), f"{changes}: refused in the middle of the run"
            except Exception as error:  # whatever else it is, its user cannot read it
                pytest.fail(f"{changes} with {count} providers: {type(error).__name__} {error}, expected an InputError")
            else:
                assert drawn.latents.isfinite().all(), f"{changes}: accepted, but the result is not finite"


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
