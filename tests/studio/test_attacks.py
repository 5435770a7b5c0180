"""Attacks on the studio over HTTP, against its real web server: reading, writing, filling up, guessing."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from served import Web
from studios import COMPOSITION, SCENE, picture_bytes

from amdm_framework.studio.app import MOST_STATES
from amdm_framework.studio.guard import MAX_REQUEST_BYTES
from amdm_framework.studio.incoming import MAX_INCOMING_BYTES, MAX_UPLOAD_BYTES


@pytest.fixture
def session(web: Web) -> str:
    return str(web.ask("open")["session"])


@pytest.fixture(autouse=True)
def _nothing_outside(web: Web) -> Any:
    """Whatever a test does, files appear in the studio's own folders only."""
    root = web.studio.output.parent
    yield
    assert {path.name for path in root.iterdir()} == {"output", "incoming"}
    for path in web.studio.arrived():
        path.unlink()
    assert {path.name for path in web.studio.output.iterdir()} == {"uploads"}


@pytest.mark.parametrize(
    "function",
    [
        *(
            "__init__",
            "__class__",
            "__dict__",
            "__reduce__",
            "__getattribute__",
            "_id",
            "_named",
            "close",
            "serve",
            "call",
        ),
        *("postprocess", "preprocess", "get_config", "server_fns", "js_on_load", "render", "unrender", "load", "value"),
        *("_session", "_draft", "_jobs", "forget", "", "open ", "OPEN", "open\0", "open.__globals__", "x" * 10_000),
    ],
)
def test_no_other_functions(web: Web, function: str) -> None:
    answer = web.call(function, {})
    assert answer.status == 404 and json.loads(answer.body) == {"detail": "Function not found."}


@pytest.mark.parametrize("component", [0, 2, -1, 10**6, 2**70])
def test_no_other_components(web: Web, component: int) -> None:
    answer = web.call("open", {}, component=component)
    assert answer.status in (404, 422, 500) and "session" not in answer.text
    assert "Traceback" not in answer.text and ".py" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"NaN", b"{}", b'{"data": {}}', b"[" * 200_000, b'{"a":' * 100_000,
        b'{"data": 1e999, "component_id": 1, "fn_name": "open", "session_hash": "a"}', b"{" + b" " * 900_000 + b"}",
        b'{"data": {}, "component_id": "x", "fn_name": "open", "session_hash": "a"}', b"9" * 900_000,
        b'{"data": {}, "component_id": 1, "fn_name": ["open"], "session_hash": {}}',
    ],
)  # fmt: skip
def test_bodies_that_are_no_questions(web: Web, body: bytes) -> None:
    answer = web.request("POST", "/gradio_api/component_server", body, Content_Type="application/json")
    assert answer.status in (200, 400, 422, 500)
    assert "Traceback" not in answer.text and "site-packages" not in answer.text and ".py" not in answer.text
    assert web.ask("open")["session"]


@pytest.mark.parametrize("data", [None, [], 3, "x", True, {}, {"session": None}, [[]], {"session": {"$ne": ""}}])
def test_questions_of_other_shapes(web: Web, data: Any) -> None:
    assert "session" in json.loads(web.call("open", data).body)
    assert json.loads(web.call("check", data).body)["error"]


def test_answers_hold_what_json_has_no_word_for(web: Web, session: str) -> None:
    for scene in (
        "caption: .nan",
        "caption: 2020-01-01",
        'caption: "\\ud800"',
        "caption: !!binary aGFsbG8=",
        "1: 2",
        "? [a]\n: b",
    ):
        answer = web.ask("check", session=session, composition=COMPOSITION, scene=scene)
        assert answer["problems"] and answer["problems"][0]["part"] == "scene"
    # Half of a character cannot even be sent on.
    answer = web.call("check", {"session": session, "composition": {}, "scene": {"caption": "\ud800"}})
    assert answer.status in (200, 400)


def test_requests_up_to_the_limit(web: Web, session: str) -> None:
    answer = web.ask("check", session=session, composition="x" * (MAX_REQUEST_BYTES - 1000), scene=SCENE)
    assert "262144 at most" in answer["problems"][0]["message"]
    answer = web.call("check", {"session": session, "composition": "x" * MAX_REQUEST_BYTES, "scene": SCENE})
    assert answer.status == 413


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../evil.png",
            "..\\..\\evil.png",
            "/etc/evil.png",
            "a\0b.png",
            "x" * 1000 + ".png",
            "CON.png",
            "NUL",
            "",
            ".",
            "..",
        ),
        *(
            "evil.png/",
            "....//evil.png",
            "%2e%2e%2fevil.png",
            "..;/evil.png",
            "a\r\nb.png",
            "-rf",
            "~/evil.png",
            "$(id).png",
        ),
    ],
)
def test_names_of_uploads(web: Web, session: str, name: str) -> None:
    answer = web.upload(picture_bytes(), name)
    if answer.status != 200:
        assert answer.status in (400, 413)
        return
    (path,) = json.loads(answer.body)
    assert Path(path).resolve().is_relative_to(web.studio.incoming.folder)
    image = web.ask("add_picture", session=session, path=path, name=name)["image"]
    assert web.studio.uploads.find(image) is not None
    assert not Path(path).exists()


