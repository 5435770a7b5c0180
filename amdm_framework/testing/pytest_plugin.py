"""What pytest does for the contract kit wherever the framework is installed. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .model_under_test import ModelUnderTest

# Before they are imported, so that a failed check shows the values it compared.
pytest.register_assert_rewrite(
    *(
        f"amdm_framework.testing.{module}"
        for module in (
            "input_checks",
            "loading_checks",
            "model_under_test",
            "prediction_checks",
            "run_checks",
            "spec_checks",
            "strategy_contract",
        )
    )
)


@pytest.fixture(scope="class")
def model_under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    """The tiny model of a `ProviderContract`, loaded once for all of its tests."""
    from .model_under_test import ModelUnderTest

    contract = request.cls()
    return ModelUnderTest(contract, tmp_path_factory.mktemp(contract.spec.name))
