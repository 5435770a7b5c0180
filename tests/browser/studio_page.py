"""The studio's page in the hands of a test: what a person does on it with mouse and keyboard, and reads from it."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SECONDS = 30
"""What a page may take for an answer on a machine that does much else."""

Point = tuple[float, float]


def soon(read: Callable[[], Any], expected: Any) -> None:
    """Wait until something reads as expected; where it does not, the assertion shows what it reads as at last.

    What is not there yet (a key, an entry of a list) is waited for, too.
    """
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if read() == expected:
                return
        except (LookupError, TypeError):
            pass
        time.sleep(0.05)
    found = read()
    assert found == expected, f"found {found!r}, expected {expected!r}"


def near(*values: float) -> Any:
    """Return fractions of the stage that are met up to a pixel or so."""
    return pytest.approx(list(values), abs=0.005)


class StudioPage:
    """A page of the studio.

    Args:
        page: in a context in which "/" is the studio.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(SECONDS * 1000)
        page.goto("/")
        self.stage = page.locator("svg.stage")
        self.verdict = page.locator(".verdict")
        self.said = page.get_by_role("alert")
        self.draw_button = page.get_by_role("region", name="Picture").get_by_role("button", name="Draw", exact=True)
        page.locator(".verdict.good").wait_for(state="attached")

    def panel(self, name: str) -> Locator:
        """Return one of the four parts."""
        return self.page.get_by_role("region", name=name, exact=True)

    def key(self, key: str) -> Locator:
        """Return the control of a key of the scene or of the composition."""
        return self.page.locator(f'[data-key="{key}"]')

    def problems(self, key: str) -> Locator:
        """Return the messages at a key."""
        return self.page.locator(f'[data-problems="{key}"] .problem')

    def text_of(self, part: str) -> str:
        """Return the scene or the composition as the YAML view has it."""
        return self.page.get_by_label(f"{part} as YAML").input_value()

    def scene(self) -> dict[str, Any]:
        """Return the scene that the YAML view has."""
        return yaml.safe_load(self.text_of("scene"))

    def composition(self) -> dict[str, Any]:
        """Return the composition that the YAML view has."""
        return yaml.safe_load(self.text_of("composition"))

    def write(self, part: str, content: dict[str, Any]) -> None:
        """Write the scene or the composition as YAML, and go back to its form."""
        panel, form = (self.panel("Scene"), "Draw") if part == "scene" else (self.panel("Models"), "Form")
        panel.get_by_role("button", name="YAML").click()
        # The form's own YAML has no such line.
        panel.get_by_label(f"{part} as YAML").fill("# written\n" + yaml.safe_dump(content, sort_keys=False))
        panel.get_by_role("button", name=form, exact=True).click()
        soon(lambda: self.text_of(part).startswith("# written"), False)

    def boxes(self) -> dict[str, list[float]]:
        """Return the boxes that the YAML view has."""
        return {name: one["box"] for name, one in self.scene().get("instances", {}).items()}

    def point(self, x: float, y: float) -> Point:
        """Return where a point of the picture is on the screen."""
        self.stage.scroll_into_view_if_needed()
        bounds = self.stage.bounding_box()
        assert bounds is not None
        return bounds["x"] + x * bounds["width"], bounds["y"] + y * bounds["height"]

    def drag(self, start: Point, end: Point, *, by: Point = (0, 0)) -> None:
        """Press the mouse at a point of the picture, move it in a few steps, and let it go at another.

        Args:
            start: in fractions of the picture.
            end: likewise.
            by: how many pixels further than that.
        """
        self.page.mouse.move(*self.point(*start))
        x, y = self.point(*end)
        self.page.mouse.down()
        self.page.mouse.move(x + by[0], y + by[1], steps=4)
        self.page.mouse.up()

    def click_at(self, x: float, y: float) -> None:
        """Click at a point of the picture."""
        self.page.mouse.click(*self.point(x, y))

    def draw(self, seeds: str = "1", *, alone: bool = False) -> Locator:
        """Press Draw, and return the job of it in the list."""
        before = self.jobs().count()
        self.page.get_by_label("Seeds", exact=True).fill(seeds)
        self.page.get_by_label("Each model alone, too").set_checked(alone)
        self.draw_button.click()
        soon(lambda: self.jobs().count(), before + 1)
        key = self.jobs().first.get_attribute("data-job")
        return self.page.locator(f'[data-job="{key}"]')

    def jobs(self) -> Locator:
        """Return the list of jobs, the newest first."""
        return self.panel("Picture").locator("[data-job]")

    def drawn(self, view: str = "together") -> Locator:
        """Return the picture that is shown, once it is there."""
        image = self.page.locator(f'[data-view="{view}"] img.drawn')
        image.wait_for()
        soon(lambda: (image.get_attribute("src") or "")[:22], "data:image/png;base64,")
        return image

    def pixels(self, view: str = "together") -> Image.Image:
        """Return the picture that is shown."""
        return decoded(self.drawn(view).get_attribute("src") or "")


def decoded(uri: str) -> Image.Image:
    """Return the picture in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def drop(target: Locator, name: str, content: bytes, kind: str = "image/png") -> None:
    """Drop a file onto an element, as the browser does for a file of the desktop.

    Args:
        target: what it is let go over.
        name: of the file.
        content: of the file.
        kind: its media type.
    """
    transfer = target.page.evaluate_handle(
        """([name, content, kind]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: kind }));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode(), kind],
    )
    for event in ("dragenter", "dragover", "drop"):
        target.dispatch_event(event, {"dataTransfer": transfer})


def png(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """Return a PNG file of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()
