"""The gallery: the studio's own pictures, newest first; and settings in pictures of whatever origin stay data."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from studios import COMPOSITION, SCENE, Page, Studio, make_studio, picture_bytes

from amdm_framework.plugins import PluginRegistry
from amdm_framework.record import RECORD_KEY
from amdm_framework.studio.gallery import PAGE, THUMBNAIL

RECORD: dict[str, Any] = {
    "composition": COMPOSITION,
    "scene": SCENE,
    "seeds": [4, 2**64 - 1],
    "position": 1,
    "height": 64,
    "width": 64,
    "device": "cpu",
    "dtype": "float32",
    "versions": {},
    "members": [],
    "inputs": [],
}
GONE = {"error": "there is no such picture any more"}


def with_record(record: Any = RECORD, size: tuple[int, int] = (64, 64), colour: str = "red") -> bytes:
    """Return a PNG that carries a record, or some text in its place."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, record if isinstance(record, str) else json.dumps(record), zip=True)
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG", pnginfo=info)
    return content.getvalue()


@pytest.fixture
def studio(tmp_path: Path, plugins: PluginRegistry) -> Any:
    made = make_studio(tmp_path, plugins, draw=lambda job: None)
    yield made
    made.jobs.close()


@pytest.fixture
def page(studio: Studio) -> Page:
    return studio.page()


