"""Two people at one studio: their scenes and jobs are their own, and their pictures are drawn one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from complaints import record_complaints
from studio_page import StudioPage, soon

if TYPE_CHECKING:
    from conftest import RunningStudio
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def other_page(browser: Browser, studio: RunningStudio) -> Iterator[StudioPage]:
    """The page of somebody else."""
    with browser.new_context(base_url=studio.address, viewport={"width": 1280, "height": 900}) as context:
        complaints = record_complaints(context)
        yield StudioPage(context.new_page())
    assert complaints == []


def test_two_people_draw_at_once(studio_page: StudioPage, other_page: StudioPage) -> None:
    scene = studio_page.text_of("scene")
    other_page.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: list(other_page.boxes()), ["star", "circle"])
    # Nothing of it reaches the first.
    assert studio_page.text_of("scene") == scene
    assert list(studio_page.boxes()) == ["triangle", "circle", "square"]
    studio_page.key("sampler.steps").fill("120")
    soon(lambda: studio_page.composition()["sampler"]["steps"], 120)
    own = studio_page.draw("81")
    soon(lambda: own.get_attribute("data-state"), "drawing")
    others = other_page.draw("82")
    soon(lambda: others.get_attribute("data-state"), "waiting")
    others.get_by_text("waiting, 1 before it").wait_for()
    # Each has one job, and cannot see the other's.
    assert (studio_page.jobs().count(), other_page.jobs().count()) == (1, 1)
    assert own.get_attribute("data-job") != others.get_attribute("data-job")
    soon(lambda: others.get_attribute("data-state"), "done")
    soon(lambda: own.get_attribute("data-state"), "done")
    assert studio_page.drawn().get_attribute("alt") == "Together, seed 81"
    assert other_page.drawn().get_attribute("alt") == "Together, seed 82"
    assert (studio_page.jobs().count(), other_page.jobs().count()) == (1, 1)
    assert list(studio_page.boxes()) == ["triangle", "circle", "square"]
    assert list(other_page.boxes()) == ["star", "circle"]
    # A page that is loaded anew goes on with its jobs.
    studio_page.page.reload()
    soon(lambda: studio_page.jobs().evaluate_all("all => all.map((one) => one.dataset.state)"), ["done"])
