"""What the studio answers at all: the few addresses that its page needs, from its own page, up to a size."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .incoming import MAX_UPLOAD_BYTES, IncomingFolder

MAX_REQUEST_BYTES = 2**20
"""Largest request that is not an upload: a composition and a scene have 256 KiB each at most."""

_UPLOAD = "/gradio_api/upload"
_FORM = "multipart/form-data"
# Kinds of bodies. Questions as forms would leave files in the machine's temporary folder.
_POST = {
    _UPLOAD: (_FORM,),
    "/gradio_api/component_server": ("application/json",),
    "/login": (_FORM, "application/x-www-form-urlencoded"),
}
_GET = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/login_check",
        "/gradio_api/startup-events", "/gradio_api/login_check", "/gradio_api/app_id")  # fmt: skip
_GET_BELOW = ("/assets/", "/static/", "/studio/", "/gradio_api/heartbeat/")
_LONGEST_PATH = 255
_HEADERS = {
    # A page elsewhere that shows this one inside of it could have people press its buttons.
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


class Guard:
    """Refuses everything else before the web server sees it.

    The server below has more addresses than this page needs: it serves files by path, fetches addresses for others, runs
    functions by name. What is not listed here does not exist.

    Args:
        app: what is guarded.
        hosts: names under which the page may be asked for, None for any. A page elsewhere that gives its own name this
            machine's address would otherwise be let in.
        incoming: where uploads arrive.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None, incoming: IncomingFolder) -> None:
        self._app = app
        self._hosts = hosts
        self._incoming = incoming
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send_with_headers)
            return
        # None of the page's requests has a query; some of the server's addresses would look into it.
        scope = {**scope, "query_string": b""}
        arriving = int(Headers(scope=scope)["content-length"]) if scope["path"].startswith(_UPLOAD) else 0
        self._arriving += arriving
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._arriving -= arriving

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _host_of(f"//{host}") not in self._hosts:
            return 403, "This name is not the studio's."
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Only the studio's own page may ask for this."
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD"):
            known = path in _GET or path.startswith(_GET_BELOW)
            odd = len(path) > _LONGEST_PATH or any(part in path for part in ("..", "//", "\0"))
            return None if known and not odd else (404, "Not found")
        path = path.removesuffix("/")
        if method != "POST" or path not in _POST:
            return 404, "Not found"
        if headers.get("content-type", "").partition(";")[0].strip().lower() not in _POST[path]:
            return 415, f"Expected {' or '.join(_POST[path])}."
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or len(length) > 15 or "transfer-encoding" in headers:
            return 411, "A request says how long it is."
        # An upload comes with a name and boundaries.
        limit = MAX_UPLOAD_BYTES + 2**16 if path == _UPLOAD else MAX_REQUEST_BYTES
        if int(length) > limit:
            return 413, "Too large."
        if path == _UPLOAD and not self._incoming.has_room(self._arriving + int(length)):
            return 507, "Too much is being uploaded: try again in some minutes."
        return None


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