def put(studio: Studio, name: str, content: bytes | None = None, age: float = 0) -> Path:
    path = studio.output / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(with_record() if content is None else content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(page: Page, start: Any = 0) -> tuple[list[str], bool]:
    answer = page.ask("gallery", start=start)
    return [one["name"] for one in answer["pictures"]], answer["more"]


def test_the_newest_come_first(studio: Studio, page: Page) -> None:
    assert names(page) == ([], False)
    for age, name in enumerate(["c.png", "a.png", "b.png"]):
        put(studio, name, age=age)
    assert names(page) == (["c.png", "a.png", "b.png"], False)
    (entry, *_) = page.ask("gallery")["pictures"]
    # As text: numbers of JavaScript hold 53 bits.
    assert entry["seed"] == str(2**64 - 1) and entry["caption"] == SCENE["caption"]
    assert entry["thumbnail"].startswith("data:image/")


def test_pages(studio: Studio, page: Page) -> None:
    expected = [f"picture-{number:03d}.png" for number in range(2 * PAGE + 1)]
    for age, name in enumerate(expected):
        put(studio, name, age=age)
    assert names(page) == (expected[:PAGE], True)
    assert names(page, PAGE) == (expected[PAGE : 2 * PAGE], True)
    assert names(page, 2 * PAGE) == (expected[2 * PAGE :], False)
    for start in (10**6, 10**30):
        assert names(page, start) == ([], False)
    for start in (-1, "x", None, 1.5, [1], {"a": 1}):
        assert names(page, start) == (expected[:PAGE], True)


def test_changes_are_seen(studio: Studio, page: Page) -> None:
    path = put(studio, "a.png", with_record(colour="red"), age=100)
    before = page.ask("gallery")["pictures"]
    put(studio, "a.png", with_record({**RECORD, "scene": {"caption": "other"}}, colour="blue"), age=50)
    (after,) = page.ask("gallery")["pictures"]
    assert after["caption"] == "other" and after["thumbnail"] != before[0]["thumbnail"]
    path.unlink()
    assert names(page) == ([], False)
    # What is gone is forgotten.
    assert not studio.gallery._entries


def test_thumbnails_are_small(studio: Studio, page: Page) -> None:
    put(studio, "a.png", with_record(size=(1000, 500)))
    uri = page.ask("gallery")["pictures"][0]["thumbnail"]
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        assert picture.size == (THUMBNAIL, THUMBNAIL // 2)


def test_other_files_do_not_belong_to_it(studio: Studio, page: Page, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(with_record())
    put(studio, "photo.png", picture_bytes())
    put(studio, "text.png", b"root:x:0:0")
    put(studio, "photo.jpg", picture_bytes("JPEG"))
    put(studio, "UPPER.png")
    put(studio, ".hidden.png")
    put(studio, "torn.png", with_record()[:-200])
    put(studio, "claiming.png", _claiming(with_record()))
    put(studio, "wrong.png", with_record("{"))
    put(studio, "huge.png", with_record("x" * (2**20 + 1)))
    put(studio, "deep.png", with_record("[" * 100_000))
    (studio.output / "link.png").symlink_to(outside)
    (studio.output / "dangling.png").symlink_to(tmp_path / "none.png")
    (studio.output / "folder.png").mkdir()
    os.mkfifo(studio.output / "pipe.png")
    (studio.output / "alone").symlink_to(tmp_path)
    put(studio, "mine.png")
    assert names(page) == (["mine.png"], False)
    for name in (
        *("photo.png", "text.png", "photo.jpg", "UPPER.png", ".hidden.png", "wrong.png", "huge.png", "deep.png"),
        *("link.png", "dangling.png", "folder.png", "pipe.png", "alone/outside.png", "alone/none.png", "none.png"),
    ):
        assert page.ask("picture", name=name) == page.ask("open_picture", name=name) == GONE, name


def _claiming(png: bytes) -> bytes:
    header = b"IHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_names_that_lead_elsewhere(studio: Studio, page: Page, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(with_record())
    put(studio, "uploads/kept.png")
    put(studio, "alone/inside.png")
    assert "uri" in page.ask("picture", name="alone/inside.png")
    for name in (
        *(
            "../outside.png",
            "alone/../../outside.png",
            "alone/../alone/inside.png",
            "./alone/inside.png",
            "",
            ".",
            "..",
        ),
        *(
            str(tmp_path / "outside.png"),
            "/etc/passwd",
            "~/x.png",
            "uploads/kept.png",
            "alone//inside.png",
            "alone/inside.png\0",
        ),
        *(
            "alone\\inside.png",
            "file:///etc/passwd",
            "alone/inside.png\n",
            "x" * 5000 + ".png",
            "alone/alone/inside.png",
        ),
        *(None, 3, True, ["alone/inside.png"], {"a": 1}),
    ):
        assert page.ask("picture", name=name) == page.ask("open_picture", name=name) == GONE, name
    assert page.ask("picture") == GONE


def test_a_picture_comes_as_it_is_on_disk(studio: Studio, page: Page) -> None:
    path = put(studio, "a.png")
    uri = page.ask("picture", name="a.png")["uri"]
    assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == path.read_bytes()


def test_one_that_vanishes_meanwhile(studio: Studio, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    put(studio, "a.png", age=1)
    put(studio, "b.png")
    find = studio.gallery.find

    def vanishing(name: str) -> Path | None:
        found = find(name)
        (studio.output / "b.png").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(studio.gallery, "find", vanishing)
    assert names(page) == (["a.png"], False)


def test_settings_come_back(studio: Studio, page: Page) -> None:
    put(studio, "a.png")
    from_gallery = page.ask("open_picture", name="a.png")
    uploaded = page.ask("open_picture", path=str(studio.arrive(with_record())), name="whatever.png")
    expected = {"composition": COMPOSITION, "scene": SCENE, "seed": str(2**64 - 1), "caption": SCENE["caption"]}
    assert from_gallery == uploaded == expected
    assert studio.arrived() == []


def hostile(**changes: Any) -> str:
    return json.dumps({**RECORD, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "NaN", "1e999", '"x"', "[" * 100_000, '{"a":' * 50_000, "x" * (2**20 + 1), '"\\ud800"',
        hostile(format=2), hostile(composition=[]), hostile(composition=None), hostile(scene="x"), hostile(seeds=[]),
        hostile(seeds=["1"]), hostile(seeds=[1.5]), hostile(seeds=[1] * 20_000), hostile(position=5), hostile(position=-1),
        hostile(height=0), hostile(width=True), hostile(device="cuda; rm"), hostile(extra=1), hostile(__proto__={"a": 1}),
        hostile(inputs=[{"where": "composition", "key": ["a"], "file": "/etc/passwd", "sha256": None}]),
        hostile(inputs=[{"where": "composition", "key": ["a"], "file": "../x", "sha256": None}]),
        hostile(inputs=[{"where": "disk", "key": ["a"], "file": "x", "sha256": None}]),
        hostile(inputs=[{"where": "scene", "key": [None], "file": "x", "sha256": "0"}]),
        hostile(versions=[1]), hostile(members=[{"name": 1}]),
    ],
)  # fmt: skip
def test_settings_that_are_refused(studio: Studio, page: Page, text: str) -> None:
    answer = page.ask("open_picture", path=str(studio.arrive(with_record(text))), name="x.png")
    assert set(answer) == {"error"} and len(answer["error"]) < 5000
    assert str(studio.incoming.folder) not in answer["error"] and "Traceback" not in answer["error"]
    assert "terminal" not in answer["error"]
    assert studio.arrived() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": [{"where": "composition", "key": ["providers", 0, "checkpoint"], "file": "x", "sha256": None}]},
        {"inputs": [{"where": "composition", "key": ["providers", 99, "x"], "file": "passwd", "sha256": None}]},
        {"inputs": [{"where": "composition", "key": [], "file": "passwd", "sha256": None}]},
        {"inputs": [{"where": "composition", "key": ["providers", -1, "use", 0], "file": "m", "sha256": None}]},
        {"inputs": [{"where": "scene", "key": ["__class__", "__init__"], "file": "x", "sha256": None}] * 1000},
        {"composition": {"providers": [{"use": "stable_diffusion", "checkpoint": "/etc/passwd"}]}},
        {"composition": {"providers": [{"use": "stable_diffusion", "checkpoint": {"$yaml": "!!python/name:os.system"}}]}},
        {"composition": {"providers": [{"use": "stable_diffusion", "checkpoint": {"$yaml": "!!binary L2V0Yy9wYXNzd2Q="}}]}},
        {"composition": {"__proto__": {"polluted": True}, "constructor": {"prototype": {"polluted": True}}}},
        {"composition": {"providers": [{"use": "x"}] * 10_000}},
        {"composition": {"providers": COMPOSITION["providers"], "sampler": {"steps": 10**30}}},
        {"scene": {"caption": "x", "references": [{"role": "style", "image": "/etc/passwd"}]}},
        {"scene": {"caption": ["x"], "instances": {"__proto__": {"phrase": "x", "box": [0, 0, 1, 1]}}}},
        {"scene": {"caption": "\x1b[31m\u202e<script>alert(1)</script>"}},
        {"scene": json.loads("[" * 180 + "]" * 180) and {"caption": json.loads("[" * 180 + "]" * 180)}},
        {"seeds": [10**300], "position": 0},
    ],
)  # fmt: skip
def test_settings_that_want_something(studio: Studio, page: Page, changes: dict[str, Any]) -> None:
    # The picture is opened, or not; what came of it is a draft like any other, and refused there.
    answer = page.ask("open_picture", path=str(studio.arrive(with_record({**RECORD, **changes}))), name="x.png")
    if "error" in answer:
        assert "terminal" not in answer["error"]
        return
    assert isinstance(answer["seed"], str) and isinstance(answer["caption"], str)
    checked = page.check(answer["composition"], answer["scene"])
    assert "error" not in checked or "terminal" not in checked["error"]
    assert "root:" not in json.dumps(checked)
    if "inputs" not in changes and "seeds" not in changes and "\x1b" not in str(changes):
        assert checked["problems"]


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        ({}, "its settings are damaged: composition.providers: is missing"),
        ({"providers": None}, "composition.providers: "),
        ({"providers": []}, "composition.providers: "),
        ({"providers": {"use": "migc"}}, "composition.providers: "),
        ({"providers": ["migc"]}, "composition.providers.0: "),
        ({"providers": [{"checkpoint": "zoo://migc"}]}, "composition.providers.0.use: is missing"),
        ({"providers": [{"use": ["migc"]}]}, "composition.providers.0.use: "),
        ({**COMPOSITION, "aggregation": "slerp"}, "composition.aggregation: "),
        ({**COMPOSITION, "sampler": 50}, "composition.sampler: "),
        ({"providers": [{"use": "migc", "condition": "x"}]}, "composition.providers.0.condition: "),
    ],
)
def test_settings_without_a_composition_say_what_is_missing(
    studio: Studio, page: Page, composition: Any, message: str
) -> None:
    put(studio, "a.png", with_record({**RECORD, "composition": composition}))
    answer = page.ask("open_picture", name="a.png")
    assert set(answer) == {"error"} and message in answer["error"]
    # Models that are not installed here are another matter: the page shows the rest.
    put(studio, "a.png", with_record({**RECORD, "composition": {"providers": [{"use": "nowhere", "x": {"y": 1}}]}}))
    assert page.ask("open_picture", name="a.png")["composition"]["providers"] == [{"use": "nowhere", "x": {"y": 1}}]


def test_pictures_without_settings(studio: Studio, page: Page) -> None:
    for content, message in [
        (picture_bytes(), "carries no settings"),
        (picture_bytes("JPEG"), "is not a PNG picture"),
        (b"", "is not a PNG picture"),
        (b"root:x:0:0", "is not a PNG picture"),
        (with_record()[:60], "is not a PNG picture"),
    ]:
        answer = page.ask("open_picture", path=str(studio.arrive(content)), name="x.png")
        assert message in answer["error"] and str(studio.incoming.folder) not in answer["error"]
        assert studio.arrived() == []
