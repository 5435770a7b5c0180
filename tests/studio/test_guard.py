"""What the studio answers at all: its page's few addresses, asked for under its own name, by its own page, up to a size."""

from __future__ import annotations

import json

import pytest
from served import Web
from studios import picture_bytes

from amdm_framework.studio.app import is_loopback
from amdm_framework.studio.guard import MAX_REQUEST_BYTES
from amdm_framework.studio.incoming import MAX_UPLOAD_BYTES

HTTP = b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
QUESTION = b"POST /gradio_api/component_server " + HTTP + b"Content-Type: application/json\r\n"


def test_the_page_is_there(web: Web) -> None:
    for path in (
        "/",
        "/config",
        "/theme.css",
        "/favicon.ico",
        "/studio/main.js",
        "/studio/studio.css",
        "/manifest.json",
    ):
        assert web.get(path).status == 200, path
    assert web.request("HEAD", "/").status == 200


def test_the_page_shows_itself_in_no_page_of_others(web: Web) -> None:
    for path in ("/", "/studio/main.js", "/nothing"):
        headers = web.get(path).headers
        assert headers["content-security-policy"] == "frame-ancestors 'self'"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/file=/etc/passwd", "/file/etc/passwd"),
        *("/gradio_api/file%3D/etc/passwd", "/gradio_api//file=/etc/passwd", "//gradio_api/file=/etc/passwd"),
        *(
            "/gradio_api/proxy=http://127.0.0.1/",
            "/gradio_api/proxy=https://huggingface.co/",
            "/proxy=http://127.0.0.1/",
        ),
        *("/gradio_api/info", "/gradio_api/openapi.json", "/openapi.json", "/docs", "/redoc"),
        *("/gradio_api/queue/data?session_hash=a", "/gradio_api/queue/status", "/gradio_api/call/open/1"),
        *("/gradio_api/token", "/gradio_api/user", "/gradio_api/dev/reload", "/gradio_api/vibe-code"),
        *("/gradio_api/upload_progress?upload_id=a", "/gradio_api/deep_link", "/gradio_api/runs"),
        *("/monitoring", "/monitoring/summary", "/gradio_api/mcp", "/gradio_api/mcp/sse", "/gradio_api/mcp/schema"),
        *("/gradio_api/custom_component/a/client/component/index.js", "/svelte/x", "/pwa_icon", "/logout"),
        *("/gradio_api/profiling/traces", "/gradio_api/stream/a/0/1/playlist.m3u8", "/gradio_api/component_server"),
        *("/studio/../../../../../etc/passwd", "/studio/%2e%2e/%2e%2e/service.py", "/studio/..%2fservice.py"),
        *("/studio/%252e%252e/service.py", "/studio/..\\service.py", "/studio//etc/passwd", "/studio/", "/studio"),
        *("/static/../config", "/static/%2e%2e/%2e%2e/routes.py", "/static//etc/passwd", "/static/..%5croutes.py"),
        *("/assets/../../../../../../etc/passwd", "/assets/%2e%2e%2f%2e%2e%2froutes.py", "/assets//etc/passwd"),
        *("/static/../gradio_api/file=/etc/passwd", "/assets/%2e%2e/gradio_api/file=/etc/passwd"),
        *(
            "/studio/x%00y",
            "/static/x%00y",
            "/assets/" + "x" * 5000,
            "/studio/" + "x/" * 2000,
            "/nothing",
            "/index.html",
        ),
    ],
)
def test_everything_else_does_not_exist(web: Web, path: str) -> None:
    answer = web.get(path)
    assert answer.status == 404, answer
    assert "root:" not in answer.text and "import" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/run/open", "/gradio_api/api/open", "/gradio_api/call/open", "/gradio_api/call/v2/open"),
        *("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/process_recording"),
        *("/gradio_api/vibe-edit", "/gradio_api/vibe-code", "/gradio_api/undo-vibe-edit", "/gradio_api/mcp"),
        *("/gradio_api/mcp/messages", "/gradio_api/stream/1", "/gradio_api/run-history/connect", "/", "/config"),
        *("/gradio_api/profiling/clear", "/gradio_api/upload/..", "/gradio_api/uploadx", "/studio/main.js"),
    ],
)
def test_nothing_else_takes_data(web: Web, path: str) -> None:
    assert web.request("POST", path, b"{}", Content_Type="application/json").status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_no_other_methods(web: Web, method: str) -> None:
    for path in ("/", "/gradio_api/upload", "/gradio_api/component_server"):
        assert web.request(method, path, Origin="http://evil.example").status in (403, 404)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""]
)
def test_questions_are_json(web: Web, kind: str) -> None:
    # The kinds that a page elsewhere may send without being asked whether it may.
    body = json.dumps({"data": {}, "component_id": web.component, "fn_name": "open", "session_hash": "a"}).encode()
    assert web.request("POST", "/gradio_api/component_server", body, Content_Type=kind).status == 415


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "https://localhost.evil.example", "http://localhost", "http://localhost:1", "file://",
        "http://[::1", "http://evil.example@localhost:{port}", "http://localhost:{port}.evil.example", "", "localhost:{port}",
    ],
)  # fmt: skip
def test_other_pages_are_refused(web: Web, origin: str) -> None:
    sent = {"Origin": origin.format(port=web.port), "Host": f"localhost:{web.port}"}
    assert web.call("open", {}, **sent).status == 403
    assert web.upload(picture_bytes(), **sent).status == 403
    assert web.get("/config", **sent).status == 403


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST"])
def test_the_own_page_is_not(web: Web, name: str) -> None:
    sent = {"Origin": f"http://{name}:{web.port}", "Host": f"{name}:{web.port}"}
    assert web.call("open", {}, **sent).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "0.0.0.0", "",
        "127.0.0.1:x@evil.example", "169.254.169.254",
    ],
)  # fmt: skip
def test_other_names_are_refused(web: Web, host: str) -> None:
    # A page elsewhere may give its own name the address of this machine, and is its own origin then.
    host = host.format(port=web.port)
    for sent in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        assert web.get("/", **sent).status == 403
        assert web.call("open", {}, **sent).status == 403


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (b"", b"", 411),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 411),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 400),
        (b"Content-Length: %d\r\n" % (MAX_REQUEST_BYTES + 1), b"", 413),
        (b"Content-Length: 99999999999999\r\n", b"", 413),
        (b"Content-Length: 99999999999999999999999999\r\n", b"", 400),
        (b"Content-Length: -1\r\n", b"", 400),
        (b"Content-Length: \xb2\r\n", b"", 400),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}", 400),
    ],
)
def test_lengths(web: Web, headers: bytes, body: bytes, status: int) -> None:
    answer = web.raw(QUESTION + headers + b"\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


def test_an_upload_that_is_too_large_is_not_read(web: Web) -> None:
    head = b"POST /gradio_api/upload " + HTTP + b"Content-Type: multipart/form-data; boundary=a\r\n"
    answer = web.raw(head + b"Content-Length: %d\r\n\r\n" % (MAX_UPLOAD_BYTES + 2**16 + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_queries_go_nowhere(web: Web) -> None:
    # The server would read a page of its own from a folder, and remember what it is told of uploads.
    plain = json.loads(web.get("/config").body)
    asked = json.loads(web.get("/config?deep_link=..%2f..%2fetc&page=x").body)
    assert asked == plain
    assert web.request("POST", "/gradio_api/upload?upload_id=x", b"", Content_Type="multipart/form-data").status == 400


def test_web_sockets_are_refused(web: Web) -> None:
    answer = web.raw(
        b"GET /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0:0:0:0:0:0:0:1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("", False), ("192.168.0.5", False), ("127.0.0.1.example.org", False),
        ("127.example.org", False), ("localhost.example.org", False), ("example.org", False),
    ],
)  # fmt: skip
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
