"""What every request passes before anything is done for it: whom it asks for, who asks, and how large it is."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..hosts import Hosts
from .body import LARGEST
from .errors import RefusedError
from .page import FILES

OPEN = ("/health", "/openapi.json", *FILES)  # need no key
LONGEST_QUERY = 2_000  # bytes
CORS = "access-control-allow-"


class Door:
    """Refuses requests for other hosts, from pages of others, without a key where one is needed, and too large ones.

    Args:
        host: the address that the server listens on.
        keys: of which one must be given; none, if empty.
        origins: pages of others that may ask, such as "https://example.org"; "*" lets all.
    """

    def __init__(self, app: ASGIApp, host: str, keys: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self.app, self.hosts, self.origins = app, Hosts(host), frozenset(origins)
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        shared = self._shared(headers)
        response: ASGIApp = self.app
        try:
            self.check(scope["path"], scope["method"], headers, len(scope["query_string"]))
            if scope["method"] == "OPTIONS" and shared:
                response = Response(status_code=204)
        except RefusedError as refusal:
            told = refusal.anthropic() if scope["path"].startswith("/v1/messages") else refusal.openai()
            response = JSONResponse(told, refusal.status, refusal.headers)

        async def with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *shared]}  # type: ignore[misc]
            await send(message)

        await response(scope, receive, with_headers)  # type: ignore[arg-type]

    def check(self, path: str, method: str, headers: Mapping[str, str], query: int) -> None:
        """Raises RefusedError for a request that is not answered."""
        host = headers.get("host", "")
        if not self.hosts.trusted(host):
            raise RefusedError(421, f"this server does not answer for the host {host[:80]!r}; ask for localhost")
        origin = headers.get("origin")
        if origin is not None and not self._allowed(origin) and origin.partition("://")[2] != host:
            raise RefusedError(403, f"pages of {origin[:80]!r} may not ask this server; --allow-origin lets them")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST:
            raise RefusedError(413, f"a request may have at most {LARGEST:,} bytes")
        if query > LONGEST_QUERY:
            raise RefusedError(413, f"a query may have at most {LONGEST_QUERY:,} bytes")
        if self._keys and path not in OPEN and method != "OPTIONS" and not self._known(headers):
            raise RefusedError(
                401, "the key is missing or wrong: give it as `Authorization: Bearer KEY`", code="invalid_api_key"
            )

    def _known(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if scheme.casefold() == "bearer" else headers.get("x-api-key", "")
        # each is compared, so that the time says nothing
        return any([hmac.compare_digest(given.encode(), key) for key in self._keys])  # noqa: C419

    def _allowed(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins

    def _shared(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """Headers that let a page read the answer."""
        origin = headers.get("origin", "")
        if not origin or not self._allowed(origin):
            return []
        said = {"origin": origin, "methods": "GET, POST", "headers": "authorization, content-type, x-api-key, *"}
        return [
            *((f"{CORS}{name}".encode(), value.encode("latin-1")) for name, value in said.items()),
            (b"vary", b"origin"),
        ]