def test_what_is_no_picture_is_gone_at_once(web: Web, session: str) -> None:
    before = sorted(web.studio.uploads.folder.iterdir())
    for content in (
        b"",
        b"<svg/>",
        b"%!PS",
        b"GIF89a",
        b"\x80\x04]",
        picture_bytes("GIF"),
        picture_bytes()[:40],
        b"x" * 100_000,
    ):
        for function in ("add_picture", "open_picture"):
            (path,) = json.loads(web.upload(content, "x.png").body)
            answer = web.ask(function, session=session, path=path, name="x.png")
            assert set(answer) == {"error"} and str(web.studio.incoming.folder) not in answer["error"]
            assert not Path(path).exists() and not Path(path).parent.exists()
    assert sorted(web.studio.uploads.folder.iterdir()) == before and web.studio.arrived() == []


def test_uploads_that_nobody_takes_are_limited(web: Web) -> None:
    content = os.urandom(64)
    for number in range(MAX_INCOMING_BYTES // MAX_UPLOAD_BYTES):
        (path,) = json.loads(web.upload(content, f"{number}.png").body)
        # Sparse: the disk of whoever runs this is none of our business either.
        os.truncate(path, MAX_UPLOAD_BYTES)
    assert web.upload(content).status == 507
    os.unlink(path)
    assert web.upload(content).status == 200


def test_uploads_at_the_same_time_are_limited(web: Web) -> None:
    # They say how long they will be, and take their time.
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=a\r\nContent-Length: %d\r\n\r\n" % MAX_UPLOAD_BYTES
    )
    slow = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(MAX_INCOMING_BYTES // MAX_UPLOAD_BYTES)]
    for one in slow:
        one.sendall(head)
    wait_for(web, 507)
    for one in slow:
        one.close()
    wait_for(web, 200)


def wait_for(web: Web, status: int) -> None:
    """Upload until that is answered so."""
    end = time.monotonic() + 10
    while web.upload(b"x").status != status:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_file_over_the_limit(web: Web) -> None:
    assert web.upload(b"x" * (MAX_UPLOAD_BYTES + 1)).status == 413
    assert web.upload(b"x" * (MAX_UPLOAD_BYTES + 2**17)).status == 413
    assert web.studio.arrived() == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"--a", b"--a--", b"--b\r\n\r\n--b--", b"--a\r\n\r\nx\r\n--a--",
        b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--",
        b'--a\r\nContent-Disposition: form-data; name="files"\r\n\r\n/etc/passwd\r\n--a--',
        b'--a\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\nunfinished',
        b"--a\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n--a--", b"--a\r\n" * 5000,
    ],
)  # fmt: skip
def test_broken_uploads(web: Web, body: bytes) -> None:
    answer = web.request("POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=a")
    assert answer.status in (200, 400, 413, 500)
    assert "Traceback" not in answer.text and "site-packages" not in answer.text
    assert web.upload(picture_bytes()).status == 200


def test_states_of_the_server_are_limited(web: Web) -> None:
    for number in range(MOST_STATES + 20):
        body = {"data": {}, "component_id": web.component, "fn_name": "jobs", "session_hash": f"{number}" * 100}
        web.request("POST", "/gradio_api/component_server", json.dumps(body).encode(), Content_Type="application/json")
    assert 0 < len(web.gradio.state_holder.session_data) <= MOST_STATES + 1


@pytest.mark.parametrize(
    ("function", "data"),
    [
        ("picture", {"name": "/etc/passwd"}), ("picture", {"name": "../../etc/passwd"}), ("thumbnail", {"image": "/etc/passwd"}),
        ("open_picture", {"path": "/etc/passwd"}), ("open_picture", {"name": "../uploads/x.png"}),
        ("add_picture", {"path": "/etc/passwd", "name": "x"}), ("add_picture", {"path": "file:///etc/passwd", "name": "x"}),
        ("add_picture", {"path": "/proc/self/environ", "name": "x"}), ("trace", {"job": "../x"}), ("cancel", {"job": "guessed"}),
    ],
)  # fmt: skip
def test_files_of_the_machine(web: Web, session: str, function: str, data: dict[str, Any]) -> None:
    answer = web.ask(function, session=session, **data)
    assert set(answer) == {"error"} and "root:" not in answer["error"] and "/" not in answer["error"]


def test_captions_and_names_come_back_as_they_are(web: Web, session: str) -> None:
    # The page shows them as text; the server neither runs nor mends them.
    for text in (
        "<script>alert(1)</script>",
        "{{7*7}}${7*7}",
        "'; DROP TABLE x; --",
        "\u202e\x1b[31m",
        "%s%n{0.__class__}",
    ):
        answer = web.ask("check", session=session, composition=COMPOSITION, scene={**SCENE, "caption": text})
        assert (
            answer["scene"]["caption"] == text and web.call("check", {}).headers["content-type"] == "application/json"
        )
