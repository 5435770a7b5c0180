"""Boxes and arrows that are drawn, moved and changed with the mouse and the keys; the YAML of the scene says what came of it."""

from __future__ import annotations

import pytest
from studio_page import StudioPage, near, soon

pytestmark = pytest.mark.browser

TWO_BOXES = {
    "caption": "a circle and a square",
    "instances": {
        "circle": {"phrase": "red circle", "box": [0.1, 0.2, 0.3, 0.5]},
        "square": {"phrase": "blue square", "box": [0.6, 0.2, 0.8, 0.5]},
    },
}


@pytest.fixture
def two(studio_page: StudioPage) -> StudioPage:
    """A page with two boxes."""
    studio_page.write("scene", TWO_BOXES)
    return studio_page


def test_boxes_are_drawn_and_named_by_their_phrases(studio_page: StudioPage) -> None:
    studio_page.write("scene", {"caption": "two circles"})
    # Without a drag there is no box.
    studio_page.click_at(0.3, 0.3)
    studio_page.drag((0.1, 0.2), (0.4, 0.6))
    # The field for the phrase waits for it.
    studio_page.page.keyboard.type("a red circle")
    studio_page.drag((0.9, 0.9), (0.6, 0.3))
    studio_page.page.keyboard.type("blue circle")
    studio_page.page.keyboard.press("Tab")
    soon(lambda: list(studio_page.scene()["instances"]), ["circle", "circle 2"])
    assert studio_page.boxes() == {"circle": near(0.1, 0.2, 0.4, 0.6), "circle 2": near(0.6, 0.3, 0.9, 0.9)}
    assert [one["phrase"] for one in studio_page.scene()["instances"].values()] == ["a red circle", "blue circle"]
    assert studio_page.stage.locator(".label").all_text_contents() == ["blue circle", "a red circle"]


def test_arrows_between_boxes_are_interactions(two: StudioPage) -> None:
    two.page.get_by_role("button", name="Interaction", exact=True).click()
    two.drag((0.2, 0.4), (0.7, 0.4))
    two.page.keyboard.type("ring")
    two.page.get_by_role("button", name="Box", exact=True).click()
    two.stage.focus()
    two.page.keyboard.press("a")
    # One that ends beside the boxes is none.
    two.drag((0.7, 0.3), (0.45, 0.9))
    two.drag((0.7, 0.3), (0.2, 0.3))
    two.page.keyboard.type("bar")
    two.stage.focus()
    two.page.keyboard.press("b")
    two.click_at(0.2, 0.4)
    handle = two.stage.locator('circle[data-handle="link"]').bounding_box()
    assert handle is not None
    two.page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    two.page.mouse.down()
    two.page.mouse.move(*two.point(0.7, 0.4), steps=4)
    two.page.mouse.up()
    two.page.keyboard.type("and")
    soon(
        lambda: two.scene()["interactions"],
        [
            {"subject": "circle", "action": "ring", "object": "square"},
            {"subject": "square", "action": "bar", "object": "circle"},
            {"subject": "circle", "action": "and", "object": "square"},
        ],
    )
    assert two.stage.locator(".action").all_text_contents() == ["ring", "bar", "and"]
    assert two.boxes() == {"circle": [0.1, 0.2, 0.3, 0.5], "square": [0.6, 0.2, 0.8, 0.5]}


def test_a_box_is_moved_up_to_the_edge_of_the_picture(two: StudioPage) -> None:
    two.drag((0.2, 0.4), (0.24, 0.73))
    soon(lambda: two.boxes()["circle"], near(0.14, 0.53, 0.34, 0.83))
    two.drag((0.2, 0.6), (-0.4, 1.4))
    soon(lambda: two.boxes()["circle"], near(0, 0.7, 0.2, 1))
    assert two.boxes()["square"] == [0.6, 0.2, 0.8, 0.5]


def test_handles_resize_a_box(two: StudioPage) -> None:
    for handle, grip, end, box in [
        ("se", (0.3, 0.5), (0.37, 0.66), near(0.1, 0.2, 0.37, 0.66)),
        ("nw", (0.1, 0.2), (0.05, 0.07), near(0.05, 0.07, 0.3, 0.5)),
        ("e", (0.3, 0.35), (0.41, 0.9), near(0.1, 0.2, 0.41, 0.5)),
        ("n", (0.2, 0.2), (0.9, 0.13), near(0.1, 0.13, 0.3, 0.5)),
        # Not turned inside out: a little of it stays.
        ("w", (0.1, 0.35), (0.9, 0.4), near(0.28, 0.2, 0.3, 0.5)),
    ]:
        two.click_at(0.2, 0.4)
        two.stage.locator(f'[data-handle="{handle}"]').wait_for()
        two.drag(grip, end)
        soon(lambda: two.boxes()["circle"], box)
        two.page.keyboard.press("Control+z")
        soon(lambda: two.boxes()["circle"], [0.1, 0.2, 0.3, 0.5])


def test_arrow_keys_nudge_the_chosen_box(two: StudioPage) -> None:
    two.click_at(0.2, 0.4)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        two.page.keyboard.press(key)
    soon(lambda: two.boxes()["circle"], [0.16, 0.155, 0.36, 0.455])
    for _ in range(8):
        two.page.keyboard.press("Shift+ArrowUp")
    soon(lambda: two.boxes()["circle"], [0.16, 0, 0.36, 0.3])
    assert two.boxes()["square"] == [0.6, 0.2, 0.8, 0.5]


