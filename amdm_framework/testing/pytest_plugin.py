"""What pytest does for the contract kit wherever the framework is installed. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .model_under_test import ModelUnderTest

REWRITTEN = (
    "amdm_framework.testing.input_checks",
    "amdm_framework.testing.loading_checks",
    "amdm_framework.testing.model_under_test",
    "amdm_framework.testing.prediction_checks",
    "amdm_framework.testing.run_checks",
    "amdm_framework.testing.spec_checks",
    "amdm_framework.testing.strategy_checks",
    "amdm_framework.testing.strategy_option_checks",
    "amdm_framework.testing.strategy_plan_checks",
    "amdm_framework.testing.strategy_result_checks",
    "amdm_framework.testing.strategy_runs",
    "amdm_framework.testing.strategy_surroundings_checks",
    "amdm_framework.testing.strategy_target_checks",
)
"""Modules with asserts, of which a failed one shall show the values it compared."""

# Before they are imported.
pytest.register_assert_rewrite(*REWRITTEN)


@pytest.fixture(scope="class")
def model_under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    """The tiny model of a `ProviderContract`, loaded once for all of its tests."""
    from .model_under_test import ModelUnderTest

    contract = request.cls()
    return ModelUnderTest(contract, tmp_path_factory.mktemp(contract.spec.name))
