"""A browser, a studio that runs, and for every test a page of its own that may not complain."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parent))

from chromium import VARIABLE, find_chromium
from complaints import record_complaints
from studio_page import StudioPage

from amdm_shapes_zoo.plugin import WEIGHTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS_TO_START = 60
SECONDS_TO_STOP = 10


@dataclass(frozen=True)
class RunningStudio:
    """A studio in a process of its own.

    Attributes:
        address: of its page, without a slash at the end.
        output: the folder of its pictures.
        log: everything it has printed so far.
    """

    address: str
    output: Path
    log: Path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    program = find_chromium()
    if program is None:
        pytest.fail(f"there is no Chromium: `make test-browser` installs it; {VARIABLE} names one that is not on PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    """`amdm studio` with everything that is installed; interrupted at the end, which it has to take well.

    It may read one more model, `other_schedule`, which fits no other: the zoo's base with another noise schedule.
    """
    folder = tmp_path_factory.mktemp("studio")
    output, log = folder / "pictures", folder / "log.txt"
    shutil.copytree(WEIGHTS / "base", folder / "models" / "other_schedule")
    schedule = folder / "models" / "other_schedule" / "scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps(json.loads(schedule.read_text()) | {"beta_end": 0.02}))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AMDM_")}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    command = [Path(sys.executable).with_name("amdm"), "studio", "--port", "0", "--output", output,
               "--models", folder / "models"]  # fmt: skip
    with log.open("wb") as printed:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT)
    try:
        yield RunningStudio(wait_for_address(process, log), output, log)
        process.send_signal(signal.SIGINT)
        status = process.wait(SECONDS_TO_STOP)
        assert status in (0, 130), f"the studio ended with {status}:\n{log.read_text()}"
    finally:
        process.kill()
        process.wait()


def wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that a studio prints when it is ready."""
    end = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r"^studio: (http://127\.0\.0\.1:\d+)$", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the studio said no address within {SECONDS_TO_START} s (status {process.poll()}):\n{log.read_text()}")


@pytest.fixture
def page(browser: Browser, studio: RunningStudio) -> Iterator[Page]:
    """An empty page of a context of its own, in which "/" is the studio. A complaint of the browser fails the test."""
    with browser.new_context(base_url=studio.address, viewport={"width": 1280, "height": 900}) as context:
        complaints = record_complaints(context)
        yield context.new_page()
    if complaints:
        pytest.fail("\n".join(complaints))


@pytest.fixture
def studio_page(page: Page) -> StudioPage:
    """The studio on such a page, with the example that it begins with."""
    return StudioPage(page)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the studio said where a test fails."""
    report = yield
    running = getattr(item, "funcargs", {}).get("studio")
    if report.failed and running is not None:
        report.sections.append(("log of the studio", running.log.read_text()))
    return report
