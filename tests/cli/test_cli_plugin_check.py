"""`amdm plugin-check`: contracts of installed plugins, what is checked without one, exit codes, pytest missing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_line import invoke
from fake_distributions import strategy_module, write_distribution

CONTRACTS = """
from broken_providers import MUTANTS
from small_provider import SPEC, SmallContract

def named(spec, name, contract):
    return spec.model_copy(update={"name": name, "contract": contract})

GOOD = named(SPEC, "good_model", "contracts_of_models:Good")
BROKEN = named(MUTANTS["DoesNotClamp"].spec, "broken_model", "contracts_of_models:Broken")
BARE = named(SPEC, "bare_model", None)
LOST = named(SPEC, "lost_model", "contracts_of_models:Lost")

class Good(SmallContract):
    spec = GOOD

class Broken(SmallContract):
    spec = BROKEN
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a distribution `good-package` that registers some of the models of `CONTRACTS`."""

    def write(*models: str) -> None:
        (tmp_path / "contracts_of_models.py").write_text(CONTRACTS)
        registered = "; ".join(f"register(models.{model})" for model in models)
        hook = f"""
            from amdm_framework import hookimpl

            @hookimpl
            def register_providers(register):
                import contracts_of_models as models
                {registered}
        """
        write_distribution(tmp_path, "good-package", hook)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("AMDM_LOAD_PLUGINS", "good-package")

    yield write
    for module in ("contracts_of_models", "good_package"):
        sys.modules.pop(module, None)


def test_a_contract_that_is_kept(install: Callable[..., None]) -> None:
    install("GOOD")
    lines = invoke("plugin-check", "good_model").stdout.splitlines()
    assert lines[0] == "provider good_model"
    assert "  ok    an image of a batch equals the single run" in lines
    assert re.match(r"\d+ checks: \d+ passed", lines[-1]) and "failed" not in lines[-1]


def test_a_failed_check_says_what_is_wrong_and_what_was_found(install: Callable[..., None]) -> None:
    install("BROKEN")
    lines = invoke("plugin-check", "broken_model", code=1).stdout.splitlines()
    place = lines.index("  FAIL  decoded pictures lie between 0 and 1")
    assert lines[place + 1].strip().startswith("`decode` returns float32 (B, 3, H * scale, W * scale) in [0, 1]")
    assert "clamp (x / 2 + 0.5) to [0, 1]" in lines[place + 2]
    assert "1 failed" in lines[-1]


def test_without_a_contract_what_needs_no_model_is_checked(install: Callable[..., None]) -> None:
    install("BARE")
    lines = invoke("plugin-check", "bare_model").stdout.splitlines()
    assert "  ok    every option is described" in lines
    assert not any("batch" in line for line in lines)
    assert lines[-1].startswith("no contract: ") and "ProviderContract" in lines[-1]


def test_a_distribution_is_checked_with_all_that_it_registers(install: Callable[..., None]) -> None:
    install("BARE", "BROKEN")
    reports = json.loads(invoke("plugin-check", "good-package", "--json", code=1).stdout)
    assert [(report["name"], report["complete"]) for report in reports] == [
        ("bare_model", False),
        ("broken_model", True),
    ]
    failed = [check["name"] for report in reports for check in report["checks"] if check["outcome"] == "failed"]
    assert failed == ["test_decoded_pictures_lie_between_0_and_1"]


def test_a_strategy_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution(tmp_path, "good-strategy", strategy_module("pulling"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AMDM_LOAD_PLUGINS", "good-strategy")
    lines = invoke("plugin-check", "pulling", code=1).stdout.splitlines()
    assert lines[0] == "strategy pulling"
    # It never moves.
    assert "  FAIL  one provider is plain sampling" in lines


NEEDS_AN_OPTION = """
from typing import Any, ClassVar
from pydantic import Field
from amdm_framework import hookimpl
from amdm_framework.strategies.linear import Linear, LinearOptions

class Options(LinearOptions):
    strength: float = Field(ge=0, le=1, allow_inf_nan=False, description="How much; no default.")

class Needing(Linear):
    name = "needing"
    options = Options
    CONTRACT

@hookimpl
def register_strategies(register):
    register(Needing)
"""

ITS_CONTRACT = """
from amdm_framework.testing import StrategyContract
from needing_strategy import Needing

class NeedingContract(StrategyContract):
    strategy = Needing
    options = {"strength": 0.5}
    provider_counts = (2,)
"""


@pytest.fixture
def install_needing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs a strategy that has an option without a default, with or without the line that names its contract."""

    def write(contract: str) -> None:
        write_distribution(tmp_path, "needing-strategy", NEEDS_AN_OPTION.replace("CONTRACT", contract))
        (tmp_path / "needing_contract.py").write_text(ITS_CONTRACT)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("AMDM_LOAD_PLUGINS", "needing-strategy")

    yield write
    for module in ("needing_strategy", "needing_contract"):
        sys.modules.pop(module, None)


def test_a_strategy_is_checked_by_its_own_contract(install_needing: Callable[[str], None]) -> None:
    install_needing('contract: ClassVar[Any] = "needing_contract:NeedingContract"')
    (report,) = json.loads(invoke("plugin-check", "needing", "--json").stdout)
    assert report["complete"]
    outcomes = {check["name"]: check["outcome"] for check in report["checks"]}
    assert outcomes["test_results_are_finite"] == outcomes["test_its_contract_is_found"] == "passed"
    # This one the general contract skips.
    assert outcomes["test_members_that_agree_draw_the_targets_picture"] == "passed"


def test_without_a_contract_runs_that_need_an_option_are_skipped(install_needing: Callable[[str], None]) -> None:
    install_needing("")
    lines = invoke("plugin-check", "needing").stdout.splitlines()
    assert "  ok    every option is described" in lines
    place = lines.index("  skip  results are finite")
    assert lines[place + 1].strip().startswith("strength: no default. Give values in a subclass of StrategyContract")
    assert lines[-1].startswith("no contract: ") and "StrategyContract" in lines[-1]


def test_a_strategy_that_adds_up_is_not_taken_for_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")
    invoke("plugin-check", "amdm_authors")


def test_what_is_not_there_is_refused(install: Callable[..., None]) -> None:
    install("GOOD")
    error = invoke("plugin-check", "god_model", code=2).stderr
    assert "there is no provider, strategy or distribution 'god_model'. Did you mean 'good_model'?" in error


def test_a_broken_plugin_is_refused(install: Callable[..., None]) -> None:
    install("NONE_OF_THEM")
    error = invoke("plugin-check", "good-package", code=2).stderr
    assert "good-package is broken: " in error and "NONE_OF_THEM" in error


def test_a_contract_that_cannot_be_imported_is_told(install: Callable[..., None]) -> None:
    install("LOST")
    error = invoke("plugin-check", "lost_model", code=2).stderr
    assert "cannot import name 'Lost' from 'contracts_of_models'" in error


def test_pytest_missing(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    install("GOOD")
    monkeypatch.delitem(sys.modules, "amdm_framework.testing.contract_run", raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    error = invoke("plugin-check", "good_model", code=2).stderr
    assert error == "error: plugin-check needs pytest: pip install 'amdm-framework[testing]'\n"
