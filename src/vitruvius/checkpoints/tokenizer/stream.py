"""Text from token ids that come one at a time."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import InputError
from .letters import byte_level


class TextStream:
    """Text from ids that come one at a time; each costs the same, however long the text is.

    What `push` and at last `finish` return joins to the text of all ids. A character that is spread over several tokens
    comes with its last byte; bytes that are no character come as U+FFFD. Ids without a token (a model's vocabulary may
    be padded) give nothing.
    """

    def __init__(self, token: Callable[[int], str | None], pieces: Pieces, skipped: frozenset[int]) -> None:
        self._token, self._pieces, self._skipped = token, pieces, skipped
        self._utf8 = getincrementaldecoder("utf-8")("replace")
        self._started = False
        self._strip = pieces.strip

    def push(self, i: int) -> str:
        """The text that one more id completes, often empty."""
        token = None if i in self._skipped else self._token(int(i))
        if token is None:
            return ""
        piece = self._pieces.first(token) if not self._started else self._pieces.piece(token)
        self._started = True
        return self._stripped(self._utf8.decode(piece))

    def finish(self) -> str:
        """What is left when no id follows: U+FFFD for an unfinished character."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        """`text` without the spaces that were added before the first word."""
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


@dataclass(frozen=True)
class Pieces:
    """What a token contributes to a text, as UTF-8 bytes: `first` for the first token, `piece` for the others. `strip`
    is how many spaces are taken off the beginning of the text."""

    first: Callable[[str], bytes]
    piece: Callable[[str], bytes]
    strip: int = 0

    @staticmethod
    def of(decoder: dict[str, Any], source: str) -> Pieces:
        """From the "decoder" of a tokenizer.json: byte-level, or SentencePiece's marks with or without bytes."""
        steps = decoder.get("decoders", [decoder])
        kinds = [step.get("type") for step in steps]
        if kinds == ["ByteLevel"]:
            return Pieces(byte_level, byte_level)
        if kinds == ["Metaspace"]:
            mark, space = steps[0]["replacement"], " " if steps[0].get("prepend_scheme") == "never" else ""
            return Pieces(partial(marked, mark=mark, space=space), partial(marked, mark=mark))
        if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
            strip = {"content": " ", "start": 0, "stop": 0, **(steps[3] if kinds[3:] else {})}
            mark = steps[0]["pattern"].get("String")
            if mark is not None and strip["content"] == " " and strip["stop"] == 0:
                piece = partial(marked_or_spelled, mark=mark, space=steps[0]["content"])
                return Pieces(piece, piece, strip["start"])
        raise InputError(f"{source}: text of the decoder {'+'.join(map(str, kinds))} cannot be streamed")


def marked(token: str, mark: str, space: str = " ") -> bytes:
    """A token of SentencePiece, which writes spaces as a mark."""
    return token.replace(mark, space).encode()


def marked_or_spelled(token: str, mark: str, space: str) -> bytes:
    """A token of SentencePiece that may also be a byte, spelled out as `<0xE2>`."""
    return bytes.fromhex(token[3:5]) if SPELLED_BYTE.fullmatch(token) else marked(token, mark, space)


SPELLED_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
