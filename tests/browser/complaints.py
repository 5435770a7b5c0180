"""What a page must never do: write an error to its console, raise one, or ask another machine for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage

HERE = "127.0.0.1"


def record_complaints(context: BrowserContext) -> list[str]:
    """Return a list that grows with every complaint about the pages of a context, and about those that they open."""
    complaints: list[str] = []

    def check_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"error on the console: {message.text}")

    def check_address(address: str) -> None:
        parts = urlsplit(address)
        # Addresses without a host, as those of data: and blob:, lead nowhere.
        if parts.hostname not in (None, HERE):
            complaints.append(f"request to another machine: {address}")

    context.on("console", check_message)
    context.on("weberror", lambda error: complaints.append(f"error of the page: {error.error}"))
    context.on("request", lambda request: check_address(request.url))
    context.on("page", lambda page: page.on("websocket", lambda socket: check_address(socket.url)))
    return complaints
