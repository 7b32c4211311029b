"""Text from tokens as they come, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import InputError


class TextDecoder(Protocol):
    """Text from token ids that come one at a time (what a tokenizer's `stream` gives)."""

    def push(self, i: int) -> str:
        """The text that one more id completes, often empty."""
        ...

    def finish(self) -> str:
        """What is left when no id follows."""
        ...


class StopStrings:
    """Passes text on until one of the `stop` strings is found."""

    def __init__(self, stop: Sequence[str]) -> None:
        if not all(stop):
            raise InputError("a stop string must not be empty")
        self._stop = tuple(stop)
        self._pending = ""  # text that may be the beginning of a stop string
        self.found: str | None = None  # the one that ended the text

    def push(self, text: str) -> str:
        """What can be given out after this text."""
        self._pending += text
        ends = [(place, stop) for stop in self._stop if (place := self._pending.find(stop)) >= 0]
        if ends:
            place, self.found = min(ends, key=lambda end: end[0])
            self._pending = self._pending[:place]
            return self.rest()
        keep = max((begun(self._pending, stop) for stop in self._stop), default=0)
        clear = self._pending[: len(self._pending) - keep]
        self._pending = self._pending[len(clear) :]
        return clear

    def rest(self) -> str:
        """What was held back, at the end."""
        rest, self._pending = self._pending, ""
        return rest


def begun(text: str, mark: str) -> int:
    """How many of the last characters of `text` are the beginning of `mark`, but not all of it."""
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)
