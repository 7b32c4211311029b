"""The page to chat with, on the same interface."""

from __future__ import annotations

from functools import cache
from importlib import resources

from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
FILES = {"/": "chat.html", "/chat.css": "chat.css", "/chat.js": "chat.js"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


@cache
def content(name: str) -> bytes:
    """One of its files."""
    return resources.files(__package__).joinpath("site", name).read_bytes()


def _route(path: str, name: str) -> Route:
    async def file(request: Asked) -> Response:
        return Response(content(name), headers=HEADERS, media_type=TYPES[name.rpartition(".")[2]])

    return Route(path, file, methods=["GET"], include_in_schema=False)


def routes() -> list[Route]:
    """Where it stands."""
    return [_route(path, name) for path, name in FILES.items()]
