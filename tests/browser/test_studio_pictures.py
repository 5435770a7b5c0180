"""The pictures of the studio that the documentation shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from complaints import record_complaints
from PIL import Image
from studio_page import StudioPage, soon

if TYPE_CHECKING:
    from conftest import RunningStudio
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 400 * 1024
FEWEST_COLOURS = 200
"""Of a page with a picture on it; an empty one has a handful."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That of the documentation, where AMDM_WRITE_SCREENSHOTS is 1."""
    return IMAGES if os.environ.get("AMDM_WRITE_SCREENSHOTS") == "1" else tmp_path


@pytest.fixture
def shots(browser: Browser, studio: RunningStudio, request: pytest.FixtureRequest) -> Iterator[StudioPage]:
    """The page at a size and in a colour scheme."""
    width, height, scheme = request.param
    with browser.new_context(
        base_url=studio.address, viewport={"width": width, "height": height}, color_scheme=scheme
    ) as context:
        complaints = record_complaints(context)
        yield StudioPage(context.new_page())
    assert complaints == []


@pytest.mark.parametrize(
    ("shots", "name"),
    [
        ((1280, 900, "light"), "studio.png"),
        ((1280, 900, "dark"), "studio_dark.png"),
        ((390, 844, "light"), "studio_phone.png"),
    ],
    indirect=["shots"],
    ids=["light", "dark", "phone"],
)
def test_the_example_is_drawn_with_seed_1(shots: StudioPage, name: str, folder: Path) -> None:
    viewport = shots.page.viewport_size
    assert viewport is not None
    if viewport["width"] < 760:
        shots.page.get_by_role("navigation", name="Parts of the page").get_by_role("button", name="Picture").click()
    job = shots.draw("1", alone=True)
    soon(lambda: job.get_attribute("data-state"), "done")
    shots.drawn()
    shots.page.evaluate("document.activeElement.shadowRoot?.activeElement?.blur()")
    shots.page.mouse.move(0, 0)
    shots.page.evaluate("scrollTo(0, 0)")
    written = folder / name
    shots.page.screenshot(path=written, animations="disabled")
    assert written.stat().st_size < MOST_BYTES
    with Image.open(written) as picture:
        assert picture.size == (viewport["width"], viewport["height"])
        assert len(picture.convert("RGB").getcolors(2**24) or []) > FEWEST_COLOURS
