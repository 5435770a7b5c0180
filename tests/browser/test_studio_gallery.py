"""Pictures bring back what made them: those of the gallery, and those of `amdm run` that are dropped onto the page."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from PIL import Image, PngImagePlugin
from studio_page import StudioPage, drop, png, soon

from amdm_framework.record import RECORD_KEY

if TYPE_CHECKING:
    from conftest import RunningStudio

pytestmark = pytest.mark.browser

ONE_MODEL = {
    "providers": [{"use": "stable_diffusion", "checkpoint": "zoo://base"}],
    "sampler": {"steps": 2, "guidance_scale": 3},
}
STAR = {"caption": "a red star", "instances": {"star": {"phrase": "red star", "box": [0.1, 0.2, 0.5, 0.6]}}}


def holds(studio_page: StudioPage) -> tuple[str, str, str]:
    """Return what the page is working on: scene, composition and seeds."""
    seeds = studio_page.page.get_by_label("Seeds", exact=True).input_value()
    return studio_page.text_of("scene"), studio_page.text_of("composition"), seeds


def test_a_click_on_a_picture_brings_back_what_made_it(studio_page: StudioPage) -> None:
    studio_page.write("composition", ONE_MODEL)
    studio_page.write("scene", STAR)
    made_by = studio_page.scene(), studio_page.composition()
    job = studio_page.draw("71")
    soon(lambda: job.get_attribute("data-state"), "done")
    picture = studio_page.panel("Gallery").get_by_role("button", name="seed 71")
    picture.wait_for()
    assert "a red star" in (picture.text_content() or "")
    # Something else meanwhile, then back.
    studio_page.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    studio_page.page.get_by_label("Seeds", exact=True).fill("5")
    soon(lambda: list(studio_page.boxes()), ["star", "circle"])
    picture.click()
    soon(lambda: (studio_page.scene(), studio_page.composition()), made_by)
    assert studio_page.page.get_by_label("Seeds", exact=True).input_value() == "71"
    assert studio_page.page.get_by_label("phrase of star").input_value() == "red star"
    # A page that is opened anew has it as well.
    studio_page.page.reload()
    picture.wait_for()


def test_a_picture_of_the_command_line_is_dropped_and_brings_back_what_made_it(
    studio_page: StudioPage, tmp_path: Path
) -> None:
    (tmp_path / "composition.yaml").write_text(yaml.safe_dump(ONE_MODEL))
    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(STAR))
    amdm = Path(sys.executable).with_name("amdm")
    command = [amdm, "run", "composition.yaml", "--scene", "scene.yaml", "--seed", "18446744073709551615"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (drawn,) = tmp_path.glob("*.png")
    drop(studio_page.panel("Gallery"), drawn.name, drawn.read_bytes())
    soon(studio_page.boxes, {"star": [0.1, 0.2, 0.5, 0.6]})
    assert studio_page.scene()["caption"] == "a red star"
    composition = studio_page.composition()
    assert composition["providers"] == ONE_MODEL["providers"] and composition["sampler"]["steps"] == 2
    # More than a number of JavaScript holds.
    assert studio_page.page.get_by_label("Seeds", exact=True).input_value() == "18446744073709551615"
    # One that is chosen, too.
    studio_page.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: list(studio_page.boxes()), ["star", "circle"])
    with studio_page.page.expect_file_chooser() as chooser:
        studio_page.page.get_by_role("button", name="Open a picture").click()
    chooser.value.set_files(drawn)
    soon(studio_page.boxes, {"star": [0.1, 0.2, 0.5, 0.6]})


def recorded(record: str) -> bytes:
    """Return a PNG file that carries settings, whatever they are."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, record)
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG", pnginfo=info)
    return content.getvalue()


def test_settings_without_models_bring_nothing_back(studio_page: StudioPage, studio: RunningStudio) -> None:
    studio_page.write("composition", ONE_MODEL)
    job = studio_page.draw("72")
    soon(lambda: job.get_attribute("data-state"), "done")
    (file,) = studio.output.glob("*-72.png")
    with Image.open(file) as drawn:
        record = json.loads(drawn.info[RECORD_KEY])
    before = holds(studio_page)
    for composition in ({"sampler": {"steps": 3}}, {"providers": 5}, {"providers": ["migc"]}):
        drop(studio_page.panel("Gallery"), "old.png", recorded(json.dumps(record | {"composition": composition})))
        studio_page.said.get_by_text("its settings are damaged: composition.providers").wait_for()
        studio_page.said.evaluate("one => { one.textContent = ''; }")
        assert holds(studio_page) == before
    # The page goes on.
    studio_page.key("sampler.steps").fill("4")
    studio_page.verdict.get_by_text("4 evaluations a picture").wait_for()


def test_files_that_bring_nothing_back_change_nothing(studio_page: StudioPage) -> None:
    before = holds(studio_page)
    for name, content, message in [
        ("plain.png", png("red"), "settings"),
        ("notes.png", b"no picture", "not a PNG"),
        ("cut.png", png("red", (300, 300))[:60], "settings"),
        (
            "damaged.png",
            recorded('{"composition": {"providers": 1}, "scene": []}'),
            "its settings are damaged: scene: expected keys and values",
        ),
    ]:
        drop(studio_page.panel("Gallery"), name, content)
        studio_page.said.get_by_text(message).wait_for()
        said = studio_page.said.text_content() or ""
        # Where the studio keeps what arrives is nobody's business.
        assert "/" not in said, said
        studio_page.said.evaluate("one => { one.textContent = ''; }")
    assert holds(studio_page) == before
    assert studio_page.verdict.get_by_text("These models fit").is_visible()
