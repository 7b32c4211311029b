"""What a model writes in a chat, told apart: text, reasoning, and calls of tools."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import InputError
from ...inference.answers import AnswerPart, Channels
from ...inference.tools.finding import ToolCalls
from ...inference.tools.formats import HARMONY, ToolFormat
from ...inference.tools.reading import Schemas, ToolCall, call

Piece = AnswerPart | ToolCall  # parts of text and reasoning, and whole calls


class Reader:
    """One answer as it comes.

    Args:
        channels: how reasoning is marked.
        form: how calls are written; none are looked for, if None.
        tools: those that may be called.
    """

    def __init__(self, channels: Channels, form: ToolFormat | None, tools: Schemas) -> None:
        self._channels = channels
        self._calls = ToolCalls(form, tools) if form and form is not HARMONY else None
        self._name, self._arguments = "", ""  # of the call in a channel

    def push(self, text: str) -> Iterator[Piece]:
        """What can be given out after this text."""
        for part in self._channels.push(text):
            yield from self._part(part)

    def finish(self, complete: bool) -> Iterator[Piece]:
        """What was held back, at the end; `complete` says whether the model has ended by itself."""
        for part in self._channels.finish():
            yield from self._part(part)
        if complete:
            yield from self._call()
        elif self._name:
            yield AnswerPart("text", self._arguments)
        if self._calls:
            yield from _pieces(self._calls.finish(complete))

    def _part(self, part: AnswerPart) -> Iterator[Piece]:
        if part.channel == "call" and part.text:
            self._arguments += part.text
            return
        yield from self._call()
        if part.channel == "call":
            self._name, self._arguments = part.name, ""
        elif part.channel == "text" and self._calls:
            yield from _pieces(self._calls.push(part.text))
        else:
            yield part

    def _call(self) -> Iterator[Piece]:
        """The call in a channel, if there is one, which has ended."""
        if self._name:
            name, self._name = self._name, ""
            try:
                yield call(name, self._arguments)
            except (ValueError, InputError):
                yield AnswerPart("text", self._arguments)


def _pieces(found: list[str | ToolCall]) -> Iterator[Piece]:
    for each in found:
        yield AnswerPart("text", each) if isinstance(each, str) else each
