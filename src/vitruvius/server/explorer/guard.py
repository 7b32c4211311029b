"""What every request passes before anything is done for it, and the headers that every answer carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..hosts import Hosts

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)  # the page says the same of itself, for hosts that send no headers
DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # thumbnails bring their style along
LARGEST_BODY = 64 * 2**20


class Guard:
    """Refuses requests that another page or another machine has made, and bodies that are too large."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.hosts = app, Hosts(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        policy = DRAWING_POLICY if scope["path"].endswith(".svg") else f"{POLICY}; frame-ancestors 'none'"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_headers(policy)]}
            await send(message)

        if refused := self.refused(headers, scope["method"]):
            await _answer(guarded, *refused)
        else:
            await self.app(scope, receive, guarded)

    def refused(self, headers: Mapping[str, str], method: str) -> tuple[int, str] | None:
        """(status, why) for a request that is not answered."""
        host = headers.get("host", "")
        if not self.hosts.trusted(host):
            return 421, f"this server does not answer for the host {host[:80]!r}; open it as localhost"
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin is not None and origin.partition("://")[2] != host:
            return 403, "a page from elsewhere may not ask this server"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return 413, f"a request may hold at most {LARGEST_BODY:,} bytes"
        return None


def _headers(policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]


async def _answer(send: Any, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
