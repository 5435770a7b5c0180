"""What the studio answers at all: the few addresses that its page needs, from its own page, up to a size."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .uploads import MAX_UPLOAD_BYTES

MAX_REQUEST_BYTES = 2**20
"""Largest request that is not an upload: a composition and a scene have 256 KiB each at most."""

_UPLOAD = "/gradio_api/upload"
_POST = (_UPLOAD, "/gradio_api/component_server", "/login")
_GET = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/login_check", "/logout",
        "/gradio_api/startup-events", "/gradio_api/login_check", "/gradio_api/app_id")  # fmt: skip
_GET_BELOW = ("/assets/", "/static/", "/studio/", "/gradio_api/heartbeat/")


class Guard:
    """Refuses everything else before the web server sees it.

    The server below has more addresses than this page needs: it serves files by path, fetches addresses for others, runs
    functions by name. What is not listed here does not exist.

    Args:
        app: what is guarded.
        hosts: names under which the page may be asked for, None for any. A page elsewhere that gives its own name this
            machine's address would otherwise be let in.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else (404, "Not found")
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and urlsplit(f"//{host}").hostname not in self._hosts:
            return 403, "This name is not the studio's."
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD"):
            if path in _GET or path.startswith(_GET_BELOW):
                return None
            return 404, "Not found"
        if method != "POST" or path.removesuffix("/") not in _POST:
            return 404, "Not found"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "Only the studio's own page may ask for this."
        length = headers.get("content-length", "")
        if not length.isdigit():
            return 411, "A request says how long it is."
        limit = MAX_UPLOAD_BYTES + 2**16 if path.removesuffix("/") == _UPLOAD else MAX_REQUEST_BYTES
        return (413, "Too large.") if int(length) > limit else None
