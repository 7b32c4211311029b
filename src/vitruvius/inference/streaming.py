"""An answer while it is made: its tokens with their timing, and its text, piece by piece, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Literal, Protocol

from ..errors import InputError

Finish = Literal["eos", "stop", "length", "context"]


@dataclass
class Timing:
    """How long an answer took.

    Args:
        prompt: tokens of the prompt.
        reused: of these, how many were remembered from before.
        first: seconds until the first new token.
        tokens: new tokens.
        decode: seconds for the new tokens after the first.
    """

    prompt: int
    reused: int = 0
    first: float = 0.0
    tokens: int = 0
    decode: float = 0.0

    @property
    def prefill_rate(self) -> float | None:
        """Tokens of the prompt read per second; None before the first token."""
        return (self.prompt - self.reused) / self.first if self.first else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second after the first; None for fewer than two."""
        return (self.tokens - 1) / self.decode if self.tokens > 1 and self.decode else None

    def count(self, seconds: float) -> None:
        """One more token, which took this long."""
        if self.tokens == 0:
            self.first = seconds
        else:
            self.decode += seconds
        self.tokens += 1


class Stream:
    """The token ids of one answer as they come, the one that ends it included.

    Args:
        tokens: an endless supply, made when asked for.
        limit: the most to take, and what it means to reach it.
        eos: ids that end a text.

    `finish` says afterwards why it ended, None while it has not; `timing` how long it took.
    """

    def __init__(
        self,
        tokens: Iterator[int],
        limit: tuple[int, Literal["length", "context"]],
        eos: frozenset[int],
        timing: Timing,
    ) -> None:
        self._tokens, self._limit, self.eos, self.timing = tokens, limit, eos, timing
        self.finish: Finish | None = None

    def __iter__(self) -> Iterator[int]:
        count, reached = self._limit
        started = perf_counter()
        for token in islice(self._tokens, count):
            self.timing.count(perf_counter() - started)
            if token in self.eos:
                self.finish = "eos"
            yield token
            if self.finish:
                return
            started = perf_counter()
        self.finish = reached


class Decoder(Protocol):
    """Text from token ids that come one at a time (what a tokenizer's `stream` gives)."""

    def push(self, i: int) -> str:
        """The text that one more id completes, often empty."""
        ...

    def finish(self) -> str:
        """What is left when no id follows."""
        ...


class Answer:
    """The text of one answer, in pieces, as it comes.

    Args:
        tokens: its token ids.
        decoder: makes text of them.
        stop: strings that end it; neither they nor a part of them are given out.

    `finish` says afterwards why it ended, None while it has not.
    """

    def __init__(self, tokens: Stream, decoder: Decoder, stop: Sequence[str] = ()) -> None:
        self._tokens, self._decoder, self._stop = tokens, decoder, StopStrings(stop)
        self.finish: Finish | None = None

    @property
    def timing(self) -> Timing:
        """How long it took so far."""
        return self._tokens.timing

    def __iter__(self) -> Iterator[str]:
        for token in self._tokens:
            if self._tokens.finish == "eos":
                break
            if piece := self._stop.push(self._decoder.push(token)):
                yield piece
            if self._stop.found:
                self.finish = "stop"
                return
        if piece := self._stop.push(self._decoder.finish()) + self._stop.rest():
            yield piece
        self.finish = self._tokens.finish


class StopStrings:
    """Passes text on until one of the `stop` strings is found."""

    def __init__(self, stop: Sequence[str]) -> None:
        if not all(stop):
            raise InputError("a stop string must not be empty")
        self._stop = tuple(stop)
        self._held = ""  # text that may be the beginning of a stop string
        self.found = False

    def push(self, text: str) -> str:
        """What can be given out after this text."""
        self._held += text
        ends = [place for place in map(self._held.find, self._stop) if place >= 0]
        if ends:
            self.found = True
            self._held = self._held[: min(ends)]
            return self.rest()
        keep = max((self._beginning(stop) for stop in self._stop), default=0)
        given = self._held[: len(self._held) - keep]
        self._held = self._held[len(given) :]
        return given

    def rest(self) -> str:
        """What was held back, at the end."""
        given, self._held = self._held, ""
        return given

    def _beginning(self, stop: str) -> int:
        """How many of the last held characters are the beginning of `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
