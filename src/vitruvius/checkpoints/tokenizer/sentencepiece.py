"""SentencePiece's own files, `tokenizer.model` or `spiece.model`: google/sentencepiece, src/sentencepiece_model.proto.

What the file says is translated into the steps of `tokenizers`: normalizer.cc (the map of characters, spaces at the
ends and doubled ones, the space that begins a text), the prefix matcher that leaves user-defined pieces whole, and the
two models. The ids are sentencepiece's but for these texts: nothing but a user-defined piece, where a space should
begin a text (it goes without); a combining mark after a character that the map changes, where they do not compose (the
library's map drops the mark, also in transformers); overlapping user-defined pieces of a unigram model (equal scores).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .bpe import Merges, add, merges_in_order

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import Model
    from tokenizers.normalizers import Normalizer

# SentencePiece.Type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True)
class Piece:
    """An entry of the vocabulary."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass(frozen=True)
class SentencePieces:
    """A vocabulary of SentencePiece, and what is done to a text before.

    Args:
        model: "unigram" (the most probable pieces) or "bpe" (merges by score).
        prefix: a space begins a text.
        squeeze: spaces at the ends go, and several become one.
        characters: the compiled map of characters, empty for none.
    """

    pieces: tuple[Piece, ...]
    model: str = "unigram"
    prefix: bool = True
    squeeze: bool = True
    characters: bytes = b""
    names: dict[str, int] = field(default_factory=dict)


def read(path: Path, content: bytes) -> SentencePieces:
    """The vocabulary in a file's content. Raises InputError where it is damaged, or does what nothing here can."""
    try:
        parts = list(_fields(content))
        trainer = dict(_fields(next((value for number, value in parts if number == 2), b"")))
        normalizer = dict(_fields(next((value for number, value in parts if number == 3), b"")))
        pieces = tuple(_piece(value) for number, value in parts if number == 1)
    except (IndexError, TypeError, UnicodeDecodeError, ValueError, struct.error):
        raise InputError(f"{path}: not a complete SentencePiece model; fetch it again") from None
    model = MODELS.get(trainer.get(3, 1), "unknown")
    if model not in ("unigram", "bpe") or trainer.get(24):
        what = "with spaces after words" if trainer.get(24) else f"of the kind {model}"
        raise InputError(f"{path}: a SentencePiece model {what} is not supported; save it as tokenizer.json")
    if not pieces:
        raise InputError(f"{path}: not a complete SentencePiece model; fetch it again")
    names = {name: _signed(trainer.get(number, default)) for name, number, default in NAMED}
    return SentencePieces(
        pieces,
        model,
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
        bytes(normalizer.get(2, b"")),
        {name: i for name, i in names.items() if 0 <= i < len(pieces)},
    )


NAMED = (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2), ("pad", 43, -1))  # of TrainerSpec, with their defaults


def _signed(value: int) -> int:
    """A whole number, which is stored modulo 2⁶⁴."""
    return value - (1 << 64) if value >> 63 else value


def _piece(message: Any) -> Piece:
    values = dict(_fields(message))
    (score,) = struct.unpack("<f", values.get(2, bytes(4)))
    return Piece(bytes(values.get(1, b"")).decode(), score, values.get(3, NORMAL))


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """The numbers and values of a message of Protocol Buffers (protobuf.dev/programming-guides/encoding)."""
    view, at = memoryview(message), 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = view[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError

    while at < len(view):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or (varint() if kind == 2 else -1)
        if not 0 <= size <= len(view) - at:
            raise ValueError
        yield number, view[at : at + size]
        at += size


def backend(vocabulary: SentencePieces) -> Backend:
    """What encodes and decodes as sentencepiece does."""
    from tokenizers import Regex, decoders, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    pieces = vocabulary.pieces
    own = [piece.text for piece in pieces if piece.kind == USER_DEFINED]
    made = Backend(_unigram(pieces) if vocabulary.model == "unigram" else _bpe(pieces))
    if vocabulary.model == "unigram":
        if any(piece.kind == BYTE for piece in pieces):  # in a text <0x41> is six characters
            made.pre_tokenizer = pre_tokenizers.Split(Regex("<(?=0x[0-9A-F]{2}>)"), behavior="isolated")
        own = []  # the model finds them by their scores
    made.normalizer = _normalizer(vocabulary, own)
    after = [decoders.Strip(" ", 1, 0)] if vocabulary.prefix else []
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after])
    add(made, (piece.text for piece in pieces if piece.kind in (UNKNOWN, CONTROL)), special=True)
    add(made, own, special=False, normalized=True)
    return made


def _bpe(pieces: tuple[Piece, ...]) -> Model:
    from tokenizers import models

    ids = {piece.text: i for i, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == UNKNOWN), None)
    spelled = any(piece.kind == BYTE for piece in pieces)
    return models.BPE(ids, _merges(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=spelled)


def _unigram(pieces: tuple[Piece, ...]) -> Model:
    from tokenizers import models

    best = max((piece.score for piece in pieces if piece.kind == NORMAL), default=0.0)
    scores = [
        (piece.text, len(piece.text.encode()) * best - 0.1 if piece.kind == USER_DEFINED else piece.score)
        for piece in pieces
    ]
    unknown = next((i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN), None)
    return models.Unigram(scores, unknown, byte_fallback=any(piece.kind == BYTE for piece in pieces))


def _merges(pieces: tuple[Piece, ...]) -> Merges:
    scores = {piece.text: piece.score for piece in pieces if piece.kind == NORMAL}
    return merges_in_order(scores, lambda token: -scores[token])


def _normalizer(vocabulary: SentencePieces, own: list[str]) -> Normalizer:
    from tokenizers import Regex, normalizers

    steps: list[Normalizer] = []
    if vocabulary.characters:
        steps.append(normalizers.Precompiled(vocabulary.characters))
    if vocabulary.squeeze:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if vocabulary.prefix and own:  # which are normalised too, before they are looked for, and must stay as they are
        texts = "|".join(map(re.escape, own))
        steps.append(normalizers.Replace(Regex(rf"\A(?!(?:{texts})\z)(?=[\s\S])"), " "))
    elif vocabulary.prefix:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
