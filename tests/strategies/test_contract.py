"""Every built-in strategy keeps the contract that authors of others inherit."""

from __future__ import annotations

from typing import Any, ClassVar

from amdm_framework.strategies.alternate import Alternate
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.builtin import BUILTIN_STRATEGIES
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.instance_relay import InstanceRelay
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.strategies.superdiff import SuperDiffAnd, SuperDiffOr
from amdm_framework.testing import StrategyContract


class TestAMDM(StrategyContract):
    strategy = AMDM
    # Two equal samples become one of 1.366 times their length.
    keeps_agreement = False


class TestAMDMInTheUnitForm(StrategyContract):
    strategy = AMDM
    options: ClassVar[dict[str, Any]] = {
        "window": [1, 5],
        "coefficients": "unit",
        "step_sizes": [0.3] * 3,
        "step_size_unit": "fraction",
    }
    provider_counts = (3,)
    keeps_agreement = False


class TestAMDMAuthors(StrategyContract):
    strategy = AMDMAuthors
    keeps_agreement = False

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        # A step leads back to where the model came from, also with all weight on the target.
        return [{"weights": [1.0] * (count - 1), "step_sizes": [0.0] * count}]


class TestSlerp(StrategyContract):
    strategy = Slerp


class TestLinear(StrategyContract):
    strategy = Linear

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        shares = [1.0] + [0.0] * (count - 1)
        return [{"shares": shares}, {"shares": shares, "keep_norm": True}]


class TestLinearKeepingNorms(StrategyContract):
    strategy = Linear
    options: ClassVar[dict[str, Any]] = {"keep_norm": True, "shares": [3, 1]}
    provider_counts = (2,)


class TestEpsilonAverage(StrategyContract):
    strategy = EpsilonAverage

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        return [{"shares": [1.0] + [0.0] * (count - 1)}]


class TestComposable(StrategyContract):
    strategy = Composable
    # Guidance of all members adds up.
    keeps_agreement = False

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        return [{"scales": [3.0] + [0.0] * (count - 1)}]


class TestComposableWithOwnUnconditionalHalves(StrategyContract):
    strategy = Composable
    options: ClassVar[dict[str, Any]] = {"unconditional": "own"}
    keeps_agreement = False


class TestAlternate(StrategyContract):
    strategy = Alternate

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        return [{"order": [0]}]


class TestRelay(StrategyContract):
    strategy = Relay


class TestInstanceRelay(StrategyContract):
    strategy = InstanceRelay

    def target_alone(self, count: int) -> list[dict[str, Any]]:
        return [{"secondary_steps": 0, "instance_steps": 0}]


class TestInstanceRelayWithABackground(StrategyContract):
    strategy = InstanceRelay
    options: ClassVar[dict[str, Any]] = {
        "modes": ["instances", "background"],
        "target_outside": True,
        "limit_quantile": 0.9,
    }
    provider_counts = (3,)
    # Its limit on x0 holds for what all members agree on, too.
    keeps_agreement = False


class TestSuperDiffAnd(StrategyContract):
    strategy = SuperDiffAnd


class TestSuperDiffOr(StrategyContract):
    strategy = SuperDiffOr
    options: ClassVar[dict[str, Any]] = {"temperature": 0.1}


class TestSingle(StrategyContract):
    strategy = Single


def test_no_built_in_strategy_is_left_out() -> None:
    tested = {cls.strategy for cls in globals().values() if isinstance(cls, type) and hasattr(cls, "strategy")}
    assert tested == set(BUILTIN_STRATEGIES)
