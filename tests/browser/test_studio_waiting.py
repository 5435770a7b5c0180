"""The page while it waits: buttons that stay where they are, questions that are few, answers that come late or never."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from complaints import record_complaints
from studio_page import StudioPage, soon

from amdm_framework.yaml_files import MAX_FILE_BYTES

if TYPE_CHECKING:
    from conftest import RunningStudio
    from playwright.sync_api import Browser, Locator, Request, Route

pytestmark = pytest.mark.browser

QUESTIONS = "**/gradio_api/component_server/"
PRESS = 150
"""How long somebody who is not in a hurry holds the mouse button down, in milliseconds."""

MANY_SEEDS = ", ".join(map(str, range(16)))
"""Of a job that is drawn until it is cancelled."""


def question(request: Request) -> dict[str, Any]:
    """Return a question of the page to the studio, whose name is under `fn_name`."""
    content = json.loads(request.post_data or "{}")
    assert isinstance(content, dict)
    return content


def asked(studio_page: StudioPage, name: str) -> list[dict[str, Any]]:
    """Return a list that grows with every question of a name from now on."""
    found: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if "component_server" in request.url and question(request)["fn_name"] == name:
            found.append(question(request))

    studio_page.page.on("request", note)
    return found


def slow_click(target: Locator) -> None:
    """Press the mouse button over an element, and let it go a while later."""
    target.hover()
    target.page.mouse.down()
    target.page.wait_for_timeout(PRESS)
    target.page.mouse.up()


def steps(studio_page: StudioPage, number: int) -> None:
    """Let pictures take so many steps; 100 of them take seconds."""
    studio_page.key("sampler.steps").fill(str(number))
    soon(lambda: studio_page.composition()["sampler"]["steps"], number)


def soon_heard(studio_page: StudioPage, read: Callable[[], Any], expected: Any) -> None:
    """Wait until something reads as expected that this test's own listeners write: they are called in between."""
    soon(lambda: (studio_page.page.wait_for_timeout(20), read())[1], expected)


def states(studio_page: StudioPage) -> list[str]:
    """Return the states of the jobs, the newest first."""
    return studio_page.jobs().evaluate_all("all => all.map((one) => one.dataset.state)")


@pytest.fixture
def troubled(browser: Browser, studio: RunningStudio) -> Iterator[StudioPage]:
    """A page whose questions a test lets fail: that the browser notes these is no complaint."""
    with browser.new_context(base_url=studio.address, viewport={"width": 1280, "height": 900}) as context:
        complaints = record_complaints(context)
        yield StudioPage(context.new_page())
    assert [one for one in complaints if "Failed to load resource" not in one] == []


def test_slow_clicks_on_cancel_count_while_jobs_change(studio_page: StudioPage) -> None:
    steps(studio_page, 200)
    studio_page.draw(MANY_SEEDS, alone=True)
    for seed in range(5):
        studio_page.draw(str(seed))
    soon(lambda: states(studio_page), [*["waiting"] * 5, "drawing"])
    for number in range(5):
        slow_click(studio_page.jobs().nth(number).get_by_role("button", name="Cancel"))
        soon(lambda number=number: states(studio_page)[number], "cancelled")
    # The keyboard stays where it was, too.
    drawn = studio_page.jobs().nth(5)
    cancel = drawn.get_by_role("button", name="Cancel")
    cancel.focus()
    progress = drawn.get_by_role("progressbar")
    before = progress.evaluate("one => one.value")
    soon(lambda: progress.evaluate("one => one.value") > before, True)
    assert cancel.evaluate("one => one.getRootNode().activeElement === one")
    studio_page.page.keyboard.press("Enter")
    soon(lambda: states(studio_page), ["cancelled"] * 6)


def test_slow_clicks_on_a_result_count_while_members_are_drawn_alone(studio_page: StudioPage) -> None:
    steps(studio_page, 200)
    traces = asked(studio_page, "trace")
    job = studio_page.draw("21", alone=True)
    studio_page.drawn()
    for name in ("Step by step", "Boxes"):
        box = studio_page.page.get_by_label(name, exact=True)
        slow_click(box)
        soon(box.is_checked, True)
    studio_page.page.locator("img.plot[src^='data:']").wait_for()
    assert job.get_attribute("data-state") == "drawing"
    switch = studio_page.page.get_by_role("group", name="Drawn by")
    slow_click(switch.get_by_role("button", name="Side by side"))
    soon(lambda: switch.get_by_role("button", name="Side by side").get_attribute("aria-pressed"), "true")
    soon(lambda: job.get_attribute("data-state"), "done")
    soon(studio_page.page.locator("figure[data-view]").count, 4)
    # What members did alone is no reason to draw the trace again.
    assert len(traces) == 1


