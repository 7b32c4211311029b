"""Requests as the front sees them: their tokens as they come from the thread that runs models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from ...inference.request import Completion, Request, Token


class StoppedError(Exception):
    """A request ended without an answer: the thread that ran it met a fault, or stops."""


Told = tuple["Ticket", Sequence[Token], bool]  # whose tokens, and whether they are its last


class Ticket:
    """One request on its way; `index` is its place among those of its call."""

    def __init__(self, index: int, request: Request, told: asyncio.Queue[Told]) -> None:
        self.index, self.request, self._told = index, request, told
        self.completion: Completion | None = None  # once it is accepted
        self.failure: Exception | None = None
        self.ended = False

    def deliver(self, tokens: Sequence[Token], last: bool) -> None:
        """More tokens; on the event loop."""
        if not self.ended:
            self.ended = last
            self._told.put_nowait((self, tokens, last))

    def fail(self, error: Exception) -> None:
        """Nothing more will come; on the event loop."""
        self.failure = error
        self.deliver((), True)


class Flight:
    """The requests of one call, on their way together."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self.tickets = [Ticket(i, request, self._told) for i, request in enumerate(requests)]

    async def tokens(self) -> AsyncIterator[Told]:
        """What comes of them, in groups as it comes. Raises InputError for one that a request ended with, and
        StoppedError where a fault ended it."""
        open_ = len(self.tickets)
        while open_:
            ticket, tokens, last = await self._told.get()
            if ticket.failure:
                raise ticket.failure
            if ticket.completion and ticket.completion.error:
                raise ticket.completion.error
            open_ -= last
            yield ticket, tokens, last

    @property
    def completions(self) -> list[Completion]:
        """What came of each so far; once they are accepted."""
        return [ticket.completion for ticket in self.tickets if ticket.completion]
