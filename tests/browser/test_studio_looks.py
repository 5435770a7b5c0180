"""The page at the width of a desk and of a hand, light and dark, by touch and by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from complaints import record_complaints
from studio_page import StudioPage, near, soon

if TYPE_CHECKING:
    from conftest import RunningStudio
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

LEAST_CONTRAST = 4.5
"""Of texts to their ground: level AA of the Web Content Accessibility Guidelines 2.1, 1.4.3."""

# For every text that can be seen: its contrast by the formula of WCAG 2.1 (relative luminance), with grounds that are
# partly transparent laid over those below. Disabled controls are exempt there.
CONTRASTS = """root => {
    const parse = (text) => {
        const numbers = text.match(/[\\d.]+/g).map(Number);
        const scale = text.startsWith('color(') ? 255 : 1;
        return [numbers[0] * scale, numbers[1] * scale, numbers[2] * scale, numbers[3] ?? 1];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const luminance = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const grounds = [];
        for (let at = element; at; at = at.parentElement) grounds.push(parse(getComputedStyle(at).backgroundColor));
        return grounds.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    };
    const found = [];
    for (const element of root.querySelectorAll('*')) {
        const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent.trim()).join('');
        const value = element.matches('input:not([type=checkbox], [type=file]), textarea') ? element.value : '';
        if (!(own || value) || element instanceof SVGElement || element.matches(':disabled, option, .colour')) continue;
        if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        const below = ground(element);
        const [one, other] = [luminance(over(parse(getComputedStyle(element).color), below)), luminance(below)];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        found.push([element.className || element.localName, (own || value).slice(0, 30), Math.round(ratio * 100) / 100]);
    }
    return found;
}"""

# Marks what has the focus; false where that was marked before.
VISIT_FOCUS = """() => {
    let at = document.activeElement;
    while (at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
    const isNew = !('visited' in at.dataset);
    at.dataset.visited = '';
    return isNew;
}"""


@pytest.fixture
def phone(browser: Browser, studio: RunningStudio) -> Iterator[StudioPage]:
    """The page on a screen that is 390 pixels wide and is touched."""
    with browser.new_context(
        base_url=studio.address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    ) as context:
        complaints = record_complaints(context)
        yield StudioPage(context.new_page())
    assert complaints == []


def too_wide(studio_page: StudioPage) -> int:
    """Return by how many pixels the page can be scrolled to the side."""
    return int(studio_page.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def draw_and_show_everything(studio_page: StudioPage) -> None:
    """Draw a picture and lay open whatever can be opened."""
    job = studio_page.draw("1", alone=True)
    soon(lambda: job.get_attribute("data-state"), "done")
    studio_page.page.get_by_role("group", name="Drawn by").get_by_role("button", name="Side by side").click()


def test_nothing_is_scrolled_to_the_side_on_a_desk(studio_page: StudioPage) -> None:
    draw_and_show_everything(studio_page)
    for summary in studio_page.page.locator("summary").all():
        summary.click()
    for width in (1280, 1100, 800):
        studio_page.page.set_viewport_size({"width": width, "height": 900})
        assert too_wide(studio_page) == 0, width
    for name in ("Scene", "Models", "Picture", "Gallery"):
        assert studio_page.panel(name).is_visible()


def test_names_of_models_are_on_one_line_on_a_desk(studio_page: StudioPage) -> None:
    names = studio_page.page.locator(".member-head strong")
    assert names.all_text_contents() == ["interactdiffusion", "migc", "ip_adapter"]
    # A line is 1.2 of the size of the letters.
    lines = names.evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).fontSize))"
    )
    assert max(lines) < 1.5
    assert names.evaluate_all("all => all.filter((one) => one.scrollWidth > one.clientWidth).length") == 0


def test_tabs_lead_to_every_part_in_a_hand(phone: StudioPage) -> None:
    parts = ("Scene", "Models", "Picture", "Gallery")
    tabs = phone.page.get_by_role("navigation", name="Parts of the page")
    for name in parts:
        tabs.get_by_role("button", name=name).tap()
        assert [part for part in parts if phone.panel(part).is_visible()] == [name]
        assert too_wide(phone) == 0, name
    tabs.get_by_role("button", name="Picture").tap()
    draw_and_show_everything(phone)
    assert too_wide(phone) == 0
    # Whatever is tapped is large enough for a finger: 24 pixels, by WCAG 2.2, 2.5.8.
    for name in parts:
        tabs.get_by_role("button", name=name).tap()
        buttons = phone.page.locator("button:visible")
        sizes = buttons.evaluate_all(
            "all => all.map((one) => [one.textContent + one.title, one.getBoundingClientRect().width, "
            "one.getBoundingClientRect().height])"
        )
        assert [one for one in sizes if min(one[1:]) < 24] == []


def test_a_finger_draws_a_box(phone: StudioPage) -> None:
    phone.write("scene", {"caption": "a star"})
    touch = phone.page.context.new_cdp_session(phone.page)

    def at(kind: str, *place: float) -> None:
        points = [{"x": x, "y": y} for x, y in [phone.point(*place)]] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    at("touchStart", 0.2, 0.3)
    at("touchMove", 0.4, 0.4)
    at("touchMove", 0.7, 0.8)
    at("touchEnd")
    phone.page.keyboard.type("a red star")
    phone.page.keyboard.press("Tab")
    soon(phone.boxes, {"star": near(0.2, 0.3, 0.7, 0.8)})
    # The page was not scrolled instead, and a tap chooses.
    phone.page.touchscreen.tap(*phone.point(0.9, 0.1))
    assert phone.stage.locator("[data-handle]").count() == 0
    phone.page.touchscreen.tap(*phone.point(0.4, 0.5))
    phone.stage.locator('[data-handle="se"]').wait_for()
    assert phone.boxes() == {"star": near(0.2, 0.3, 0.7, 0.8)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(studio_page: StudioPage, scheme: str) -> None:
    studio_page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    studio_page.page.reload()
    studio = studio_page.page.locator(".studio")
    studio_page.page.locator(".verdict.good").wait_for()
    assert studio.get_attribute("data-theme") == scheme
    draw_and_show_everything(studio_page)
    found = studio.evaluate(CONTRASTS)
    # A member that lacks something: messages, and the button that is disabled.
    studio_page.page.get_by_label("Add a model").select_option("stable_diffusion")
    studio_page.problems("providers.3.checkpoint").wait_for()
    found += studio.evaluate(CONTRASTS)
    assert len(found) > 100
    assert {one[0] for one in found} >= {"h1", "h2", "badge", "problem", "faint", "summary", "primary"}
    assert [one for one in found if one[2] < LEAST_CONTRAST] == []


def test_the_button_changes_between_light_and_dark_for_good(studio_page: StudioPage) -> None:
    studio = studio_page.page.locator(".studio")
    ground = "one => getComputedStyle(one).backgroundColor.match(/\\d+/g).map(Number)"
    assert studio.get_attribute("data-theme") == "light" and min(studio.evaluate(ground)) > 200
    studio_page.page.get_by_role("button", name="Light or dark").click()
    assert studio.get_attribute("data-theme") == "dark" and max(studio.evaluate(ground)) < 60
    studio_page.page.reload()
    studio_page.page.locator(".verdict.good").wait_for()
    assert studio.get_attribute("data-theme") == "dark"


def test_tab_gets_to_everything(studio_page: StudioPage) -> None:
    for summary in studio_page.page.locator("summary").all():
        summary.click()
    studio_page.page.locator("h1").click()
    for _ in range(400):
        studio_page.page.keyboard.press("Tab")
        visited = studio_page.page.evaluate(VISIT_FOCUS)
        if not visited:
            break
    missed = studio_page.page.locator(".studio").evaluate(
        """root => [...root.querySelectorAll('button:enabled, input, select, textarea, summary, a[href], [tabindex="0"]')]
            .filter((one) => one.checkVisibility() && !('visited' in one.dataset))
            .map((one) => one.getAttribute('aria-label') || one.dataset.key || one.textContent)"""
    )
    assert missed == []


def test_a_scene_is_made_without_a_mouse(studio_page: StudioPage) -> None:
    model = {"use": "stable_diffusion", "checkpoint": "zoo://base"}
    studio_page.write("composition", {"providers": [model], "sampler": {"steps": 2}})
    studio_page.write("scene", {"caption": "a star"})
    keyboard = studio_page.page.keyboard
    studio_page.stage.focus()
    keyboard.press("Enter")
    keyboard.type("red star")
    keyboard.press("Tab")
    soon(lambda: list(studio_page.boxes()), ["star"])
    (before,) = studio_page.boxes().values()
    # Back to the stage, over colour and name.
    for _ in range(4):
        keyboard.press("Shift+Tab")
    keyboard.press("ArrowLeft")
    soon(
        lambda: studio_page.boxes()["star"], pytest.approx([before[0] - 0.005, before[1], before[2] - 0.005, before[3]])
    )
    assert all(0 <= value <= 1 for value in before) and before[0] < before[2] and before[1] < before[3]
    studio_page.page.get_by_label("right of star").fill("0.9")
    keyboard.press("Enter")
    soon(lambda: studio_page.boxes()["star"][2], 0.9)
    studio_page.page.get_by_role("button", name="Add an interaction").focus()
    keyboard.press("Enter")
    keyboard.type("spins")
    soon(lambda: studio_page.scene()["interactions"], [{"subject": "star", "action": "spins", "object": "star"}])
    soon(studio_page.draw_button.is_enabled, True)
    studio_page.draw_button.focus()
    keyboard.press("Enter")
    soon(lambda: studio_page.jobs().evaluate_all("all => all.map((one) => one.dataset.state)"), ["done"])
