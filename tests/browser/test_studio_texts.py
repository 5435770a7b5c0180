"""Texts of strangers stay texts: nothing in a scene, a file or a file's name is taken for a part of the page."""

from __future__ import annotations

import io

import pytest
from PIL import Image, PngImagePlugin
from studio_page import StudioPage, drop, png, soon

from amdm_framework.record import RECORD_KEY

pytestmark = pytest.mark.browser

IMAGE = '<img src=x onerror="window.taken = 1">'
SCRIPT = '"><script>window.taken = 1</script>'
HOSTILE = IMAGE + SCRIPT


def assert_untouched(studio_page: StudioPage) -> None:
    """Nothing of it has run, and nothing of it is an element."""
    page = studio_page.page
    assert page.evaluate("window.taken") is None
    assert page.locator('img[src="x"]').count() == 0
    assert page.locator(".studio script").count() == 0


def test_in_scenes_and_compositions(studio_page: StudioPage) -> None:
    studio_page.write(
        "composition",
        {
            "providers": [
                # The model draws something else: its tokenizer knows no such words.
                {"use": "stable_diffusion", "checkpoint": "zoo://base", "condition": {"prompt": "a star"}},
            ],
            "sampler": {"steps": 2},
        },
    )
    studio_page.write(
        "scene",
        {
            "caption": HOSTILE,
            "instances": {HOSTILE: {"phrase": HOSTILE, "box": [0, 0.2, 0.9, 0.6]}},
            "interactions": [{"subject": HOSTILE, "action": HOSTILE, "object": HOSTILE}],
            "references": [{"role": HOSTILE, "image": HOSTILE}],
        },
    )
    assert (studio_page.stage.locator(".label").text_content() or "").startswith("<img src=x onerror")
    assert (studio_page.stage.locator(".action").text_content() or "").startswith("<img src=x onerror")
    row = studio_page.page.locator("[data-instance]")
    assert row.get_attribute("data-instance") == HOSTILE
    assert row.locator("input.name").input_value() == HOSTILE
    studio_page.problems("references.0.image").wait_for()
    assert_untouched(studio_page)
    # Drawn, it is in the list of jobs, in the file and in the gallery.
    studio_page.page.get_by_role("button", name="Delete picture 1").click()
    soon(studio_page.draw_button.is_enabled, True)
    job = studio_page.draw("91")
    soon(lambda: job.get_attribute("data-state"), "done")
    assert job.locator(".job-name span").first.text_content() == HOSTILE
    studio_page.page.get_by_label("Boxes", exact=True).check()
    studio_page.page.locator("svg.overlay .label").wait_for()
    shelved = studio_page.panel("Gallery").get_by_role("button", name="seed 91")
    soon(lambda: shelved.locator("span").first.text_content(), HOSTILE)
    shelved.click()
    soon(lambda: studio_page.scene()["caption"], HOSTILE)
    assert_untouched(studio_page)


def test_in_yaml_that_is_wrong(studio_page: StudioPage) -> None:
    panel = studio_page.panel("Models")
    panel.get_by_role("button", name="YAML").click()
    text = panel.get_by_label("composition as YAML")
    problem = panel.locator(".yaml-editor .problem")
    for written in (f"providers: [{{use: '{HOSTILE}'}}]", f"'{HOSTILE}': 1", f"providers: {IMAGE}: {{"):
        before = problem.all_text_contents()
        text.fill(written)
        soon(lambda before=before: problem.all_text_contents() not in ([], before), True)
        assert_untouched(studio_page)
    text.fill(f"providers: [{{use: '{HOSTILE}'}}]")
    panel.locator(".yaml-editor .problem", has_text="<img src=x").wait_for()
    panel.get_by_role("button", name="Form", exact=True).click()
    assert studio_page.page.locator('[data-member="0"] strong').text_content() == HOSTILE
    studio_page.problems("providers.0.use").get_by_text("<img src=x").wait_for()
    assert_untouched(studio_page)


def test_in_names_and_settings_of_files(studio_page: StudioPage) -> None:
    name = HOSTILE.replace("/", "") + ".png"
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, HOSTILE)
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG", pnginfo=info)
    for panel, file in (("Gallery", content.getvalue()), ("Gallery", b"no picture"), ("Scene", b"no picture")):
        drop(studio_page.panel(panel), name, file)
        soon(studio_page.said.is_visible, True)
        soon(lambda: bool(studio_page.said.text_content()), True)
        assert_untouched(studio_page)
        studio_page.said.evaluate("one => { one.textContent = ''; }")
    # As a reference picture it is taken, under a name of its own.
    drop(studio_page.panel("Scene"), name, png("red"))
    soon(lambda: len(studio_page.scene()["references"]), 2)
    assert studio_page.scene()["references"][1]["image"].startswith("img-src-x-onerror")
    assert_untouched(studio_page)
