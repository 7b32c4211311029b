"""The explorer on this machine: its files, and what only a server can do.

Nothing is read from disk but the package's own files, and nothing is written. Errors are JSON with one line.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...checkpoints.gguf import IncompleteError
from ...errors import InputError, UnknownKeysError
from . import changing, try_
from .data import encoded
from .files import INDEX, content_type, explorer
from .guard import Guard
from .upload import LARGEST_HEADER, described

AT_ONCE = 2  # requests that are worked on; others wait
CONNECTIONS = 64
LARGEST_CHANGE = 16 * 2**10  # bytes
SMALLEST_PACKED = 1_000  # bytes
LONGEST_QUERY = 2_000  # characters
log = logging.getLogger(__name__)


def application(host: str = "127.0.0.1", models: Sequence[str] = (), ignore: Sequence[str] = ()) -> Guard:
    """The ASGI application for a server that listens on `host`; `models` are checkpoints that may be tried, beside the
    known ones whose weights are at hand, and `ignore` keys and tensors of theirs that may be left out."""
    working = asyncio.Semaphore(AT_ONCE)
    pages = explorer({"api": "api/"})
    contents = cache(lambda path: _tagged(pages[path]))
    threading.Thread(target=contents, args=(INDEX,), daemon=True).start()  # what every visitor asks for first

    async def file(request: Request) -> Response:
        path = request.path_params["path"] or "index.html"
        if path not in pages:
            raise HTTPException(404, f"there is no {path[:80]!r}")
        async with working:
            body, tag = await run_in_threadpool(contents, path)
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=content_type(path), headers=headers)

    async def upload(request: Request) -> Response:
        if len(request.url.query) > LONGEST_QUERY:
            raise InputError(f"a query may have at most {LONGEST_QUERY:,} characters")
        query = request.query_params
        ignore = [key for key in query.get("ignore", "").split(",") if key]
        size = query.get("size", "")
        if size and not (size.isdecimal() and len(size) < 20):
            raise InputError(f"size is {size[:30]!r}, not a number of bytes")
        body = await _body(request)
        async with working:
            found = await run_in_threadpool(
                described, body, query.get("name", "config.json"), int(size) if size else None, ignore
            )
            return Response(await run_in_threadpool(encoded, found), media_type="application/json")

    async def change(request: Request) -> Response:
        body = await _body(request, LARGEST_CHANGE)
        async with working:
            found = await run_in_threadpool(changing.answer, body)
            return Response(await run_in_threadpool(encoded, found), media_type="application/json")

    routes = [
        Route("/api/change", change, methods=["POST"]),
        Route("/api/architecture", upload, methods=["POST"]),
        *try_.routes(models, ignore),
        Route("/{path:path}", file, methods=["GET"]),
    ]
    handlers: dict[Any, Callable[..., Response]] = {
        InputError: _unusable,
        HTTPException: _http_error,
        Exception: _failed,
    }
    packed = [Middleware(GZipMiddleware, minimum_size=SMALLEST_PACKED)]
    return Guard(Starlette(routes=routes, exception_handlers=handlers, middleware=packed), host)


def serve(host: str, port: int, open_browser: bool, models: Sequence[str] = (), ignore: Sequence[str] = ()) -> None:
    """Serves until it is interrupted, and says where. Raises InputError for an address that cannot be had."""
    settings = uvicorn.Config(
        application(host, models, ignore),
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
    )
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port} ({error.strerror}); give another --port") from None
    with listening:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        click.echo(f"the explorer is at {address} (stop it with Ctrl-C)", err=True)
        if open_browser:
            webbrowser.open(address)
        uvicorn.Server(settings).run(sockets=[listening])


def _tagged(make: Callable[[], bytes]) -> tuple[bytes, str]:
    body = make()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


async def _body(request: Request, most: int = LARGEST_HEADER) -> bytes:
    """The request's body, refused as soon as it is too large, whatever its header says."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > most:
            raise HTTPException(413, f"at most the first {most:,} bytes of a file are read")
    return bytes(received)


def _unusable(request: Request, error: Exception) -> Response:
    """What was sent cannot be used: `unknown` names keys that may be ignored, `needs` the bytes that are missing."""
    answer: dict[str, Any] = {"error": _one_line(error)}
    if isinstance(error, UnknownKeysError):
        answer["unknown"] = list(error.keys)
    if isinstance(error, IncompleteError):
        if error.needs > LARGEST_HEADER:
            return JSONResponse({"error": f"the header is longer than {LARGEST_HEADER:,} bytes"}, 413)
        answer["needs"] = error.needs
    return JSONResponse(answer, 422)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": _one_line(error.detail)}, error.status_code)


def _failed(request: Request, error: Exception) -> Response:
    log.exception("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": f"this led to a fault here ({type(error).__name__}); please report it"}, 500)


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 500 else f"{text[:499]}…"
