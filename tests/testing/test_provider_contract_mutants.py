"""Every test of `ProviderContract` passes for a good provider, and fails for one that is broken where it looks."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

import broken_inputs  # noqa: F401
import broken_runs  # noqa: F401
from amdm_framework.testing import ProviderContract
from amdm_framework.testing.model_under_test import ModelUnderTest
from amdm_framework.testing.spec_checks import SpecChecks
from broken_providers import MUTANTS
from fake_distributions import write_distribution
from foreign_providers import FOREIGN_CONTRACTS
from small_provider import SmallContract

TESTS = sorted(name for name in dir(ProviderContract) if name.startswith("test_"))


def failures(contract: type[SpecChecks], folder: Path) -> dict[str, str]:
    """Run all tests of a contract and return the messages of those that fail."""
    arguments = {}
    if issubclass(contract, ProviderContract):
        (folder / "model").mkdir()
        arguments["model_under_test"] = ModelUnderTest(contract(), folder / "model")
    messages = {}
    for name in sorted(name for name in dir(contract) if name.startswith("test_")):
        test = getattr(contract(), name)
        arguments["tmp_path"] = folder / name
        arguments["tmp_path"].mkdir()
        try:
            test(**{key: arguments[key] for key in inspect.signature(test).parameters})
        except pytest.skip.Exception:
            continue
        except (AssertionError, pytest.fail.Exception) as error:
            messages[name] = str(error)
    return messages


def test_a_good_provider_passes_everything(tmp_path: Path) -> None:
    assert failures(SmallContract, tmp_path) == {}


@pytest.mark.parametrize("contract", FOREIGN_CONTRACTS)
def test_a_good_provider_unlike_stable_diffusion_passes_everything(
    contract: type[ProviderContract], tmp_path: Path
) -> None:
    assert failures(contract, tmp_path) == {}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_provider_is_caught(name: str, tmp_path: Path) -> None:
    broken = MUTANTS[name]
    if "test_it_runs_on_a_gpu" in broken.caught_by and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    contract = type("BrokenContract", (broken.contract,), {"spec": broken.spec})
    found = failures(contract, tmp_path)
    assert set(found) == set(broken.caught_by), found
    assert broken.message in found[broken.caught_by[0]]


INSTALLED = {
    "good": ("", "SPEC", {}),
    "heavy": ("import gradio", "SPEC", {"test_finding_the_plugin_imports_nothing_heavy": "imports gradio"}),
    "damaged": ("", "SPEC + 1", {"test_an_installed_plugin_registers_it": "TypeError"}),
    "forgetful": ("", None, {"test_an_installed_plugin_registers_it": "there is no provider"}),
    "copying": ("", "SPEC.model_copy()", {"test_an_installed_plugin_registers_it": "hands over another"}),
}
"""Installed plugins: what their module of hooks imports, what it registers, the tests that notice and what they say."""

MODEL = """
from small_provider import SPEC as SMALL, SmallOptions

class Options(SmallOptions):
    pass

SPEC = SMALL.model_copy(update={"name": "installed", "options": Options})
"""


@pytest.mark.filterwarnings("ignore::amdm_framework.plugins.PluginWarning")
@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_plugin_is_looked_at(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports, registered, expected = INSTALLED[name]
    package = f"plugin_{name}"
    hooks = f"""
        {imports}
        from amdm_framework import hookimpl

        @hookimpl
        def register_providers(register):
            from .model import SPEC
            {f"register({registered})" if registered else ""}
    """
    write_distribution(tmp_path, package.replace("_", "-"), hooks)
    (tmp_path / package).mkdir()
    (tmp_path / f"{package}.py").rename(tmp_path / package / "__init__.py")
    (tmp_path / package / "model.py").write_text(MODEL)
    (tmp_path / "gradio.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    spec = import_module(f"{package}.model").SPEC
    checks = type("Checks", (SpecChecks,), {"spec": spec})
    found = failures(checks, tmp_path)
    assert found.keys() == expected.keys(), found
    assert all(message in found[test] for test, message in expected.items()), found


def test_every_test_of_the_contract_catches_something() -> None:
    caught = {broken.caught_by[0] for broken in MUTANTS.values()}
    caught |= {test for _, _, expected in INSTALLED.values() for test in expected}
    assert sorted(caught) == TESTS


def test_every_test_of_the_contract_says_what_is_wrong() -> None:
    for name in TESTS:
        assert len((getattr(ProviderContract, name).__doc__ or "").split()) > 6, name