def test_a_trace_is_asked_for_once_for_each_picture(studio_page: StudioPage) -> None:
    traces = asked(studio_page, "trace")
    job = studio_page.draw("31, 32")
    soon(lambda: job.get_attribute("data-state"), "done")
    studio_page.page.get_by_label("Step by step").check()
    plots = []
    for seed in ("31", "32", "31", "32"):
        studio_page.page.get_by_role("button", name=f"seed {seed}").and_(
            studio_page.page.locator(".strip button")
        ).click()
        plot = studio_page.page.locator("img.plot[src^='data:']")
        plot.wait_for()
        plots.append(plot.get_attribute("src"))
    assert [(one["data"]["position"]) for one in traces] == [0, 1]
    assert plots[0] != plots[1] and plots[2:] == plots[:2]


def test_a_page_where_nothing_is_drawn_asks_rarely(studio_page: StudioPage) -> None:
    # With answers that take their time, buttons are pressed while a question is under way.
    def late(route: Route) -> None:
        response = route.fetch()
        studio_page.page.wait_for_timeout(300)
        route.fulfill(response=response)

    steps(studio_page, 200)
    drawn = studio_page.draw(MANY_SEEDS, alone=True)
    studio_page.page.route(QUESTIONS, late)
    for number in range(2, 6):
        studio_page.draw(str(number)).get_by_role("button", name="Cancel").click()
    drawn.get_by_role("button", name="Cancel").click()
    soon(lambda: states(studio_page), ["cancelled"] * 5)
    studio_page.page.unroute(QUESTIONS)
    studio_page.page.wait_for_timeout(1000)
    questions = asked(studio_page, "jobs")
    studio_page.page.wait_for_timeout(8000)
    # One every 2.5 s.
    assert 2 <= len(questions) <= 4


def test_an_answer_from_before_a_job_does_not_bring_back_the_one_before(studio_page: StudioPage) -> None:
    first = studio_page.draw("1")
    soon(lambda: first.get_attribute("data-state"), "done")
    held: list[Callable[[], None]] = []

    def hold(route: Route) -> None:
        if held or question(route.request)["fn_name"] != "jobs":
            route.continue_()
            return
        # What the studio knew before the next job.
        response = route.fetch()
        held.append(lambda: route.fulfill(response=response))

    studio_page.page.route(QUESTIONS, hold)
    soon_heard(studio_page, lambda: len(held), 1)
    with studio_page.page.expect_response(
        lambda response: "component_server" in response.url and question(response.request)["fn_name"] == "draw"
    ):
        studio_page.page.get_by_label("Seeds", exact=True).fill("2")
        studio_page.draw_button.click()
    held[0]()
    soon(studio_page.jobs().count, 2)
    newest = studio_page.jobs().first.get_attribute("data-job")
    chosen = studio_page.page.locator(".job.chosen")
    soon(lambda: chosen.get_attribute("data-job"), newest)
    soon(lambda: states(studio_page), ["done", "done"])
    assert chosen.get_attribute("data-job") == newest
    assert studio_page.drawn().get_attribute("alt") == "Together, seed 2"


def test_a_job_cancelled_while_members_are_drawn_alone_has_its_picture(
    studio_page: StudioPage, studio: RunningStudio
) -> None:
    steps(studio_page, 200)
    job = studio_page.draw("97", alone=True)
    studio_page.drawn()
    job.get_by_role("button", name="Cancel").click()
    soon(lambda: job.get_attribute("data-state"), "cancelled")
    studio_page.panel("Picture").get_by_text("Cancelled: what had been drawn until then is here.").wait_for()
    assert studio_page.drawn().get_attribute("alt") == "Together, seed 97"
    (file,) = studio.output.glob("*-97.png")
    studio_page.page.locator(f'.shelved[data-name="{file.name}"]').wait_for()


def test_what_is_edited_while_the_studio_looks_at_a_draft_stays(studio_page: StudioPage) -> None:
    # The studio finds a mistake in what was sent; meanwhile it has been corrected.
    with studio_page.page.expect_response(QUESTIONS):
        studio_page.page.get_by_label("phrase of square").fill("blue circle")
    soon(lambda: studio_page.scene()["instances"]["square"]["phrase"], "blue circle")

    def answer(route: Route) -> None:
        if question(route.request)["fn_name"] != "draw":
            route.continue_()
            return
        sent = question(route.request)["data"]
        studio_page.page.get_by_label("phrase of square").fill("red star")
        route.fulfill(json={"draft": {
            "composition": sent["composition"], "scene": sent["scene"], "composition_yaml": "", "scene_yaml": "old: text\n",
            "problems": [], "cost": None, "incompatible": "",
        }})  # fmt: skip

    studio_page.page.route(QUESTIONS, answer)
    studio_page.draw_button.click()
    studio_page.said.get_by_text("Something has to be mended first.").wait_for()
    assert "old: text" not in studio_page.text_of("scene")
    soon(lambda: studio_page.scene()["instances"]["square"]["phrase"], "red star")


