"""What fails a test in the browser, on pages that misbehave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from complaints import record_complaints

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

pytestmark = pytest.mark.browser

ADDRESS = "http://127.0.0.1:9/"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A context in which every address answers with an empty page, so that nothing leaves this machine."""
    with browser.new_context() as opened:
        opened.route("**", lambda route: route.fulfill(body="", content_type="text/html"))
        yield opened


def complaints_about(context: BrowserContext, script: str, seconds: float = 10) -> list[str]:
    """Open a page that runs a script, and return the complaints about it as soon as there are any."""
    complaints = record_complaints(context)
    page = context.new_page()
    page.goto(ADDRESS)
    page.set_content(f"<script>{script}</script>")
    end = time.monotonic() + seconds
    while not complaints and time.monotonic() < end:
        page.wait_for_timeout(50)
    return complaints


def test_a_page_that_behaves_is_not_complained_about(context: BrowserContext) -> None:
    script = "console.warn('hm'); fetch('/api'); new Image().src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw='"
    assert complaints_about(context, script, seconds=0.5) == []


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("console.error('no such thing')", "error on the console: no such thing"),
        ("nothing.at_all", "error of the page: nothing is not defined"),
        ("Promise.reject(new Error('refused'))", "error of the page: refused"),
        (
            "fetch('https://fonts.example/a.css', {mode: 'no-cors'})",
            "request to another machine: https://fonts.example/a.css",
        ),
        ("window.open('http://other.example/')", "request to another machine: http://other.example/"),
    ],
)
def test_a_page_that_misbehaves_is_complained_about(context: BrowserContext, script: str, complaint: str) -> None:
    assert complaints_about(context, script) == [complaint]


def test_a_socket_to_another_machine_is_complained_about(context: BrowserContext) -> None:
    complaints = complaints_about(context, "new WebSocket('ws://other.example/live')")
    assert complaints[0] == "request to another machine: ws://other.example/live"
