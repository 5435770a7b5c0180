"""What the page may ask: answers are plain data, pages know their own things only, and mistakes are told in words."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from studios import COMPOSITION, SCENE, Page, Studio, picture_bytes

from amdm_framework.picture_text import DISTINCT
from amdm_framework.plugins import PluginRegistry
from amdm_framework.studio.drafts import DraftChecker
from amdm_framework.studio.jobs import MOST_WAITING, MOST_WAITING_IN_ALL, Job
from amdm_framework.studio.service import MOST_SEEDS, StudioService

METHODS = ("check", "add_picture", "thumbnail", "open_picture", "draw", "jobs", "cancel", "picture", "trace", "gallery")
UNKNOWN = {"error": "this page is not known any more: reload it", "expired": True}


class Held:
    """Draws nothing, for as long as the test wants."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.began = threading.Event()
        self.ended: list[str] = []

    def __call__(self, job: Job) -> None:
        self.began.set()
        assert self.may_end.wait(20)
        self.ended.append(job.key)
        job.update(stage="x")


@pytest.fixture
def held() -> Any:
    held = Held()
    yield held
    held.may_end.set()


@pytest.fixture
def studio(studio_with: Any, held: Held) -> Any:
    made = studio_with(draw=held)
    yield made
    held.may_end.set()


@pytest.fixture
def page(studio: Studio) -> Page:
    return studio.page()


def test_what_a_page_is_told_at_first(studio: Studio, plugins: PluginRegistry) -> None:
    answer = Page(studio, "").ask("open")
    assert [one["name"] for one in answer["providers"]] == list(plugins.providers)
    assert [one["name"] for one in answer["strategies"]] == list(plugins.strategies)
    assert (
        len(answer["session"]) >= 32 and answer["device"] == "cpu" and answer["default_strategy"] in plugins.strategies
    )
    assert {"use", "condition"}.isdisjoint(field["key"] for field in answer["member"])
    # In the order of `amdm preview`, and plain colours of CSS, which the page needs no table for.
    assert answer["distinct"] == list(DISTINCT) and "red" in answer["named_colours"]
    assert all(re.fullmatch("#[0-9a-f]{6}", one) for one in (*answer["distinct"], *answer["named_colours"].values()))
    for start in answer["starts"]:
        assert studio.page().problems(start["composition"], start["scene"]) == {}


def test_sessions(studio: Studio) -> None:
    first = Page(studio, "").ask("open")["session"]
    assert Page(studio, first).ask("open")["session"] == first
    # Nobody chooses a name.
    for wish in ("mine", "", "x" * 10_000, None, 3, [first], {"a": first}):
        assert Page(studio, wish).ask("open")["session"] not in (wish, first)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_unknown_pages_are_told_nothing(studio: Studio, page: Page, method: str) -> None:
    job = page.draw()
    data = {
        "composition": COMPOSITION, "scene": SCENE, "seeds": ["1"], "job": job, "name": "x.png", "image": "x.png",
        "path": str(studio.arrive(picture_bytes())),
    }  # fmt: skip
    for session in (
        "",
        "guessed",
        page.session[:-1],
        page.session + " ",
        page.session.lower(),
        None,
        3,
        [page.session],
        {},
    ):
        assert Page(studio, session).ask(method, **data) == UNKNOWN  # type: ignore[arg-type]
    assert getattr(studio.service, method)({}) == UNKNOWN
    for data in (None, [], "x", 3, b"x", object()):
        assert getattr(studio.service, method)(data) == UNKNOWN


def test_jobs_of_other_pages(studio: Studio, page: Page, held: Held) -> None:
    key = page.draw()
    other = studio.page()
    assert other.ask("jobs")["jobs"] == []
    gone = {"error": "there is no such job any more"}
    for name in (key, "guessed", "", None, 3, [key], {"a": key}):
        assert other.ask("cancel", job=name) == other.ask("trace", job=name) == gone
    assert held.began.wait(10) and page.job(key)["state"] == "drawing"


def test_only_what_changed_is_told(page: Page, held: Held) -> None:
    key = page.draw()
    assert held.began.wait(10)
    known = {key: page.job(key)["version"]}
    assert page.ask("jobs", known=known)["jobs"] == [{"key": key}]
    for wrong in ({key: known[key] - 1}, {key: "x"}, {key: None}, {}, [], "x", None, {key: [1]}, {"other": 1}):
        (job,) = page.ask("jobs", known=wrong)["jobs"]
        assert job["state"] == "drawing"
    held.may_end.set()
    page.finished(key)
    (job,) = page.ask("jobs", known=known)["jobs"]
    assert job["state"] == "done" and job["content"] == {"composition": COMPOSITION, "scene": SCENE}


def test_the_place_in_the_queue(studio: Studio, page: Page, held: Held) -> None:
    keys = [page.draw() for _ in range(3)]
    assert held.began.wait(10)
    assert [page.job(key)["ahead"] for key in keys] == [0, 1, 2]
    # A place is told every time: it changes with other pages' jobs.
    (_, second, _) = page.ask("jobs", known={key: page.job(key)["version"] for key in keys})["jobs"]
    assert second["ahead"] == 1
    page.ask("cancel", job=keys[1])
    assert page.job(keys[1])["state"] == "cancelled" and page.job(keys[2])["ahead"] == 1


