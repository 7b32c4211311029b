"""Listening until it is told to stop: what is at work is finished first."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import InputError
from .application import Service

BACKLOG = 2048
LONGEST_HEADERS = 64 * 2**10  # bytes
KEPT_ALIVE = 60  # seconds that a connection may wait for its next request
UNBEGUN = 60.0  # seconds that one may take to say what it wants


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; 0 is any free port. Raises InputError for an address that cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = str(error.strerror).partition(" (while")[0] if isinstance(error, OSError) else error
        raise InputError(f"cannot listen on {host} port {port} ({why}); give another --port") from None


def serve(service: Service, listening: socket.socket, host: str, drain: float, told: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM, and then for as long as `drain` seconds, until all answers are given; a second
    SIGINT ends it at once. `told` hears the address."""
    settings = uvicorn.Config(
        service.app,
        log_level="warning",
        server_header=False,
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=KEPT_ALIVE,
        timeout_graceful_shutdown=max(1, round(drain)),
        h11_max_incomplete_event_size=LONGEST_HEADERS,
        http="h11",
        ws="none",
    )
    server = uvicorn.Server(settings)
    signal.signal(signal.SIGTERM, lambda *_: None)  # what is done when the server has ended: nothing more
    told(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")
    asyncio.run(_served(server, listening))


async def _served(server: uvicorn.Server, listening: socket.socket) -> None:
    watching = asyncio.create_task(_hang_up(server))
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()


async def _hang_up(server: uvicorn.Server) -> None:
    """Closes connections that do not say what they want."""
    loop = asyncio.get_running_loop()
    since: dict[H11Protocol, float] = {}
    while True:
        await asyncio.sleep(UNBEGUN / 10)
        open_ = [each for each in server.server_state.connections if isinstance(each, H11Protocol)]
        waiting = [each for each in open_ if each.cycle is None or each.cycle.response_complete]
        since = {connection: since.get(connection, loop.time()) for connection in waiting}
        for connection, when in since.items():
            if loop.time() - when > UNBEGUN + KEPT_ALIVE / 10:
                connection.transport.close()
