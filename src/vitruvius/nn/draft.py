"""Drafting: what the layers for multi-token prediction keep of a sequence, and the tokens that they expect next.

The row of position p of module k has token p and the hidden state of position p − 1: for module 0 the model's own, for
module k that of module k − 1. From these it predicts token p + 1 (DeepSeek-V3, arXiv 2412.19437, section 2.2). So a
step adds its tokens to the modules too, and nothing lags but the hidden states, of which the last one is kept. Module k
begins at position k + 1: what stands before means nothing, and nobody sees it.

A draft begins at the token that was chosen, whose position is the sequence's length. Module k gives the token k + 1
further; after the last module, that one goes on from its own hidden states, as engines do with DeepSeek's one module
(vLLM, v1/spec_decode; SGLang, speculative). Its rows lie behind the sequence's length, so the next step writes over
them, and there is nothing to take back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import spec
from ..errors import InputError
from .call import Call, StepEntry, call_of
from .inputs import check_ids
from .mtp import MTP
from .state import Sequence

if TYPE_CHECKING:
    from .decoder import Decoder


def follow(model: Decoder, entries: list[StepEntry], tokens: Tensor, hidden: Tensor) -> None:
    """Adds the tokens of a pass to the modules' states of those sequences that draft.

    Args:
        tokens: ids (N,) or embeddings (N, W) of all entries, one after the other.
        hidden: (N, W), the model's hidden states there.
    """
    drafting = [entry.sequence is not None and entry.sequence.drafts for entry in entries]
    if not any(drafting):
        return
    if not all(drafting):
        counts = torch.tensor([entry.tokens for entry in entries])
        rows = torch.tensor(drafting).repeat_interleave(counts).to(hidden.device)
        tokens, hidden = tokens[rows], hidden[rows]
        entries = [entry for entry, drafts in zip(entries, drafting, strict=True) if drafts]
    for k, module in enumerate(_modules(model)):
        call, embedded = _module_call(model, k, entries, tokens)
        hidden = module(embedded, module.shifted(call.laid(hidden), call), call).flatten(0, 1)


def draft(model: Decoder, entries: Iterable[tuple[Sequence, int]], count: int) -> list[list[int]]:
    """See `Decoder.draft`."""
    entries = list(entries)
    _check(model, entries, count)
    texts, modules = [[int(token)] for _, token in entries], _modules(model)
    last = len(modules) - 1
    for step in range(count):
        going = [i for i, (s, _) in enumerate(entries) if step < min(s.capacity - s.length, s.store.slack)]
        if not going:
            break
        rows = [StepEntry(1, entries[i][0], entries[i][0].encoded, drafted=step) for i in going]
        for i in going:
            entries[i][0].written(entries[i][0].length + step + 1)
        tokens = torch.tensor([texts[i][-1] for i in going], device=model.device)
        for k in range(last, min(step, last) - 1, -1):
            call, embedded = _module_call(model, k, rows, tokens)
            hidden = modules[k](embedded, modules[k].before(call), call)
            modules[min(k + 1, last)].keep(hidden, call)
        for i, token in zip(going, model.head(hidden.flatten(0, 1)).argmax(-1).tolist(), strict=True):
            texts[i].append(token)
    return [text[1:] for text in texts]


def check_drafts(arch: spec.Decoder) -> None:
    """Raises InputError for a model that cannot draft."""
    if not arch.mtp:
        raise InputError(f"{arch.name} has no layers for multi-token prediction to draft with, or not with mtp=True")
    for path, entries in arch.draft_state().items():
        if any(isinstance(entry, spec.Fixed) for entry in entries.values()):
            raise InputError(f"{arch.name} cannot draft: {path} is recurrent, and cannot forget what was drafted")


def _modules(model: Decoder) -> list[MTP]:
    return [module for module in model.mtp if isinstance(module, MTP)]


def _module_call(model: Decoder, k: int, entries: list[StepEntry], tokens: Tensor) -> tuple[Call, Tensor]:
    """A pass through module k, and the tokens' embeddings as they lie in it."""
    call = call_of(model.mtp_needs[k], entries, model.device, model.dtype, first=k + 1)
    if tokens.is_floating_point():
        return call, call.laid(tokens)
    ids = call.laid(tokens)
    return replace(call, ids=ids), model.embed(ids)


def _check(model: Decoder, entries: list[tuple[Sequence, int]], count: int) -> None:
    """Raises InputError for what cannot be drafted."""
    if count < 1:
        raise InputError(f"a draft has at least one token, got {count}")
    if len({id(s) for s, _ in entries}) < len(entries):
        raise InputError("a draft takes each sequence once")
    for s, token in entries:
        if s.store.declared is not model.draft_states:
            raise InputError("a sequence drafts only for the model that made it with draft=True")
        s.room(0)
        if s.length == 0:
            raise InputError("a draft goes on from what a step has seen, and the sequence is empty")
        check_ids(torch.tensor([token]), model.spec.embedding.vocab)