@pytest.mark.parametrize(
    "seeds",
    [
        None, [], "1", 1, ["x"], [1], [1.0], [True], ["-1"], ["1.5"], ["1e3"], [str(2**64)], ["9" * 20], ["9" * 10_000],
        ["1", "1"], ["1", "01"], [" 1"], ["1\n"], ["\u00b9"], ["\u0661"], ["0x1"], [["1"]], [None], {"0": "1"},
        [str(number) for number in range(MOST_SEEDS + 1)],
    ],
)  # fmt: skip
def test_seeds_that_are_refused(page: Page, seeds: Any) -> None:
    answer = page.ask("draw", composition=COMPOSITION, scene=SCENE, seeds=seeds)
    assert "seed" in answer["error"] and page.ask("jobs")["jobs"] == []


def test_seeds(page: Page) -> None:
    wanted = ["0", str(2**64 - 1), str(2**53 + 1)]
    key = page.draw(seeds=wanted)
    assert page.job(key)["seeds"] == wanted
    assert page.job(page.draw(seeds=[str(n) for n in range(MOST_SEEDS)]))["key"]


def test_nothing_wrong_is_drawn(page: Page) -> None:
    answer = page.ask("draw", composition={"providers": []}, scene=SCENE, seeds=["1"])
    assert answer["draft"]["problems"] and page.ask("jobs")["jobs"] == []
    for missing in ("composition", "scene", "seeds"):
        data = {"composition": COMPOSITION, "scene": SCENE, "seeds": ["1"]}
        del data[missing]
        assert page.ask("draw", **data) == {"error": f"the page sent no '{missing}'"}


def test_how_many_may_wait(studio: Studio, page: Page, held: Held) -> None:
    page.draw()
    assert held.began.wait(10)
    for _ in range(MOST_WAITING):
        page.draw()
    assert (
        f"{MOST_WAITING} jobs are waiting"
        in page.ask("draw", composition=COMPOSITION, scene=SCENE, seeds=["1"])["error"]
    )
    others = [studio.page() for _ in range(MOST_WAITING_IN_ALL // MOST_WAITING)]
    for number in range(MOST_WAITING, MOST_WAITING_IN_ALL):
        others[number // MOST_WAITING - 1].draw()
    answer = others[-1].ask("draw", composition=COMPOSITION, scene=SCENE, seeds=["1"])
    assert f"{MOST_WAITING_IN_ALL} jobs of all pages" in answer["error"]


def test_more_pages_than_are_remembered(
    studio: Studio, page: Page, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amdm_framework.studio.service.MOST_SESSIONS", 5)
    keys = [page.draw(), page.draw()]
    assert held.began.wait(10)
    drawing, waiting = (studio.jobs.find(page.session, key) for key in keys)
    others = [studio.page() for _ in range(4)]
    # A page that asks is not the one that was silent longest.
    assert len(page.ask("jobs")["jobs"]) == 2
    late = studio.page()
    assert others[0].ask("jobs") == UNKNOWN and late.ask("jobs") == {"jobs": []}
    # Nobody can look at the jobs of a page that is forgotten.
    others = [studio.page() for _ in range(5)]
    assert page.ask("jobs") == UNKNOWN and waiting.state == "cancelled"
    held.may_end.set()
    assert others[0].finished(others[0].draw())["state"] == "done" and drawing.state == "cancelled"
    assert [job.session for job in studio.jobs._jobs.values()] == [others[0].session]


def test_thumbnails(studio: Studio, page: Page) -> None:
    name = page.ask("add_picture", path=str(studio.arrive(picture_bytes(size=(500, 400)))), name="x.png")["image"]
    assert page.ask("thumbnail", image=name)["uri"].startswith("data:image/png;base64,")
    for other in (f"../uploads/{name}", "none-0123456789ab.png", "", None, 3, ["x"], "/etc/passwd"):
        assert page.ask("thumbnail", image=other) == {"error": "there is no such picture"}
    (studio.uploads.folder / name).write_bytes(b"damaged")
    assert "error" in page.ask("thumbnail", image=name)


@pytest.mark.parametrize("method", ["add_picture", "open_picture"])
def test_nothing_stays_of_what_was_uploaded(studio: Studio, page: Page, method: str) -> None:
    for content in (picture_bytes(), b"no picture", picture_bytes("GIF"), b""):
        page.ask(method, path=str(studio.arrive(content)), name="x.png")
        assert studio.arrived() == []
    assert "the page sent no 'path'" in page.ask("add_picture", name="x.png")["error"]
    for path in (None, 3, ["x"], {"a": 1}, "", "/etc/passwd", str(studio.output), "\0"):
        assert page.ask(method, path=path, name="x") == {"error": "this is no file that was just uploaded"}


def test_a_defect_is_told_without_its_details(
    studio: Studio, page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("secret /home/somebody")

    monkeypatch.setattr(DraftChecker, "check", broken)
    assert page.check() == {"error": "the studio failed at this; its terminal shows why"}
    assert "secret /home/somebody" in caplog.text


def test_many_pages_at_once(studio: Studio) -> None:
    found: list[Any] = []

    def work(number: int) -> None:
        page = studio.page()
        for step in range(6):
            composition = json.loads(json.dumps(COMPOSITION))
            composition["sampler"]["steps"] = 3 + (number + step) % 4
            composition["dtype"] = ("float32", "bfloat16")[step % 2]
            cost = page.check(composition)["cost"]
            page.ask("gallery")
            found.append((cost["steps"] == composition["sampler"]["steps"], cost["dtype"] == composition["dtype"]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(True, True)] * 36


def test_methods_are_those_of_the_page(studio: Studio) -> None:
    # Whatever is added there is to be added here.
    public = {name for name in vars(StudioService) if not name.startswith("_")}
    assert public == {*METHODS, "open", "close"}
