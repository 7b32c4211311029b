"""A step: new tokens of any number of sequences in one pass, in which nothing is padded."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from .call import StepEntry, call_of
from .draft import follow
from .inputs import Embedded, check_ids
from .state import Sequence

if TYPE_CHECKING:
    from .decoder import Decoder


def step(model: Decoder, entries: Iterable[tuple[Sequence, Any, str]]) -> list[Tensor | None]:
    """See `Decoder.step`."""
    entries = [(s, given(model, tokens), wanted) for s, tokens, wanted in entries]
    check_step(model, [(s, new.embeddings, wanted) for s, new, wanted in entries])
    if not entries:
        return []
    order = sorted(range(len(entries)), key=lambda i: len(entries[i][1].embeddings))  # as many tokens side by side
    sequences, news, wanted = map(list, zip(*(entries[i] for i in order), strict=True))
    rows, counts = [new.embeddings for new in news], [len(new.embeddings) for new in news]
    if len({row.ndim for row in rows}) > 1:  # ids beside embeddings
        rows = [model.embed(row) if row.ndim == 1 else row for row in rows]
    x = advance(model, sequences, counts, torch.cat(rows), [new.positions for new in news])
    ends = list(accumulate(counts))
    asked = [
        range(end - {"all": count, "last": 1, "none": 0}[want], end)
        for count, end, want in zip(counts, ends, wanted, strict=True)
    ]
    index = torch.tensor([place for places in asked for place in places], dtype=torch.long, device=model.device)
    logits = model.read_out(x[index]).split([len(places) for places in asked])
    outputs: list[Tensor | None] = [None] * len(entries)
    for i, part in zip(order, logits, strict=True):
        outputs[i] = part if len(part) else None
    return outputs


def advance(
    model: Decoder,
    sequences: list[Sequence],
    counts: list[int],
    tokens: Tensor,
    positions: list[Tensor | None] | list[Tensor] | None = None,
) -> Tensor:
    """Adds so many tokens to each sequence: ids (N,) or embeddings (N, W), one sequence after the other, with the
    positions (A, T) of each, where they are not in order. Returns the stream after the final norm, (N, W)."""
    for sequence, count in zip(sequences, counts, strict=True):
        sequence.room(count)
        model.check_length(sequence.length + count)
        if model.spec.encoder and not sequence.encoded:
            raise InputError(f"the encoder of {model.spec.name} has read nothing yet: give input_ids too")
    places = positions or [None] * len(counts)
    entries = [StepEntry(n, s, s.encoded, at) for s, n, at in zip(sequences, counts, places, strict=True)]
    call = call_of(model.all_needs, entries, model.device, model.dtype)
    for sequence, count in zip(sequences, counts, strict=True):
        sequence.begin(count)
    x = model.run(call.laid(tokens), call).flatten(0, 1)
    follow(model, entries, tokens, x)
    for sequence, count, at in zip(sequences, counts, places, strict=True):
        sequence.finish(count)
        if at is not None:
            sequence.shifted(int(at.max()) + 1)
    return x


def given(model: Decoder, tokens: Any) -> Embedded:
    """New tokens of a step as they are to be fed: ids (T,) in the place of embeddings, where they are ids."""
    if not isinstance(tokens, Embedded):
        return Embedded(torch.as_tensor(tokens, device=model.device))
    if tokens.embeddings.ndim != 2:
        raise InputError(f"embeddings are (T, {model.width}), got {tuple(tokens.embeddings.shape)}")
    if tokens.positions is not None:
        check_positions(model, tokens.positions[:, None], torch.Size((1, len(tokens.embeddings))))
    return tokens


def check_step(model: Decoder, entries: list[tuple[Sequence, Tensor, str]]) -> None:
    """Raises InputError for what a step cannot do."""
    if len({id(s) for s, _, _ in entries}) < len(entries):
        raise InputError("a step takes each sequence once")
    for s, tokens, wanted in entries:
        if s.store.declared is not (model.draft_states if s.drafts else model.states):
            raise InputError(f"a sequence belongs to the model that made it, not to this {model.spec.name}")
        if wanted not in ("last", "all", "none"):
            raise InputError(f"what is wanted of a sequence is last, all or none, not {wanted!r}")
        if len(tokens) == 0 or (tokens.ndim != 1 and tokens.shape[1:] != (model.width,)):
            raise InputError(f"new tokens are a list of at least one id, got the shape {tuple(tokens.shape)}")
        check_ids(tokens, model.spec.embedding.vocab)


def check_positions(model: Decoder, positions: Tensor, shape: torch.Size) -> None:
    """Raises InputError for positions that cannot be."""
    if positions.ndim != 3 or positions.shape[1:] != shape or positions.is_floating_point():
        raise InputError(f"positions must be integers (axes, {shape[0]}, {shape[1]}), got {tuple(positions.shape)}")
    if model.all_needs.kept:
        raise InputError(f"{model.spec.name} keeps keys that are not rotated yet: positions go by their order")
    axes = max((len(rope.sections.sizes) if rope.sections else 1 for rope in model.all_needs.ropes), default=0)
    if len(positions) != axes:
        raise InputError(f"{model.spec.name} has positions with {axes} axes, got {len(positions)}")
