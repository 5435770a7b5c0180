"""A studio behind its real web server on a port of this machine, and requests as attackers write them."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from studios import Studio

from amdm_framework.studio.app import make_app, open_socket


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


@dataclass
class Web:
    """A studio at a port.

    Attributes:
        studio: what is served.
        port: at 127.0.0.1.
        gradio: the application behind the guard.
        cookie: is sent with every request, where there is one.
    """

    studio: Studio
    port: int
    gradio: Any
    cookie: str = ""
    component: int = 0

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request, with the path as it is written; `_` in names of headers is `-`."""
        sent = {"Cookie": self.cookie} if self.cookie else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Get a page."""
        return self.request("GET", path, **headers)

    def call(self, function: str, data: Any, component: int | None = None, **headers: str) -> Answer:
        """Call a function of the page's component."""
        body = {
            "data": data,
            "component_id": self.component if component is None else component,
            "fn_name": function,
            "session_hash": "abc",
        }
        content = body if isinstance(data, bytes) else json.dumps(body).encode()
        assert isinstance(content, bytes)
        return self.request(
            "POST", "/gradio_api/component_server", content, **{"Content-Type": "application/json", **headers}
        )

    def ask(self, function: str, /, **data: Any) -> dict[str, Any]:
        """Ask what a page may ask."""
        answer = self.call(function, data)
        assert answer.status == 200, answer
        content = json.loads(answer.body)
        assert isinstance(content, dict)
        return content

    def upload(self, content: bytes, name: str = "picture.png", **headers: str) -> Answer:
        """Upload a file as the page does."""
        body = (
            b'--edge\r\nContent-Disposition: form-data; name="files"; filename="'
            + name.encode()
            + b'"\r\nContent-Type: image/png\r\n\r\n'
            + content
            + b"\r\n--edge--\r\n"
        )
        return self.request(
            "POST", "/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=edge", **headers}
        )

    def raw(self, content: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(content)
            received = b""
            while piece := connection.recv(65536):
                received += piece
        return received


@contextmanager
def serving(studio: Studio, host: str = "127.0.0.1", password: str | None = None) -> Iterator[Web]:
    """Serve a studio as `amdm studio` does, in a thread.

    Args:
        studio: what is served.
        host: what the application believes that it is bound to; it is 127.0.0.1.
        password: to log in with.
    """
    listening = open_socket("127.0.0.1", 0)
    app: Any = make_app(studio.service, studio.incoming, host, password)
    collect_event_loops()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        web = Web(studio, listening.getsockname()[1], app._app.routes[-1].app)
        if password is None:
            web.component = component_of(web)
        yield web
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def collect_event_loops() -> None:
    """Let go of the event loops that gradio makes and never closes: they would warn in whatever test comes later."""
    asyncio.set_event_loop(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def component_of(web: Web) -> int:
    """Return the number under which the server knows the page's component."""
    components = json.loads(web.get("/config").body)["components"]
    return next(one["id"] for one in components if one["props"].get("server_fns"))
