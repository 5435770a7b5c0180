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
def empty(studio_page: StudioPage) -> StudioPage:
    """A page without anything in the picture."""
    studio_page.write("scene", {"caption": "a circle and a square"})
    return studio_page


@pytest.fixture
def two(studio_page: StudioPage) -> StudioPage:
    """A page with two boxes."""
    studio_page.write("scene", TWO_BOXES)
    return studio_page


def test_boxes_are_drawn_and_named_by_their_phrases(empty: StudioPage) -> None:
    empty.drag((0.1, 0.2), (0.4, 0.6))
    # The field for the phrase waits for it.
    empty.page.keyboard.type("a red circle")
    empty.drag((0.9, 0.9), (0.6, 0.3))
    empty.page.keyboard.type("blue circle")
    empty.page.keyboard.press("Tab")
    soon(lambda: list(empty.scene()["instances"]), ["circle", "circle 2"])
    assert empty.boxes() == {"circle": near(0.1, 0.2, 0.4, 0.6), "circle 2": near(0.6, 0.3, 0.9, 0.9)}
    assert [one["phrase"] for one in empty.scene()["instances"].values()] == ["a red circle", "blue circle"]
    assert empty.stage.locator(".label").all_text_contents() == ["blue circle", "a red circle"]


def test_a_click_without_a_drag_draws_nothing(empty: StudioPage) -> None:
    empty.click_at(0.3, 0.3)
    empty.drag((0.5, 0.5), (0.8, 0.8))
    soon(lambda: len(empty.scene()["instances"]), 1)


@pytest.mark.parametrize("by", ["button", "key", "handle"])
def test_an_arrow_between_two_boxes_is_an_interaction(two: StudioPage, by: str) -> None:
    start = (0.2, 0.4)
    if by == "button":
        two.page.get_by_role("button", name="Interaction", exact=True).click()
    elif by == "key":
        two.stage.focus()
        two.page.keyboard.press("a")
    else:
        two.click_at(0.2, 0.4)
        handle = two.stage.locator('circle[data-handle="link"]').bounding_box()
        stage = two.stage.bounding_box()
        assert handle is not None and stage is not None
        start = (
            (handle["x"] + handle["width"] / 2 - stage["x"]) / stage["width"],
            (handle["y"] + handle["height"] / 2 - stage["y"]) / stage["height"],
        )
    two.drag(start, (0.7, 0.4))
    two.page.keyboard.type("ring")
    soon(lambda: two.scene()["interactions"], [{"subject": "circle", "action": "ring", "object": "square"}])
    assert two.stage.locator(".action").all_text_contents() == ["ring"]
    assert two.boxes() == {"circle": [0.1, 0.2, 0.3, 0.5], "square": [0.6, 0.2, 0.8, 0.5]}


def test_an_arrow_that_ends_beside_the_boxes_is_none(two: StudioPage) -> None:
    two.stage.focus()
    two.page.keyboard.press("a")
    two.drag((0.2, 0.4), (0.45, 0.9))
    two.drag((0.2, 0.4), (0.7, 0.4))
    soon(lambda: len(two.scene()["interactions"]), 1)


def test_a_box_is_moved_and_the_other_stays(two: StudioPage) -> None:
    two.drag((0.2, 0.4), (0.24, 0.73))
    soon(lambda: two.boxes()["circle"], near(0.14, 0.53, 0.34, 0.83))
    assert two.boxes()["square"] == [0.6, 0.2, 0.8, 0.5]


def test_a_box_stops_at_the_edge_of_the_picture(two: StudioPage) -> None:
    two.drag((0.2, 0.4), (-0.4, 1.4))
    soon(lambda: two.boxes()["circle"], near(0, 0.7, 0.2, 1))


@pytest.mark.parametrize(
    ("handle", "end", "box"),
    [
        ("se", (0.37, 0.66), near(0.1, 0.2, 0.37, 0.66)),
        ("nw", (0.05, 0.07), near(0.05, 0.07, 0.3, 0.5)),
        ("e", (0.41, 0.9), near(0.1, 0.2, 0.41, 0.5)),
        ("n", (0.9, 0.13), near(0.1, 0.13, 0.3, 0.5)),
        # Not turned inside out: a little of it stays.
        ("w", (0.9, 0.4), near(0.28, 0.2, 0.3, 0.5)),
    ],
)
def test_handles_resize_a_box(two: StudioPage, handle: str, end: tuple[float, float], box: object) -> None:
    two.click_at(0.2, 0.4)
    # In the middle of a side, or at a corner.
    x = 0.1 if "w" in handle else 0.3 if "e" in handle else 0.2
    y = 0.2 if "n" in handle else 0.5 if "s" in handle else 0.35
    two.drag((x, y), end)
    soon(lambda: two.boxes()["circle"], box)


