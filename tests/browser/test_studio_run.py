"""Pictures that are drawn: the same as on disk and as drawn again, with previews, progress, a queue and several seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops
from studio_page import StudioPage, decoded, soon

if TYPE_CHECKING:
    from conftest import RunningStudio

pytestmark = pytest.mark.browser


@pytest.fixture
def slow(studio_page: StudioPage) -> StudioPage:
    """A page whose pictures take some seconds."""
    studio_page.key("sampler.steps").fill("150")
    soon(lambda: studio_page.composition()["sampler"]["steps"], 150)
    return studio_page


def state(studio_page: StudioPage, number: int) -> str | None:
    """Return the state of a job, 0 for the newest."""
    return studio_page.jobs().nth(number).get_attribute("data-state")


def differ(one: Image.Image, other: Image.Image) -> bool:
    """Return whether two pictures of one size differ in a pixel."""
    assert one.size == other.size
    return ImageChops.difference(one, other).getbbox() is not None


def test_the_picture_is_that_on_disk_and_that_of_amdm_rerun(
    studio_page: StudioPage, studio: RunningStudio, tmp_path: Path
) -> None:
    job = studio_page.draw("41")
    soon(lambda: job.get_attribute("data-state"), "done")
    shown = studio_page.pixels()
    assert shown.size == (64, 64)
    (file,) = studio.output.glob("*-41.png")
    with Image.open(file) as kept:
        assert not differ(shown, kept.convert("RGB"))
    # What is saved from the page is the file itself, settings included.
    with studio_page.page.expect_download() as download:
        studio_page.page.get_by_role("button", name="Save the picture, with its settings").click()
    assert Path(download.value.path()).read_bytes() == file.read_bytes()
    amdm = Path(sys.executable).with_name("amdm")
    subprocess.run(
        [amdm, "rerun", file, "--output", tmp_path],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    (again,) = tmp_path.glob("*.png")
    with Image.open(again) as drawn_again:
        assert not differ(shown, drawn_again.convert("RGB"))
    # Another scene is another picture.
    studio_page.page.get_by_label("phrase of square").fill("red star")
    job = studio_page.draw("41")
    soon(lambda: job.get_attribute("data-state"), "done")
    assert differ(shown, studio_page.pixels())
    # The job before still shows its own.
    studio_page.jobs().nth(1).get_by_role("button").first.click()
    soon(lambda: differ(shown, studio_page.pixels()), False)


def test_previews_and_progress_are_shown_while_it_is_drawn(slow: StudioPage) -> None:
    job = slow.draw("1")
    for name in ("", "interactdiffusion", "migc", "ip_adapter"):
        slow.page.locator(f'[data-preview="{name}"] img').wait_for()
    image = slow.page.locator('[data-preview=""] img')
    early, step = image.get_attribute("src") or "", image.get_attribute("alt")
    assert decoded(early).size == (64, 64)
    assert step is not None and step.startswith("Together, expected after step ")
    progress = slow.panel("Picture").get_by_role("progressbar", name="Steps")
    before = float(progress.get_attribute("value") or 0)
    assert progress.get_attribute("max") == "150"
    soon(lambda: float(progress.get_attribute("value") or 0) > before, True)
    soon(lambda: image.get_attribute("src") != early, True)
    soon(lambda: job.get_attribute("data-state"), "done")
    assert slow.pixels().size == (64, 64)
    assert slow.page.locator("[data-preview]").count() == 0


def test_jobs_wait_for_each_other_and_are_drawn_in_order(slow: StudioPage) -> None:
    for seed in ("1", "2", "3"):
        slow.draw(seed)
    soon(lambda: [state(slow, number) for number in range(3)], ["waiting", "waiting", "drawing"])
    texts = slow.jobs().locator(".job-name").all_text_contents()
    assert "waiting, 2 before it" in texts[0] and "waiting, 1 before it" in texts[1]
    # One that waits is cancelled, then the one that is drawn.
    slow.jobs().nth(1).get_by_role("button", name="Cancel").click()
    soon(lambda: state(slow, 1), "cancelled")
    assert state(slow, 2) == "drawing"
    slow.jobs().nth(2).get_by_role("button", name="Cancel").click()
    soon(lambda: state(slow, 2), "cancelled")
    soon(lambda: state(slow, 0), "drawing")
    soon(lambda: state(slow, 0), "done")
    assert [state(slow, number) for number in range(3)] == ["done", "cancelled", "cancelled"]
    assert slow.drawn().get_attribute("alt") == "Together, seed 3"


def test_several_seeds_are_one_batch_to_choose_from(studio_page: StudioPage, studio: RunningStudio) -> None:
    studio_page.page.get_by_label("Seeds", exact=True).fill("51")
    studio_page.page.get_by_role("button", name="One more seed").click()
    assert studio_page.page.get_by_label("Seeds", exact=True).input_value() == "51, 52"
    job = studio_page.draw("51, 52")
    soon(lambda: job.get_attribute("data-state"), "done")
    for seed in ("51", "52", "51"):
        studio_page.page.get_by_role("group", name="Seed").get_by_role("button", name=f"seed {seed}").click()
        studio_page.page.locator(f'img[alt="Together, seed {seed}"]').wait_for()
        (file,) = studio.output.glob(f"*-{seed}.png")
        with Image.open(file) as kept:
            assert not differ(studio_page.pixels(), kept.convert("RGB"))


def test_together_and_each_alone_are_compared(studio_page: StudioPage, studio: RunningStudio) -> None:
    job = studio_page.draw("61", alone=True)
    soon(lambda: job.get_attribute("data-state"), "done")
    switch = studio_page.page.get_by_role("group", name="Drawn by")
    together = studio_page.pixels()
    alone = {}
    for name in ("interactdiffusion", "migc", "ip_adapter"):
        switch.get_by_role("button", name=name, exact=True).click()
        alone[name] = studio_page.pixels(name)
        (file,) = (studio.output / "alone").glob(f"*-{name.replace('_', '-')}-61.png")
        with Image.open(file) as kept:
            assert not differ(alone[name], kept.convert("RGB"))
        assert differ(alone[name], together)
    switch.get_by_role("button", name="Side by side").click()
    views = studio_page.page.locator("figure[data-view]")
    assert views.evaluate_all("all => all.map((one) => one.dataset.view)") == ["together", *alone]
    assert views.locator("figcaption").all_text_contents() == ["Together", *(f"{name} alone" for name in alone)]
    for name, picture in {"together": together, **alone}.items():
        assert not differ(studio_page.pixels(name), picture)


def test_boxes_and_a_trace_are_laid_over_and_below(studio_page: StudioPage) -> None:
    job = studio_page.draw("1")
    soon(lambda: job.get_attribute("data-state"), "done")
    studio_page.drawn()
    overlay = studio_page.page.locator("svg.overlay")
    assert overlay.count() == 0
    studio_page.page.get_by_label("Boxes", exact=True).check()
    soon(lambda: overlay.locator(".box").count(), 3)
    # Over the very place where the scene has them.
    picture = studio_page.drawn().bounding_box()
    assert picture is not None
    laid = [
        [
            (box["x"] - picture["x"]) / picture["width"],
            (box["y"] - picture["y"]) / picture["height"],
            (box["x"] + box["width"] - picture["x"]) / picture["width"],
            (box["y"] + box["height"] - picture["y"]) / picture["height"],
        ]
        for box in filter(None, (each.bounding_box() for each in overlay.locator(".box").all()))
    ]
    # With half of its line around it.
    assert sorted(laid) == [pytest.approx(box, abs=0.02) for box in sorted(studio_page.boxes().values())]
    studio_page.page.get_by_label("Boxes", exact=True).uncheck()
    assert overlay.count() == 0
    plot = studio_page.page.get_by_label("Step by step")
    plot.check()
    image = studio_page.page.locator("img.plot")
    soon(lambda: image.evaluate("one => one.naturalWidth > 300"), True)
    # Lines on paper.
    assert len(decoded(image.get_attribute("src") or "").getcolors(2**24) or []) > 10
