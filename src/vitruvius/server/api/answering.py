"""From a call to its answer: the requests run, and what they write is sent in pieces or in one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal

from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ...errors import InputError
from ...inference.request import Request
from .errors import RefusedError
from .metrics import Metrics
from .models import LiveModel, Models
from .ticket import Flight, StoppedError
from .writer import Event, Writer

log = logging.getLogger(__name__)
QUIET = 10.0  # seconds without a piece after which a line is sent that says nothing, so that nobody hangs up
Form = Literal["openai", "anthropic", "responses"]
UNREAD = 60.0  # seconds that a client may leave a piece unread


def refusal(error: Exception) -> RefusedError:
    """What a client is told of an error."""
    match error:
        case RefusedError():
            return error
        case InputError():
            return RefusedError(400, str(error))
        case StoppedError():
            return RefusedError(503, str(error), retry=1)
        case TimeoutError():
            return RefusedError(504, "the answer took too long; give it more `timeout`, or ask for less")
    log.error("a request has failed", exc_info=error)
    return RefusedError(500, f"this led to a fault here ({type(error).__name__}); please report it")


class Answering:
    """One call of a client: its requests, and the writer of its answer.

    Args:
        form: whose form events have: errors look unlike, and only OpenAI's older one marks the end.
    """

    def __init__(self, models: Models, metrics: Metrics, asked: Mapping[str, Any], form: Form = "openai") -> None:
        self.models, self.metrics, self.asked, self.form = models, metrics, asked, form
        self._stack = AsyncExitStack()
        self._flight: Flight | None = None
        loop = asyncio.get_running_loop()
        self.until = loop.time() + min(asked.get("timeout", models.limits.seconds), models.limits.seconds)

    async def model(self) -> LiveModel:
        """The model that it asks for, for as long as the call lasts."""
        return await self._stack.enter_async_context(self.models.using(self.asked.get("model")))

    async def respond(
        self, request: Asked, live: LiveModel, requests: Sequence[Request], writer: Writer
    ) -> Response | EventStream:
        """The answer to requests: their pieces as they come, if the call asks for a stream, else all in one."""
        self._flight = await self._stack.enter_async_context(self.models.flight(live, requests))
        self.metrics.begin(live.offer.name, self._flight)
        if self.asked.get("stream"):
            return EventStream(self, writer)
        return JSONResponse(await self._unless_gone(request, writer))

    async def close(self) -> None:
        """Gives back all that it holds; requests that have not ended are cancelled."""
        if self._flight:
            self.metrics.given_up(self._flight)
        await self._stack.aclose()

    async def events(self, writer: Writer) -> AsyncIterator[Event]:
        """The events of the answer, as they come. Raises what ends it."""
        assert self._flight
        for event in writer.begin():
            yield event
        tokens = aiter(self._flight.tokens())
        while True:
            async with asyncio.timeout_at(self.until):
                told = await anext(tokens, None)
            if told is None:
                break
            ticket, new, last = told
            self.metrics.written(ticket, new)
            if new:
                for event in writer.write(ticket, new):
                    yield event
            if last:
                self.metrics.ended(ticket)
                for event in writer.finish(ticket):
                    yield event
        for event in writer.end():
            yield event

    async def _whole(self, writer: Writer) -> dict[str, Any]:
        async for _ in self.events(writer):
            pass
        return writer.whole()

    async def _unless_gone(self, request: Asked, writer: Writer) -> dict[str, Any]:
        """The whole answer, which is given up where the client has gone."""
        answer, gone = asyncio.create_task(self._whole(writer)), asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise RefusedError(400, "the client has gone")
            return answer.result()
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.wait({answer, gone})


async def _gone(request: Asked) -> None:
    """Waits until the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """An answer in server-sent events. When it is sent, or nobody listens any more, its call is closed."""

    def __init__(self, call: Answering, writer: Writer) -> None:
        self._call, self._writer = call, writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(Asked(scope, receive)))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.wait({sending, gone})
            await self._call.close()

    async def _send(self, send: Send) -> None:
        async def piece(body: bytes, more: bool = True) -> None:
            async with asyncio.timeout(UNREAD):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            async for body in _kept_alive(self._pieces()):
                await piece(body)
            await piece(b"", more=False)
        except (TimeoutError, OSError):  # nobody reads: the connection ends without the end of the answer
            log.info("a client has left its answer unread")

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            async for name, data in self._call.events(self._writer):
                yield encoded(name, data)
        except Exception as error:  # the answer has begun: what went wrong can only be said in it
            told = refusal(error)
            match self._call.form:
                case "openai":
                    yield encoded(None, told.openai())
                case "anthropic":
                    yield encoded("error", told.anthropic())
                case "responses":
                    yield encoded("error", {**told.openai()["error"], "type": "error", "sequence_number": 0})
        else:
            if self._call.form == "openai":
                yield b"data: [DONE]\n\n"


async def _kept_alive(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, and a comment whenever none has come for a while."""
    coming: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(pieces))
            done, _ = await asyncio.wait({coming}, timeout=QUIET)
            if not done:
                yield b": go on\n\n"
                continue
            piece, coming = coming.result(), None
            if piece is None:
                return
            yield piece
    finally:
        if coming:
            coming.cancel()
            await asyncio.wait({coming})


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def encoded(name: str | None, data: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
