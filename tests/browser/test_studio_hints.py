"""What the studio's page says before anything goes wrong, and where it leads: seeds, costs, empty fields, large pictures."""

from __future__ import annotations

import re
from typing import Any

import pytest
from studio_page import StudioPage, soon

pytestmark = pytest.mark.browser

QUICK = {
    "providers": [{"use": "stable_diffusion", "checkpoint": "zoo://base"}] * 2,
    "aggregation": {"strategy": "slerp", "steps": 1},
    "sampler": {"steps": 2},
}
SCENE: dict[str, Any] = {
    "caption": "a red circle and a star",
    "instances": {"circle": {"phrase": "a red circle", "box": [0.1, 0.1, 0.4, 0.4]}},
}


@pytest.fixture
def quick_page(studio_page: StudioPage) -> StudioPage:
    studio_page.write("composition", QUICK)
    studio_page.write("scene", SCENE)
    studio_page.verdict.get_by_text("3 evaluations a picture").wait_for()
    return studio_page


def test_seeds_are_numbers_and_ranges(quick_page: StudioPage) -> None:
    page = quick_page.page
    seeds, reason = page.get_by_label("Seeds", exact=True), page.locator(".reason")
    for wrong in ("", "x", "3-1", "1, 1", "1-17", "-5", "18446744073709551616", "1.5"):
        seeds.fill(wrong)
        reason.get_by_text("seeds: 1 to 16 different whole numbers").wait_for()
        assert quick_page.draw_button.is_disabled() and seeds.get_attribute("aria-invalid") == "true"
    seeds.fill("7; 18446744073709551615 2-3")
    soon(quick_page.draw_button.is_enabled, True)
    quick_page.draw_button.click()
    job = quick_page.jobs().first
    job.get_by_text("seed 7, 18446744073709551615, 2, 3").wait_for()
    page.get_by_role("button", name="One more seed").click()
    assert seeds.input_value() == "7; 18446744073709551615 2-3, 4"


def test_what_single_models_cost_is_said_beside_the_tick(quick_page: StudioPage) -> None:
    quick_page.page.get_by_text("(4 more evaluations)").wait_for()


def test_what_nobody_has_written_yet_is_no_mistake_and_the_reason_leads_there(quick_page: StudioPage) -> None:
    page = quick_page.page
    page.get_by_label("phrase of circle").fill("")
    page.get_by_text("Still to be written.").wait_for()
    assert page.locator(".scene .problem:visible").count() == 0
    page.locator(".reason").get_by_text("To mend first: 1 in the scene").click()
    focused = "root => root.getRootNode().activeElement && root.getRootNode().activeElement.dataset.key"
    soon(lambda: page.locator(".studio").evaluate(focused), "instances.circle.phrase")
    page.keyboard.type("a blue star")
    soon(quick_page.draw_button.is_enabled, True)
    assert page.locator(".reason").is_hidden()


def test_the_reason_leads_to_models_that_lack_something(quick_page: StudioPage) -> None:
    page = quick_page.page
    page.get_by_label("Add a model").select_option("migc")
    page.locator(".reason").get_by_text(re.compile("in the models")).click()
    focused = "root => root.getRootNode().activeElement && root.getRootNode().activeElement.dataset.key"
    soon(lambda: page.locator(".studio").evaluate(focused), "providers.2.checkpoint")


def test_another_colour_is_another_colour_in_the_caption_too(quick_page: StudioPage) -> None:
    quick_page.page.get_by_label("colour of circle").select_option("green")
    soon(lambda: quick_page.scene()["caption"], "a green circle and a star")
    assert quick_page.scene()["instances"]["circle"]["phrase"] == "a green circle"


def test_everything_is_cleared_and_comes_back(quick_page: StudioPage) -> None:
    page = quick_page.page
    before = quick_page.scene()
    page.get_by_role("button", name="Clear").click()
    soon(quick_page.boxes, {})
    assert page.get_by_label("caption", exact=True).input_value() == ""
    page.get_by_role("button", name=re.compile("^Undo")).click()
    soon(quick_page.scene, before)


def test_numbers_of_a_box_stay_inside_the_picture(quick_page: StudioPage) -> None:
    page = quick_page.page
    page.get_by_label("phrase of circle").click()
    page.get_by_label("right of circle").fill("7")
    page.keyboard.press("Enter")
    soon(lambda: quick_page.boxes()["circle"][2], 1)


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_numbers_without_end_are_refused_at_their_field(quick_page: StudioPage, number: str) -> None:
    quick_page.key("sampler.guidance_scale").fill(number)
    quick_page.problems("sampler.guidance_scale").wait_for()
    assert quick_page.draw_button.is_disabled()


def test_pictures_and_plots_are_enlarged_and_the_gallery_says_who_drew(quick_page: StudioPage) -> None:
    page = quick_page.page
    quick_page.draw_button.click()
    quick_page.panel("Picture").get_by_label("Step by step").check()
    for shown in (page.locator(".frame"), page.locator("img.plot")):
        shown.first.click()
        large = page.locator("dialog img")
        large.wait_for()
        box = large.bounding_box()
        assert box is not None and box["width"] >= 500
        page.keyboard.press("Escape")
        large.wait_for(state="hidden")
    quick_page.panel("Gallery").get_by_text("stable_diffusion + stable_diffusion-2").first.wait_for()
