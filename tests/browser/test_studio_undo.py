"""Nothing is lost by one click, one key or one reload: scene and models have one history, and a tab keeps its draft."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from studio_page import StudioPage, near, soon

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

CIRCLE = {"caption": "a circle", "instances": {"circle": {"phrase": "red circle", "box": [0.1, 0.2, 0.3, 0.5]}}}
THREE = ["interactdiffusion", "migc", "ip_adapter"]


@pytest.fixture
def one(studio_page: StudioPage) -> StudioPage:
    """A page with one box."""
    studio_page.write("scene", CIRCLE)
    return studio_page


def uses(studio_page: StudioPage) -> list[str]:
    """Return the providers in the order of the YAML view."""
    return [block["use"] for block in studio_page.composition()["providers"]]


def undo(studio_page: StudioPage) -> None:
    studio_page.page.get_by_role("button", name="Undo").click()


def redo(studio_page: StudioPage) -> None:
    studio_page.page.get_by_role("button", name="Redo").click()


def test_changes_of_models_are_undone(studio_page: StudioPage) -> None:
    begun = studio_page.composition()
    studio_page.page.get_by_role("button", name="Remove migc").click()
    soon(lambda: uses(studio_page), ["interactdiffusion", "ip_adapter"])
    # The button that had the focus is gone; nothing has it.
    studio_page.page.keyboard.press("Control+z")
    soon(lambda: uses(studio_page), THREE)
    studio_page.page.keyboard.press("Control+y")
    soon(lambda: uses(studio_page), ["interactdiffusion", "ip_adapter"])
    undo(studio_page)
    studio_page.key("aggregation.strategy").select_option("slerp")
    soon(lambda: studio_page.composition()["aggregation"], {"strategy": "slerp"})
    undo(studio_page)
    soon(studio_page.composition, begun)
    assert studio_page.key("aggregation.strategy").input_value() == begun["aggregation"]["strategy"]


def test_what_was_typed_into_a_field_of_a_model_is_undone_at_once(studio_page: StudioPage) -> None:
    begun = studio_page.composition()
    steps, scale = studio_page.key("sampler.steps"), studio_page.key("sampler.guidance_scale")
    steps.clear()
    steps.press_sequentially("25")
    scale.fill("6")
    soon(lambda: (studio_page.composition()["sampler"]["steps"], scale.input_value()), (25, "6"))
    undo(studio_page)
    soon(lambda: studio_page.composition()["sampler"], begun["sampler"] | {"steps": 25})
    undo(studio_page)
    soon(studio_page.composition, begun)
    assert steps.input_value() == str(begun["sampler"]["steps"])
    # What is chosen from a list is a change each time.
    studio_page.page.locator('[data-fold="execution"] summary').click()
    lists = studio_page.page.locator('[data-fold="execution"] select')
    for number in (1, 2):
        lists.first.select_option(index=number)
    undo(studio_page)
    soon(lambda: lists.first.evaluate("one => one.selectedIndex"), 1)
    undo(studio_page)
    soon(studio_page.composition, begun)
    # In a text field the browser undoes what was typed there, and the page nothing.
    studio_page.page.get_by_role("button", name="Remove migc").click()
    steps.press_sequentially("0")
    steps.press("Control+z")
    soon(lambda: (uses(studio_page), steps.input_value()), (["interactdiffusion", "ip_adapter"], "10"))


def test_scene_and_models_are_undone_in_the_order_of_the_changes(one: StudioPage) -> None:
    one.page.get_by_role("textbox", name="caption", exact=True).press_sequentially(" here")
    one.page.get_by_role("button", name="Remove migc").click()
    one.page.get_by_role("textbox", name="caption", exact=True).press_sequentially(" and there")
    soon(lambda: one.scene()["caption"], "a circle here and there")
    for caption, members in (("a circle here", THREE[::2]), ("a circle here", THREE), ("a circle", THREE)):
        undo(one)
        soon(lambda: (one.scene()["caption"], uses(one)), (caption, members))


def test_another_example_is_undone_with_its_models(one: StudioPage) -> None:
    before = one.scene(), one.composition()
    one.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: list(one.boxes()), ["star", "circle"])
    undo(one)
    soon(lambda: (one.scene(), one.composition()), before)
    # It can be chosen again.
    one.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: list(one.boxes()), ["star", "circle"])


def test_a_drag_is_a_change_of_its_own_between_two_of_one_field(one: StudioPage) -> None:
    caption = one.page.get_by_role("textbox", name="caption", exact=True)
    caption.press_sequentially(" here")
    one.drag((0.2, 0.4), (0.24, 0.73))
    caption.press_sequentially(" and there")
    soon(lambda: one.scene()["caption"], "a circle here and there")
    undo(one)
    soon(lambda: one.scene()["caption"], "a circle here")
    assert one.boxes()["circle"] == near(0.14, 0.53, 0.34, 0.83)
    undo(one)
    soon(lambda: one.boxes()["circle"], [0.1, 0.2, 0.3, 0.5])
    assert one.scene()["caption"] == "a circle here"


def test_a_box_that_the_mouse_holds_is_deleted_or_put_back(one: StudioPage) -> None:
    # The browser complains about nothing, see `page`.
    for key, boxes in (("Delete", {}), ("Control+z", {"circle": [0.1, 0.2, 0.3, 0.5]})):
        one.page.get_by_role("textbox", name="caption", exact=True).press_sequentially("!")
        one.page.mouse.move(*one.point(0.2, 0.4))
        one.page.mouse.down()
        one.page.mouse.move(*one.point(0.5, 0.6), steps=3)
        one.page.keyboard.press(key)
        one.page.mouse.move(*one.point(0.7, 0.7), steps=3)
        one.page.mouse.up()
        soon(lambda: one.scene().get("instances", {}).keys(), boxes.keys())
        assert one.boxes() == boxes
        undo(one)
        soon(one.boxes, {"circle": [0.1, 0.2, 0.3, 0.5]})


def test_a_number_of_a_box_that_is_emptied_comes_back(one: StudioPage) -> None:
    one.click_at(0.2, 0.4)
    left = one.page.get_by_label("left of circle")
    for written in ("", "-"):
        left.clear()
        left.press_sequentially(written)
        left.press("Tab")
        soon(left.input_value, "0.1")
    left.fill("0.05")
    left.press("Tab")
    soon(one.boxes, {"circle": [0.05, 0.2, 0.3, 0.5]})
    undo(one)
    soon(one.boxes, {"circle": [0.1, 0.2, 0.3, 0.5]})


def reload(page: Page) -> None:
    page.reload()
    page.locator("svg.stage").wait_for(state="attached")


def test_a_page_that_is_loaded_anew_goes_on(one: StudioPage) -> None:
    one.page.get_by_role("button", name="Remove migc").click()
    soon(lambda: uses(one), ["interactdiffusion", "ip_adapter"])
    before = one.scene(), one.composition()
    reload(one.page)
    soon(lambda: (one.scene(), one.composition()), before)
    # An unreadable text, too.
    panel = one.panel("Scene")
    panel.get_by_role("button", name="YAML").click()
    panel.get_by_label("scene as YAML").fill("caption: {\n")
    reload(one.page)
    soon(lambda: one.text_of("scene"), "caption: {\n")
    assert panel.get_by_label("scene as YAML").is_visible() and not one.stage.is_visible()
    panel.locator(".yaml-editor .problem", has_text="line 2").wait_for()
    assert uses(one) == ["interactdiffusion", "ip_adapter"]


def test_another_tab_begins_with_the_example(one: StudioPage) -> None:
    other = StudioPage(one.page.context.new_page())
    assert list(other.boxes()) == ["triangle", "circle", "square"]
    assert one.boxes() == {"circle": [0.1, 0.2, 0.3, 0.5]}