def test_a_studio_that_is_gone_and_one_that_fails_are_told_apart(troubled: StudioPage) -> None:
    def press_draw(message: str) -> None:
        troubled.draw_button.click()
        troubled.said.get_by_text(message).wait_for()

    troubled.page.route("**/gradio_api/**", lambda route: route.abort())
    press_draw("The studio does not answer. Is it still running?")
    # Of a server in between.
    troubled.page.unroute("**/gradio_api/**")
    troubled.page.route("**/gradio_api/**", lambda route: route.fulfill(status=502, body="Bad gateway"))
    press_draw("HTTP error 502")
    troubled.page.unroute("**/gradio_api/**")
    troubled.page.route("**/gradio_api/login_check", lambda route: route.fulfill(status=401))
    troubled.page.route(QUESTIONS, lambda route: route.fulfill(status=401))
    press_draw("You are not logged in any more: reload the page.")
    troubled.page.unroute("**/gradio_api/login_check")
    troubled.page.unroute(QUESTIONS)
    troubled.page.route(QUESTIONS, lambda route: route.fulfill(status=500))
    press_draw("The studio runs, but could not answer this.")
    # It is back, and so is everything that was asked for.
    troubled.page.unroute(QUESTIONS)
    job = troubled.draw("3")
    soon(lambda: job.get_attribute("data-state"), "done")


def test_a_text_that_is_too_long_is_a_problem_of_its_part(studio_page: StudioPage) -> None:
    studio_page.panel("Scene").get_by_role("button", name="YAML").click()
    text = studio_page.panel("Scene").get_by_label("scene as YAML")
    problem = studio_page.panel("Scene").locator(".yaml-editor .problem")
    before = text.input_value()
    # One that the studio reads, one that it says is too long, and one that it would not even receive; all have the
    # same words, and letters of two bytes count once.
    for length in (MAX_FILE_BYTES + 1, 2**20 + 1):
        text.fill(f"# {'ä' * (length - 3)}\n")
        soon(problem.all_text_contents, [f"found {length} characters, expected {MAX_FILE_BYTES} at most"])
        soon(studio_page.draw_button.is_disabled, True)
        text.fill(before)
        soon(problem.count, 0)
        soon(studio_page.draw_button.is_disabled, False)
    text.fill(before + f"# {'ä' * (MAX_FILE_BYTES - len(before) - 3)}\n")
    studio_page.page.wait_for_timeout(1000)
    assert problem.count() == 0 and not studio_page.draw_button.is_disabled()


def test_a_file_that_is_far_too_large_is_not_loaded(studio_page: StudioPage, tmp_path: Path) -> None:
    file = tmp_path / "weights.yaml"
    file.write_bytes(b"#" * (2**20 + 1))
    studio_page.panel("Scene").get_by_role("button", name="YAML").click()
    before = studio_page.text_of("scene")
    with studio_page.page.expect_file_chooser() as chooser:
        studio_page.panel("Scene").get_by_role("button", name="Load a file").click()
    chooser.value.set_files(file)
    studio_page.panel("Scene").get_by_text("weights.yaml is larger than 1 MiB: it was not loaded").wait_for()
    assert studio_page.text_of("scene") == before


def test_questions_that_expire_together_share_one_new_session(studio_page: StudioPage) -> None:
    old = studio_page.page.evaluate("sessionStorage.getItem('amdm-session')")
    opened = asked(studio_page, "open")
    late: list[Route] = []

    def expire(route: Route) -> None:
        asking = question(route.request)
        if asking["data"]["session"] != old or asking["fn_name"] == "open":
            # A studio that was started anew does not know the old one.
            asking["data"]["session"] = asking["data"]["session"].replace(old, "")
            route.continue_(post_data=json.dumps(asking))
            return
        late.append(route)

    studio_page.page.route(QUESTIONS, expire)
    studio_page.draw_button.click()
    soon_heard(studio_page, lambda: {question(route.request)["fn_name"] for route in late}, {"draw", "jobs"})
    for route in late:
        route.continue_(post_data=json.dumps({**question(route.request), "data": {
            **question(route.request)["data"], "session": "of before",
        }}))  # fmt: skip
    soon(lambda: states(studio_page), ["done"])
    assert len(opened) == 1
    new = studio_page.page.evaluate("sessionStorage.getItem('amdm-session')")
    assert new != old
