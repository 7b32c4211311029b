"""An answer while it is made: its tokens with their timing, and its text, piece by piece, up to a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Literal

from ..errors import InputError

Finish = Literal["eos", "stop", "length", "context"]
OVERLAP = 4  # tokens before the new ones that are decoded with them: what a token reads like depends on its neighbours
BROKEN = "\ufffd"  # what a decoder writes for bytes that are no complete character (yet)


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


class TextStream:
    """The text of one answer, in pieces, as it comes.

    Args:
        tokens: its token ids.
        decode: ids -> text.
        prompt: the token ids before it; the last ones decide, for instance, whether it begins with a space.
        stop: strings that end it; neither they nor a part of them are given out.

    `finish` says afterwards why it ended, `timing` how long it took.
    """

    def __init__(
        self, tokens: Stream, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stop: Sequence[str] = ()
    ) -> None:
        self._tokens = tokens
        self._text, self._stop = Detokenizer(decode, prompt), StopStrings(stop)
        self.finish: Finish | None = None

    @property
    def timing(self) -> Timing:
        """How long it took so far."""
        return self._tokens.timing

    def __iter__(self) -> Iterator[str]:
        for token in self._tokens:
            if self._tokens.finish == "eos":
                break
            if piece := self._stop.push(self._text.push(token)):
                yield piece
            if self._stop.found:
                break
        if not self._stop.found and (piece := self._stop.push(self._text.rest()) + self._stop.rest()):
            yield piece
        self.finish = "stop" if self._stop.found else self._tokens.finish


class Detokenizer:
    """Text from token ids, one after the other. A character spread over several tokens comes when it is whole."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(prompt[-OVERLAP:])
        self._given = len(self._ids)  # how many of the ids have been given out as text

    def push(self, token: int) -> str:
        """The text that this token completes, perhaps none."""
        self._ids.append(token)
        text = self._new()
        return "" if text.endswith(BROKEN) else self._give(text)

    def rest(self) -> str:
        """What is left at the end, complete or not."""
        return self._give(self._new())

    def _new(self) -> str:
        before = self._decode(self._ids[: self._given]) if self._given else ""
        return self._decode(self._ids)[len(before) :]

    def _give(self, text: str) -> str:
        self._ids = self._ids[-max(OVERLAP, len(self._ids) - self._given) :]
        self._given = len(self._ids)
        return text


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
