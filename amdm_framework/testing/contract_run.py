"""Runs a contract with pytest in this process and says of each test what came of it, without pytest's own output."""

from __future__ import annotations

import inspect
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from ..errors import PluginError


@dataclass(frozen=True)
class CheckResult:
    """What came of one test of a contract.

    Attributes:
        name: of the test.
        outcome: whether it passed.
        meaning: its docstring: what is wrong with a plugin where it fails.
        reason: why it failed or was skipped, empty where it passed.
    """

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    meaning: str
    reason: str


def run_contract(source: str, on_result: Callable[[CheckResult], None]) -> list[CheckResult]:
    """Run the tests of a module.

    Args:
        source: of the module; it defines or imports a contract under the name `TestContract`.
        on_result: is told of every test as it ends.

    Returns:
        One result per test.

    Raises:
        PluginError: the module cannot be imported, or has no tests.
    """
    reporter = _Reporter(on_result)
    with _without_advice_about_casting(), tempfile.TemporaryDirectory(prefix="contract_") as folder:
        # Of another name every time: pytest takes a module that was imported before.
        module = Path(folder, f"{Path(folder).name}.py")
        module.write_text(source)
        settings = Path(folder, "pytest.ini")
        settings.touch()
        # Settings, plugins and caches of the folder in which somebody happens to be have no part in this.
        options = ["--disable-plugin-autoload", "-p", "amdm_framework.testing.pytest_plugin", "--import-mode=importlib"]
        options += ["-c", str(settings), f"--rootdir={folder}", f"--basetemp={folder}/files", "--capture=sys"]
        options += [word for name in ("terminal", "cacheprovider", "faulthandler") for word in ("-p", f"no:{name}")]
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTEST_ADDOPTS", raising=False)
            code = pytest.main([str(module), *options], plugins=[reporter])
    if reporter.broken:
        raise PluginError(reporter.broken)
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if not reporter.results:
        raise PluginError("the contract has no tests")
    return reporter.results


@contextmanager
def _without_advice_about_casting() -> Iterator[None]:
    # Whenever a network is cast, diffusers advises against it, past pytest's capture; the contract casts on purpose.
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Reporter:
    def __init__(self, on_result: Callable[[CheckResult], None]) -> None:
        self.results: list[CheckResult] = []
        self.broken = ""
        self._on_result = on_result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            result = CheckResult(
                item.originalname, report.outcome, inspect.getdoc(item.function) or "", _reason(report, call)
            )
            self.results.append(result)
            self._on_result(result)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken = f"the contract cannot be imported:\n{report.longreprtext}"


def _reason(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if report.passed or call.excinfo is None:
        return ""
    # What a check says about a defect is enough; of any other error the place matters.
    said = isinstance(call.excinfo.value, AssertionError | pytest.fail.Exception | pytest.skip.Exception)
    return str(call.excinfo.value) if said else str(call.excinfo.getrepr(style="short", chain=False))
