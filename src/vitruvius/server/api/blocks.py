"""An answer as a row of blocks: reasoning, text, calls, in the order in which they were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ...inference.tools.reading import ToolCall
from .reading import Piece
from .writer import identifier

Kind = Literal["reasoning", "text", "call"]


@dataclass(eq=False)
class AnswerBlock:
    """A stretch of one kind; of a call, `text` is its arguments, and `name` the tool.

    Args:
        index: its place in the row.
        logprobs: of its tokens, where they are wanted.
    """

    index: int
    kind: Kind
    name: str = ""
    text: str = ""
    id: str = field(default_factory=lambda: identifier("call_"))
    logprobs: list[dict[str, Any]] = field(default_factory=list)


Change = tuple[Literal["open", "grow", "close"], AnswerBlock, str]  # with the text that has come to it


class AnswerBlocks:
    """The blocks of an answer as it comes; only the last one grows."""

    def __init__(self, several: bool = True) -> None:
        self.row: list[AnswerBlock] = []
        self._several = several  # whether there may be more than one call
        self._open = False
        self._blank = ""  # white space, which alone begins no block

    def add(self, pieces: Iterable[Piece]) -> Iterator[Change]:
        """What more of the answer changes."""
        for piece in pieces:
            if isinstance(piece, ToolCall):
                if self._several or not any(block.kind == "call" for block in self.row):
                    yield from self.close()
                    yield from self._grown("call", piece.arguments, piece.name)
                    yield from self.close()
            else:
                kind: Kind = "reasoning" if piece.channel == "reasoning" else "text"
                goes_on = self._open and self.row[-1].kind == kind
                self._blank = "" if goes_on else self._blank + piece.text
                if goes_on:
                    yield from self._grown(kind, piece.text)
                elif self._blank.strip():
                    yield from self.close()
                    yield from self._grown(kind, self._blank)

    def close(self) -> Iterator[Change]:
        """The last block has ended."""
        if self._open:
            self._open = False
            yield "close", self.row[-1], ""

    def _grown(self, kind: Kind, text: str, name: str = "") -> Iterator[Change]:
        if not self._open:
            self._open, self._blank = True, ""
            self.row.append(AnswerBlock(len(self.row), kind, name))
            yield "open", self.row[-1], ""
        self.row[-1].text += text
        yield "grow", self.row[-1], text
