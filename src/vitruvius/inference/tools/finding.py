"""Text and calls, told apart as they come. What comes out is the same however the text was cut into pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..text import begun
from .formats import ToolFormat
from .reading import Schemas, ToolCall


class JsonEnd:
    """Where a JSON value ends that comes in pieces."""

    def __init__(self) -> None:
        self._depth, self._quoted, self._escaped, self._at = 0, False, False, 0

    def find(self, text: str) -> int | None:
        """The place after the value that begins `text`, which has grown since the last call; None while it goes on."""
        for at in range(self._at, len(text)):
            character = text[at]
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        self._at = len(text)
        return None


@dataclass
class ToolCalls:
    """Text and calls in what a model writes, as it comes.

    Args:
        form: how the model writes calls.
        tools: those that it may call.
    """

    form: ToolFormat
    tools: Schemas
    _pending: str = ""  # text that may be the beginning of a mark, or white space before one
    _begin: str | None = None  # the mark of the call that is being read
    _body: str = ""
    _json: JsonEnd = field(default_factory=JsonEnd)
    _searched: int = 0  # as much of the body holds no mark of its end
    _started: bool = False  # whether there was any text or call
    _called: bool = False
    _space: str = ""  # before a call: it belongs to the text after it, if there is any

    def push(self, text: str) -> list[str | ToolCall]:
        """What can be given out after this text."""
        found: list[str | ToolCall] = []
        self._pending += text
        while True:
            if self._begin is not None:
                self._body, self._pending = self._body + self._pending, ""
                end = self._end()
                if end is None:
                    return found
                self._pending = self._body[end[1] :]
                found += self._read(self._body[: end[0]], self._body[: end[1]])
                continue
            step = self._outside(found)
            if not step:
                return found

    def finish(self, complete: bool) -> list[str | ToolCall]:
        """What was held back, at the end; `complete` says whether the model has ended by itself."""
        if self._begin is None:
            rest, self._pending = self._pending, ""
            return [self._space + rest] if rest.strip() or (rest and not self._called) else []
        body, self._body = self._body, ""
        if complete and body.strip():
            return self._read(body, body)
        if not self._begin:  # no mark says that it is a call
            return [body] if body else []
        if not self.form.several:
            return []
        found = self._read(body, body)
        return [each for each in found if isinstance(each, ToolCall)]

    def _outside(self, found: list[str | ToolCall]) -> bool:
        """Gives text out up to the next mark; whether there was one."""
        form, pending = self.form, self._pending
        if not form.begin and not self._started and (first := pending.lstrip()[:1]):
            self._started = True
            if first in "{[":
                self._begin, self._body = "", ""
                return True
        places = [(at, mark) for mark in (*form.begin, *form.around) if (at := pending.find(mark)) >= 0]
        if not places:
            keep = max((begun(pending, mark) for mark in (*form.begin, *form.around)), default=0)
            clear = pending[: len(pending) - keep]
            if form.begin:
                clear = clear.rstrip()
            self._give(clear, found)
            self._pending = pending[len(clear) :]
            return False
        at, mark = min(places, key=lambda place: (place[0], -len(place[1])))
        clear = pending[:at].rstrip(None if mark in form.begin else "\n")
        self._give(clear, found)
        self._space += pending[len(clear) : at] if mark in form.begin else ""
        self._pending = pending[at + len(mark) :]
        if mark in form.begin or not form.begin:
            self._begin, self._body, self._json, self._searched = mark, "", JsonEnd(), 0
        return True

    def _give(self, text: str, found: list[str | ToolCall]) -> None:
        if text:
            self._started = True
            found.append(self._space + text)
            self._space = ""

    def _end(self) -> tuple[int, int] | None:
        """Where the body ends that is being read, and where its mark does."""
        body = self._body
        if not self.form.begin:
            return None
        if not self.form.end:
            start = len(body) - len(body.lstrip())
            if body[start : start + 1] != "[":
                start = body.find("{")
            end = self._json.find(body[start:]) if start >= 0 else None
            return None if end is None else (start + end, start + end)
        for match in re.compile("|".join(map(re.escape, self.form.end))).finditer(body, self._searched):
            if not _quoted(body[: match.start()], *self.form.quotes):
                return match.span()
        self._searched = max(0, len(body) - max(map(len, self.form.end)) + 1)
        return None

    def _read(self, body: str, raw: str) -> list[str | ToolCall]:
        begin, self._begin, self._body, self._called = self._begin or "", None, "", True
        try:
            return [*self.form.read(body, self.tools)]
        except (ValueError, AttributeError, TypeError, RecursionError):
            return [begin + raw]


def _quoted(text: str, begin: str, end: str) -> bool:
    """Whether a beginning of arguments ends inside a text among them."""
    if begin == '"':
        return len(re.findall(r'(?<!\\)(?:\\\\)*"', text)) % 2 == 1
    if begin == end:
        return text.count(begin) % 2 == 1
    return text.rfind(begin) > text.rfind(end)