def test_boxes_are_deleted_with_their_interactions(two: StudioPage) -> None:
    ring = {"subject": "circle", "action": "ring", "object": "square"}
    alone = {"subject": "circle", "action": "and", "object": "circle"}
    two.write("scene", TWO_BOXES | {"interactions": [ring, alone]})
    two.click_at(0.7, 0.4)
    two.page.keyboard.press("Delete")
    soon(two.boxes, {"circle": [0.1, 0.2, 0.3, 0.5]})
    assert two.scene()["interactions"] == [alone]
    two.page.keyboard.press("Control+z")
    soon(lambda: two.scene()["interactions"], [ring, alone])
    # While another one is chosen, whose row is longer than the others.
    two.click_at(0.2, 0.4)
    two.page.get_by_role("button", name="Delete square").click()
    soon(lambda: list(two.boxes()), ["circle"])
    two.page.get_by_role("button", name="Delete circle").click()
    soon(lambda: two.scene().get("instances", {}), {})


def test_undo_and_redo_go_through_every_change(two: StudioPage) -> None:
    two.drag((0.2, 0.4), (0.24, 0.73))
    soon(lambda: two.boxes()["circle"], near(0.14, 0.53, 0.34, 0.83))
    moved = two.boxes()
    two.page.keyboard.press("Delete")
    soon(lambda: list(two.boxes()), ["square"])
    two.page.keyboard.press("Control+z")
    soon(two.boxes, moved)
    two.page.get_by_role("button", name="Undo").click()
    soon(two.boxes, {"circle": [0.1, 0.2, 0.3, 0.5], "square": [0.6, 0.2, 0.8, 0.5]})
    two.page.get_by_role("button", name="Redo").click()
    soon(two.boxes, moved)
    two.stage.focus()
    two.page.keyboard.press("Control+y")
    soon(lambda: list(two.boxes()), ["square"])
    two.page.keyboard.press("Control+z")
    soon(two.boxes, moved)
    # After something new, what was undone is gone.
    two.click_at(0.7, 0.4)
    for key in ("ArrowLeft", "Control+y", "ArrowLeft"):
        two.page.keyboard.press(key)
    soon(two.boxes, {"circle": moved["circle"], "square": [0.59, 0.2, 0.79, 0.5]})


def test_a_drag_that_ends_a_few_pixels_off_an_edge_lands_on_it(two: StudioPage) -> None:
    # Its top edge 4 pixels below a line that is not there, its right edge 5 pixels before the other's left.
    two.drag((0.2, 0.3), (0.5, 0.15), by=(-5, 4))
    soon(lambda: two.boxes()["circle"], [0.4, 0.05, 0.6, 0.35])
    two.page.keyboard.press("Control+z")
    bounds = two.stage.bounding_box()
    assert bounds is not None
    two.page.keyboard.down("Alt")
    two.drag((0.2, 0.3), (0.5, 0.15), by=(-5, 4))
    two.page.keyboard.up("Alt")
    x, y = -5 / bounds["width"], 4 / bounds["height"]
    soon(lambda: two.boxes()["circle"], pytest.approx([0.4 + x, 0.05 + y, 0.6 + x, 0.35 + y], abs=0.002))
    # A new one, too.
    two.drag((0.45, 0.6), (0.8, 0.9), by=(4, 0))
    soon(lambda: two.boxes()["object-1"][2], 0.8)


def test_the_colour_menu_changes_the_word_in_the_phrase(two: StudioPage) -> None:
    phrase = two.page.get_by_label("phrase of circle")
    for before, colour, after in [
        ("red circle", "green", "green circle"),
        ("a red circle", "orange", "an orange circle"),
        ("an orange circle", "red", "a red circle"),
        ("the circle", "blue", "the blue circle"),
        ("circle", "black", "black circle"),
        ("red circle", "", "circle"),
    ]:
        phrase.fill(before)
        two.page.get_by_label("colour of circle").select_option(colour)
        assert phrase.input_value() == after
    soon(lambda: [one["phrase"] for one in two.scene()["instances"].values()], ["circle", "blue square"])
    # Its label is in that colour, and can be read on it.
    for colour, expected in (("yellow", "rgb(0, 0, 0)"), ("purple", "rgb(255, 255, 255)")):
        two.page.get_by_label("colour of circle").select_option(colour)
        ink = two.stage.locator(".label text", has_text=f"{colour} circle")
        assert ink.evaluate("one => getComputedStyle(one).fill") == expected


def test_interactions_follow_an_instance_that_is_renamed(two: StudioPage) -> None:
    interactions = [
        {"subject": "circle", "action": "ring", "object": "square"},
        {"subject": "square", "action": "and", "object": "square"},
    ]
    two.write("scene", TWO_BOXES | {"interactions": interactions})
    two.page.get_by_label("name of square").fill("house")
    two.page.keyboard.press("Enter")
    soon(lambda: list(two.scene()["instances"]), ["circle", "house"])
    assert two.scene()["interactions"] == [
        {"subject": "circle", "action": "ring", "object": "house"},
        {"subject": "house", "action": "and", "object": "house"},
    ]
    # Two of one name there cannot be.
    two.page.get_by_label("name of house").fill("circle")
    two.page.keyboard.press("Enter")
    two.said.get_by_text("There is another instance named circle.").wait_for()
    assert two.page.get_by_label("name of house").input_value() == "house"
    assert list(two.scene()["instances"]) == ["circle", "house"]
