"""What every aggregation strategy must hold to, as tests that an author of one inherits.

    # amdm_strategy_my_rule/contract.py
    class MyRuleContract(StrategyContract):
        strategy = MyRule

    # tests/test_my_rule.py
    from amdm_strategy_my_rule.contract import MyRuleContract as TestContract

The strategy's own `contract = "amdm_strategy_my_rule.contract:MyRuleContract"` lets `amdm plugin-check my_rule` find it
where the package is installed.

The tests are inherited from `strategy_option_checks.py` and its neighbours: each docstring says what is wrong with a
strategy where it fails.
"""

from __future__ import annotations

import pytest

from .strategy_option_checks import OptionChecks
from .strategy_plan_checks import PlanChecks
from .strategy_result_checks import ResultChecks
from .strategy_surroundings_checks import SurroundingsChecks
from .strategy_target_checks import TargetChecks


# Pytest runs the tests of the last base first: the quickest ones, whose defects explain others.
class StrategyContract(SurroundingsChecks, PlanChecks, ResultChecks, TargetChecks, OptionChecks):
    """Tests of one strategy, on predictions in closed form that go through the real denoising loop.

    Subclass it under a name that begins with `Test` in a file that pytest collects, or import it there under one; runs
    have 8 steps.

    Attributes:
        strategy: the class under test.
        options: its options, as a composition would give them; more than one set takes more than one subclass.
        provider_counts: numbers of providers it works with, for strategies or options that fit only some.
        keeps_agreement: whether members that all predict the same draw what the target alone draws. False for rules
            that amplify what members agree on.
    """


class GeneralStrategyContract(StrategyContract):
    """What is checked of a strategy whose author names no contract: two tests need what only that contract says."""

    def test_members_that_agree_draw_the_targets_picture(self) -> None:
        """Only the author's contract says whether they do."""
        pytest.skip("`keeps_agreement` is for the strategy's own contract to say")

    def test_all_weight_on_the_target_is_the_target_alone(self) -> None:
        """Only the author's contract says with which options."""
        pytest.skip("`target_alone` is for the strategy's own contract to say")

    def without_options(self, missing: list[str]) -> None:
        pytest.skip(
            f"{', '.join(missing)}: no default. Give values in a subclass of StrategyContract, and name it in the "
            'strategy: contract = "module:Class"'
        )
