"""The studio as a web application: the page in gradio, behind the guard; and serving it until it is interrupted."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
import uvicorn
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ..errors import InputError
from .guard import Guard
from .incoming import MAX_UPLOAD_BYTES, IncomingFolder
from .service import StudioService

USER = "amdm"
"""Name to log in with, where there is a password."""

MOST_STATES = 64
"""Pages of which the web server keeps a state of its own; the studio needs none."""

_PAGE = Path(__file__).parent / "page"
_METHODS = ("open", "check", "add_picture", "thumbnail", "open_picture", "draw", "jobs", "cancel", "picture", "trace",
            "gallery")  # fmt: skip
# The page has a style sheet of its own; this takes away what gradio puts around it.
_CSS = """
footer { display: none !important }
.gradio-container, .gradio-container .main, .gradio-container main, .gradio-container .html-container { padding: 0 !important }
"""
_FAMILY = ["ui-sans-serif", "system-ui", "sans-serif"]


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # What other names lead to is known to whoever gave them.
        return host == "localhost"


def make_app(service: StudioService, incoming: IncomingFolder, host: str, password: str | None) -> ASGIApp:
    """Return the studio as an ASGI application.

    Args:
        service: answers the page.
        incoming: where uploads arrive.
        host: the address it is bound to.
        password: to log in with, None for none.
    """
    # gradio asks the environment where uploads go, and tells its makers about every start unless it is told not to.
    # Asked for only now: it makes a folder at the place that it is told when it is imported, by default one that
    # belongs to whoever of this machine was first.
    os.environ["GRADIO_TEMP_DIR"] = str(incoming.folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    with gradio.Blocks(title="amdm studio", analytics_enabled=False, fill_width=True) as blocks:
        gradio.HTML(
            html_template="",
            apply_default_css=False,
            js_on_load="import(new URL('studio/main.js', document.baseURI)).then(page => page.start(element, server, upload))",
            server_functions=[_named(name, getattr(service, name)) for name in _METHODS],
        )
    # The server keeps some things for every page that it hears of, under whatever name.
    blocks.state_session_capacity = MOST_STATES
    app = fastapi.FastAPI(openapi_url=None)
    app.mount("/studio", StaticFiles(directory=_PAGE))
    theme = gradio.themes.Base(font=_FAMILY, font_mono=["ui-monospace", "monospace"])
    app = gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        auth=None if password is None else (USER, password),
        auth_message=f"amdm studio: the name is {USER}, the password was chosen when the studio was started.",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_UPLOAD_BYTES,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        favicon_path=str(_PAGE / "favicon.png"),
        theme=theme,
        css=_CSS,
    )
    return Guard(app, ["localhost", "127.0.0.1", "::1", host] if is_loopback(host) else None, incoming)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the studio cannot listen at {host}, port {port}: {error}; another --port may be free (0 takes any)"
        ) from error
    return listening


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], Any]) -> None:
    """Serve an application until it is interrupted.

    Args:
        app: of `make_app`.
        listening: of `open_socket`.
        ready: called once pages can be asked for.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    Server(config).run([listening])


def _named(name: str, method: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    # gradio marks the functions it may call, which a bound method does not let it do.
    def call(data: Any) -> dict[str, Any]:
        return method(data)

    call.__name__ = name
    return call
