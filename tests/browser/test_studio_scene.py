"""The words and pictures of a scene, and its YAML: what is edited in one place is there in the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from PIL import Image
from studio_page import StudioPage, drop, near, png, soon

if TYPE_CHECKING:
    from conftest import RunningStudio

pytestmark = pytest.mark.browser

STAR = {"caption": "a star", "instances": {"star": {"phrase": "red star", "box": [0.1, 0.2, 0.5, 0.6]}}}


def test_caption_and_negative_are_in_the_yaml(studio_page: StudioPage) -> None:
    before = studio_page.scene()["caption"]
    studio_page.page.get_by_role("textbox", name="caption", exact=True).fill("a blue star")
    studio_page.page.get_by_role("textbox", name="negative", exact=True).fill("green")
    soon(lambda: (studio_page.scene()["caption"], studio_page.scene()["negative"]), ("a blue star", "green"))
    studio_page.page.get_by_role("textbox", name="negative", exact=True).fill("")
    soon(lambda: "negative" in studio_page.scene(), False)
    # What was typed into a field is undone at once.
    studio_page.page.get_by_role("textbox", name="caption", exact=True).press_sequentially(" and more")
    soon(lambda: studio_page.scene()["caption"], "a blue star and more")
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(lambda: studio_page.scene()["caption"], "a blue star")
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(lambda: studio_page.scene()["caption"], before)


def test_reference_pictures_are_chosen_and_dropped(studio_page: StudioPage, studio: RunningStudio) -> None:
    studio_page.write("scene", STAR)
    with studio_page.page.expect_file_chooser() as chooser:
        studio_page.page.get_by_role("button", name="Drop a picture here, or choose one").click()
    chooser.value.set_files({"name": "Night.png", "mimeType": "image/png", "buffer": png("navy")})
    soon(lambda: len(studio_page.scene()["references"]), 1)
    drop(studio_page.panel("Scene"), "day.png", png("khaki"))
    soon(lambda: [one["role"] for one in studio_page.scene()["references"]], ["style", "content"])
    studio_page.page.get_by_label("role of picture 2").fill("control")
    studio_page.page.get_by_label("whose picture 2 is").select_option("star")
    soon(lambda: studio_page.scene()["references"][1].get("instance"), "star")
    night, day = studio_page.scene()["references"]
    assert night.keys() == {"role", "image"} and night["image"].startswith("night-")
    assert day["role"] == "control" and day["image"].startswith("day-")
    # They are kept as they are; the page shows them.
    for kept, colour in ((night, "navy"), (day, "khaki")):
        with Image.open(studio.output / "uploads" / kept["image"]) as picture:
            assert picture.size == (40, 30) and picture.tobytes() == Image.new("RGB", (40, 30), colour).tobytes()
    soon(
        lambda: studio_page.page.locator(".thumbnail").evaluate_all("all => all.map((one) => one.naturalWidth)"),
        [40] * 2,
    )
    studio_page.page.get_by_role("button", name="Delete picture 1").click()
    soon(lambda: studio_page.scene()["references"], [day])


def test_what_is_no_picture_is_not_taken_as_a_reference(studio_page: StudioPage) -> None:
    before = studio_page.scene()
    drop(studio_page.panel("Scene"), "notes.png", b"no picture")
    studio_page.said.get_by_text("notes.png is no picture of the formats PNG, JPEG, WEBP").wait_for()
    drop(studio_page.panel("Scene"), "cut.png", png("red", (300, 300))[:200])
    studio_page.said.get_by_text("cut.png is a damaged picture").wait_for()
    assert studio_page.scene() == before


def test_a_reference_that_is_not_here_is_asked_for_and_filled_in(studio_page: StudioPage) -> None:
    missing = "night-000000000000.png"
    studio_page.write("scene", STAR | {"references": [{"role": "content", "image": missing}]})
    message = studio_page.problems("references.0.image")
    message.get_by_text("there is no uploaded picture 'night-000000000000.png': drop the file onto the page").wait_for()
    assert studio_page.draw_button.is_disabled()
    drop(studio_page.panel("Scene"), "night.png", png("navy"))
    soon(message.count, 0)
    (found,) = studio_page.scene()["references"]
    assert found["role"] == "content" and found["image"] != missing


def test_the_picture_follows_its_yaml_and_the_yaml_the_picture(studio_page: StudioPage) -> None:
    panel = studio_page.panel("Scene")
    panel.get_by_role("button", name="YAML").click()
    text = panel.get_by_label("scene as YAML")
    assert text.is_visible() and not studio_page.stage.is_visible()
    content = yaml.safe_load(text.input_value())
    content["instances"]["square"]["box"] = [0.5, 0.6, 0.9, 0.8]
    content["instances"]["moon"] = {"phrase": "pink moon", "box": [0.1, 0.7, 0.2, 0.9]}
    text.fill(yaml.safe_dump(content))
    panel.get_by_role("button", name="Draw", exact=True).click()
    panel.get_by_label("phrase of moon").wait_for()
    bounds, moon = studio_page.stage.bounding_box(), studio_page.stage.locator(".label", has_text="pink moon")
    assert bounds is not None
    paper = studio_page.stage.locator("rect.box")
    places = paper.evaluate_all(
        "all => all.map((one) => ['x', 'y', 'width', 'height'].map((name) => Number(one.getAttribute(name))))"
    )
    assert near(500, 600, 400, 200) in places and near(100, 700, 100, 200) in places
    assert moon.count() == 1
    # What was edited as text is undone as one change.
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(lambda: "moon" in studio_page.boxes(), False)
    studio_page.page.get_by_role("button", name="Redo").click()
    soon(lambda: "moon" in studio_page.boxes(), True)
    # The other way round.
    studio_page.drag((0.05, 0.05), (0.15, 0.93))
    studio_page.page.keyboard.type("a tower")
    soon(lambda: len(studio_page.boxes()), 5)
    panel.get_by_role("button", name="YAML").click()
    soon(lambda: yaml.safe_load(text.input_value())["instances"]["tower"]["phrase"], "a tower")
    assert yaml.safe_load(text.input_value())["instances"]["tower"]["box"] == near(0.05, 0.05, 0.15, 0.93)


def test_broken_yaml_says_its_line_and_loses_nothing(studio_page: StudioPage) -> None:
    studio_page.write("scene", STAR)
    panel = studio_page.panel("Scene")
    panel.get_by_role("button", name="YAML").click()
    text = panel.get_by_label("scene as YAML")
    text.fill("caption: a star\ninstances:\n  star: {phrase: [red\n")
    panel.locator(".yaml-editor .problem", has_text="line 4").wait_for()
    assert studio_page.draw_button.is_disabled()
    # A key that there is not, in YAML that can be read.
    text.fill("caption: a star\ncolour: red\n")
    panel.locator(".yaml-editor .problem", has_text="colour").wait_for()
    text.fill("caption: {\n")
    panel.locator(".yaml-editor .problem", has_text="line 2").wait_for()
    panel.get_by_role("button", name="Draw", exact=True).click()
    panel.get_by_text("This cannot be read yet").wait_for()
    assert studio_page.text_of("scene") == "caption: {\n" and text.is_visible()
    text.fill("caption: a moon\n")
    panel.get_by_role("button", name="Draw", exact=True).click()
    soon(studio_page.page.get_by_role("textbox", name="caption", exact=True).input_value, "a moon")
    # What was typed as text is one change.
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(studio_page.boxes, {"star": [0.1, 0.2, 0.5, 0.6]})


def test_a_scene_of_another_shape_is_a_message(studio_page: StudioPage) -> None:
    # Together with entries of lists that are none; the browser complains about nothing, see `page`.
    panel = studio_page.panel("Scene")
    for instances in (
        "5",
        "[a, b]",
        "{star: red}",
        "{star: {phrase: red star}}",
        "{star: {phrase: 7, box: [0.1, 0.2, 0.5, 0.6]}}",
        "{star: {phrase: [red], box: [0.5, 0.2, 0.1, 0.6]}}",
        "{star: {phrase: a star, box: [a, b, c, d]}}",
    ):
        panel.get_by_role("button", name="YAML").click()
        text = f"caption: [a]\ninstances: {instances}\ninteractions: [1, {{subject: star}}]\nreferences: [x, {{role: 1}}]\n"
        panel.get_by_label("scene as YAML").fill(text)
        panel.locator(".yaml-editor .problem", has_text="caption").wait_for()
        assert studio_page.draw_button.is_disabled()
        # There is no drawing of it yet, and the text is still there.
        panel.get_by_role("button", name="Draw", exact=True).click()
        panel.get_by_text("“Draw” has no place for").wait_for()
        assert studio_page.text_of("scene") == text
    # The page goes on.
    studio_page.write("scene", STAR)
    assert studio_page.boxes() == {"star": [0.1, 0.2, 0.5, 0.6]}


def test_scenes_are_saved_as_files_and_loaded(studio_page: StudioPage, tmp_path: Path) -> None:
    panel = studio_page.panel("Scene")
    studio_page.write("scene", STAR)
    panel.get_by_role("button", name="YAML").click()
    with studio_page.page.expect_download() as download:
        panel.get_by_role("link", name="Save as file").click()
    assert download.value.suggested_filename == "scene.yaml"
    download.value.save_as(tmp_path / "scene.yaml")
    saved = yaml.safe_load((tmp_path / "scene.yaml").read_text())
    assert saved["caption"] == "a star" and saved["instances"] == STAR["instances"]
    other = tmp_path / "other.yaml"
    other.write_text("caption: ein grüner Stern\ninstances: {Stern: {phrase: green star, box: [0, 0, 0.5, 0.5]}}\n")
    with studio_page.page.expect_file_chooser() as chooser:
        panel.get_by_role("button", name="Load a file").click()
    chooser.value.set_files(other)
    panel.get_by_role("button", name="Draw", exact=True).click()
    soon(studio_page.boxes, {"Stern": [0, 0, 0.5, 0.5]})
    caption = studio_page.page.get_by_role("textbox", name="caption", exact=True)
    soon(caption.input_value, "ein grüner Stern")
