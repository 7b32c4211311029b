"""Byte-pair vocabularies as tokenizers of Hugging Face's library, whatever file they came from.

`tokenizers` knows no scores and no ranks, only merges in an order. SentencePiece and tiktoken join any two neighbours
that make a token, the one with the best score or rank first; merges in the order of what they make give the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from .cuts import Cut
from .letters import letters

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

Merges = list[tuple[str, str]]


def merges_in_order(tokens: Iterable[str], order: Callable[[str], float]) -> Merges:
    """All pairs of tokens that join to a third, those of the third with the lowest order first. Which of its own pairs
    comes first makes no difference."""
    known = set(tokens)
    return [
        (token[:at], token[at:])
        for token in sorted(known, key=order)
        for at in range(len(token) - 1, 0, -1)
        if token[:at] in known and token[at:] in known
    ]


def byte_level(ids: Mapping[str, int], merges: Merges, cut: Cut) -> Backend:
    """GPT-2's kind: bytes written as letters, cut into words, merged in a given order."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE(dict(ids), merges, ignore_merges=cut.whole, byte_fallback=cut.spaced))
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in cut.patterns]
    if cut.spaced:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        if cut.nfc:
            backend.normalizer = normalizers.NFC()
        spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, spelled])
        backend.decoder = decoders.ByteLevel()
    return backend


def ranked(tokens: Mapping[bytes, int], cut: Cut, specials: Mapping[str, int]) -> Backend:
    """tiktoken's kind: tokens of bytes with their ids, which are the order of merging too; the special tokens' ids may
    come before, between or after them. A token that is spelled as a special one is that one."""
    ids = {letters(token): i for token, i in tokens.items()}
    return byte_level({**ids, **specials}, merges_in_order(ids, ids.__getitem__), cut)


def spaced(
    ids: Mapping[str, int],
    merges: Merges,
    unknown: str | None,
    prefix: bool,
) -> Backend:
    """SentencePiece's kind as llama.cpp has it: spaces written as ▁, the text merged whole, unknown characters spelled
    out in bytes; `prefix` begins a text with a space."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    backend = Backend(models.BPE(dict(ids), merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    before = [normalizers.Prepend("▁")] if prefix else []
    after = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after])
    return backend


def add(backend: Backend, tokens: Iterable[str], special: bool, normalized: bool = False) -> None:
    """Makes `backend` recognise tokens whole in any text: as it stands, or after it was normalised."""
    from tokenizers import AddedToken

    added = [AddedToken(token, special=special, normalized=normalized) for token in tokens if token]
    (backend.add_special_tokens if special else backend.add_tokens)(added)


def surround(backend: Backend, first: Mapping[str, int], last: Mapping[str, int]) -> None:
    """Makes `backend` begin and end texts with tokens: names and ids."""
    from tokenizers.processors import TemplateProcessing

    if first or last:
        backend.post_processor = TemplateProcessing(
            single=[*first, "$A", *last], special_tokens=[*first.items(), *last.items()]
        )
