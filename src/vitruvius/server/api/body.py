"""A request's body as JSON, read no further than it may be long, and no longer than a client may take."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect
from starlette.requests import Request as Asked

from .errors import RefusedError

LARGEST = 16 * 2**20  # bytes
SLOWEST = 60.0  # seconds for all of it


async def json_of(request: Asked) -> Any:
    """The JSON value of the body. Raises RefusedError where it is none, too large or too slow."""
    received = bytearray()
    try:
        async with asyncio.timeout(SLOWEST):
            async for piece in request.stream():
                received += piece
                if len(received) > LARGEST:
                    raise RefusedError(413, f"a request may have at most {LARGEST:,} bytes")
    except TimeoutError:
        raise RefusedError(408, f"the request did not come within {SLOWEST:.0f} s") from None
    except ClientDisconnect:
        raise RefusedError(400, "the request ended before its end") from None
    try:
        return json.loads(received.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the request is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise RefusedError(400, "the request is nested too deeply") from None
    except ValueError as error:
        raise RefusedError(400, f"the request is not valid JSON: {error}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
