"""Texts and records of another shape than the forms have: they are messages, and nothing of them is lost."""

from __future__ import annotations

import json

import pytest
import yaml
from studio_page import StudioPage, soon

from amdm_framework.scene import Scene
from amdm_framework.scene_colours import instance_colours

pytestmark = pytest.mark.browser

MEMBER = "use: stable_diffusion, checkpoint: zoo://base"
STAR = {"caption": "a star", "instances": {"star": {"phrase": "red star", "box": [0.1, 0.2, 0.5, 0.6]}}}


def type_text(studio_page: StudioPage, part: str, text: str) -> None:
    """Write something as YAML, and stay there."""
    panel = studio_page.panel("Scene" if part == "scene" else "Models")
    panel.get_by_role("button", name="YAML").click()
    panel.get_by_label(f"{part} as YAML").fill(text)


def stays(studio_page: StudioPage, part: str, text: str, reason: str) -> None:
    """Ask for the form, and find the text, with the reason why it is still there."""
    panel, form = (studio_page.panel("Scene"), "Draw") if part == "scene" else (studio_page.panel("Models"), "Form")
    panel.get_by_role("button", name=form, exact=True).click()
    panel.get_by_role("status").get_by_text(reason).wait_for()
    assert panel.get_by_label(f"{part} as YAML").is_visible()
    assert studio_page.text_of(part) == text


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"providers: [{{{MEMBER}}}]\naggregation: slerp\n", "aggregation"),
        (f"providers: [{{{MEMBER}}}]\naggregation: [slerp]\n", "aggregation"),
        (f"providers: [{{{MEMBER}}}]\nsampler: 50\n", "sampler"),
        (f"providers: [{{{MEMBER}, condition: x}}]\n", "providers.0.condition"),
        (f"providers: [{{{MEMBER}}}, migc]\n", "providers.1"),
        (f"providers: {{{MEMBER}}}\n", "providers"),
    ],
)
def test_a_composition_of_another_shape_is_a_message(studio_page: StudioPage, text: str, key: str) -> None:
    type_text(studio_page, "composition", text)
    studio_page.panel("Models").locator(".yaml-editor .problem", has_text=key).first.wait_for()
    assert studio_page.draw_button.is_disabled()
    assert studio_page.page.locator(".verdict.good").count() == 0
    stays(studio_page, "composition", text, f"“Form” has no place for {key}: ")
    assert not studio_page.said.is_visible()
    # The page goes on.
    studio_page.write("composition", {"providers": [yaml.safe_load(f"{{{MEMBER}}}")], "sampler": {"steps": 3}})
    studio_page.verdict.get_by_text("3 evaluations a picture").wait_for()


def test_a_key_without_a_value_is_one_that_is_not_given(studio_page: StudioPage) -> None:
    type_text(studio_page, "composition", f"providers: [{{{MEMBER}}}]\naggregation:\nsampler: {{steps: 7}}\n")
    studio_page.panel("Models").get_by_role("button", name="Form", exact=True).click()
    studio_page.verdict.get_by_text("7 evaluations a picture").wait_for()
    assert studio_page.key("aggregation.strategy").is_visible()


@pytest.mark.parametrize(
    ("addition", "key"),
    [
        ({"instances": STAR["instances"] | {"moon": {"phrase": "a moon"}}}, "instances.moon"),
        ({"instances": STAR["instances"] | {"moon": {"phrase": 7, "box": [0, 0, 0.5, 0.5]}}}, "instances.moon"),
        ({"instances": STAR["instances"] | {"1": {"phrase": "a moon", "box": [0, 0, 0.5, 0.5]}}}, "instances.1"),
        ({"interactions": ["star on star"]}, "interactions.0"),
        ({"references": {"style": "night.png"}}, "references"),
    ],
)
def test_a_scene_that_the_drawing_would_lose_some_of_stays_as_text(
    studio_page: StudioPage, addition: dict[str, object], key: str
) -> None:
    text = "# mine\n" + yaml.safe_dump(STAR | addition)
    type_text(studio_page, "scene", text)
    stays(studio_page, "scene", text, f"“Draw” has no place for {key}: ")
    # Once mended, the form is there; what the reason was is not said any more.
    type_text(studio_page, "scene", yaml.safe_dump(STAR))
    studio_page.panel("Scene").get_by_role("button", name="Draw", exact=True).click()
    studio_page.page.get_by_label("phrase of star").wait_for()
    assert not studio_page.panel("Scene").get_by_role("status").is_visible()


def test_an_unreadable_text_is_brought_back_by_redo(studio_page: StudioPage) -> None:
    studio_page.write("scene", STAR)
    text = "caption: a star\ninstances:\n  star: {phrase: [red\n"
    type_text(studio_page, "scene", text)
    stays(studio_page, "scene", text, "This cannot be read yet")
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(lambda: studio_page.text_of("scene") != text, True)
    assert studio_page.boxes() == {"star": [0.1, 0.2, 0.5, 0.6]}
    studio_page.page.get_by_role("button", name="Redo").click()
    soon(lambda: studio_page.text_of("scene"), text)
    # Another example is begun with from there, and undone.
    studio_page.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: studio_page.text_of("scene") != text, True)
    assert list(studio_page.boxes()) == ["star", "circle"]
    studio_page.page.get_by_role("button", name="Undo").click()
    soon(lambda: studio_page.text_of("scene"), text)


def test_boxes_have_the_colours_of_amdm_preview(studio_page: StudioPage) -> None:
    phrases = ["a star", "red star", "a grey circle", "the moon", "sky"]
    content = {
        "caption": "a sky",
        "instances": {
            f"one {number}": {"phrase": phrase, "box": [number / 10, 0.2, number / 10 + 0.1, 0.4]}
            for number, phrase in enumerate(phrases)
        },
    }
    studio_page.write("scene", content)
    soon(lambda: studio_page.stage.locator(".label").count(), len(phrases))
    rows = studio_page.page.locator("[data-instance] .colour")
    expected = instance_colours(Scene.model_validate_json(json.dumps(content)))
    assert rows.evaluate_all("all => all.map((one) => one.style.getPropertyValue('--own'))") == list(expected.values())
    drawn = studio_page.stage.locator("rect.box").evaluate_all(
        "all => all.map((one) => one.style.getPropertyValue('--own'))"
    )
    assert sorted(drawn) == sorted(expected.values())
    assert [rows.nth(number).input_value() for number in range(3)] == ["", "red", "gray"]