def test_arrow_keys_nudge_the_chosen_box(two: StudioPage) -> None:
    two.click_at(0.2, 0.4)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        two.page.keyboard.press(key)
    soon(lambda: two.boxes()["circle"], [0.16, 0.155, 0.36, 0.455])
    for _ in range(8):
        two.page.keyboard.press("Shift+ArrowUp")
    soon(lambda: two.boxes()["circle"], [0.16, 0, 0.36, 0.3])
    assert two.boxes()["square"] == [0.6, 0.2, 0.8, 0.5]


def test_the_delete_key_removes_a_box_and_its_interactions(two: StudioPage) -> None:
    two.write("scene", TWO_BOXES | {"interactions": [{"subject": "circle", "action": "ring", "object": "square"}]})
    two.click_at(0.7, 0.4)
    two.page.keyboard.press("Delete")
    soon(two.boxes, {"circle": [0.1, 0.2, 0.3, 0.5]})
    assert two.scene()["interactions"] == []


def test_a_button_deletes_the_row_that_it_stands_in_at_the_first_click(two: StudioPage) -> None:
    two.click_at(0.2, 0.4)
    two.page.get_by_role("button", name="Delete square").click()
    soon(two.boxes, {"circle": [0.1, 0.2, 0.3, 0.5]})


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
    # Something new: what was undone is gone.
    two.click_at(0.7, 0.4)
    two.page.keyboard.press("ArrowLeft")
    soon(lambda: two.boxes()["square"], [0.595, 0.2, 0.795, 0.5])
    two.page.keyboard.press("Control+y")
    two.page.keyboard.press("ArrowLeft")
    soon(two.boxes, {"circle": moved["circle"], "square": [0.59, 0.2, 0.79, 0.5]})


def test_a_drag_that_ends_a_few_pixels_off_an_edge_lands_on_it(two: StudioPage) -> None:
    # Its lower edge 4 pixels below the middle of the other, its right edge 5 pixels before the other's left.
    two.drag((0.2, 0.3), (0.5, 0.15), by=(-5, 4))
    soon(lambda: two.boxes()["circle"], [0.4, 0.05, 0.6, 0.35])


def test_with_alt_a_drag_ends_where_it_ends(two: StudioPage) -> None:
    bounds = two.stage.bounding_box()
    assert bounds is not None
    two.page.keyboard.down("Alt")
    two.drag((0.2, 0.3), (0.5, 0.15), by=(-5, 4))
    two.page.keyboard.up("Alt")
    x, y = -5 / bounds["width"], 4 / bounds["height"]
    soon(lambda: two.boxes()["circle"], pytest.approx([0.4 + x, 0.05 + y, 0.6 + x, 0.35 + y], abs=0.002))


def test_a_new_box_lands_on_the_edges_of_others(two: StudioPage) -> None:
    two.drag((0.37, 0.6), (0.6, 0.9), by=(4, 0))
    soon(lambda: len(two.boxes()), 3)
    assert two.boxes()["object-1"][2] == 0.6


@pytest.mark.parametrize(
    ("phrase", "colour", "becomes"),
    [
        ("red circle", "green", "green circle"),
        ("a red circle", "orange", "an orange circle"),
        ("an orange circle", "red", "a red circle"),
        ("the circle", "blue", "the blue circle"),
        ("circle", "black", "black circle"),
        ("red circle", "", "circle"),
    ],
)
def test_the_colour_menu_changes_the_word_in_the_phrase(
    two: StudioPage, phrase: str, colour: str, becomes: str
) -> None:
    two.page.get_by_label("phrase of circle").fill(phrase)
    two.page.get_by_label("colour of circle").select_option(colour)
    soon(lambda: two.scene()["instances"]["circle"]["phrase"], becomes)
    assert two.page.get_by_label("phrase of circle").input_value() == becomes
    assert two.scene()["instances"]["square"]["phrase"] == "blue square"


def test_interactions_and_pictures_follow_an_instance_that_is_renamed(two: StudioPage) -> None:
    two.write(
        "scene",
        TWO_BOXES
        | {
            "interactions": [
                {"subject": "circle", "action": "ring", "object": "square"},
                {"subject": "square", "action": "and", "object": "square"},
            ]
        },
    )
    two.page.get_by_label("name of square").fill("house")
    two.page.keyboard.press("Enter")
    soon(lambda: list(two.scene()["instances"]), ["circle", "house"])
    assert two.scene()["interactions"] == [
        {"subject": "circle", "action": "ring", "object": "house"},
        {"subject": "house", "action": "and", "object": "house"},
    ]


def test_two_instances_cannot_have_one_name(two: StudioPage) -> None:
    two.page.get_by_label("name of square").fill("circle")
    two.page.keyboard.press("Enter")
    two.said.get_by_text("There is another instance named circle.").wait_for()
    assert two.page.get_by_label("name of square").input_value() == "square"
    assert list(two.scene()["instances"]) == ["circle", "square"]
