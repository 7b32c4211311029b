"""Lowering of spec/mtp.py."""

from __future__ import annotations

import numpy as np

from ... import spec
from ..plan import Buffer, Builder, StateLayout, Target
from .base import Linear, linear, lower
from .decoder import embed, trunk
from .layer import layer


def ahead(b: Builder, s: spec.Decoder) -> None:
    """The layers for multi-token prediction: logits of all modules side by side, of the wanted rows.

    The row of position p has token p and, of the module before, the hidden state of position p − 1. So module k makes
    sense from position k + 1 on, and no key before that is seen.
    """
    x = trunk(b, s)
    lower(b, s.final_norm, s.width, "final_norm", x, Target(x))
    hidden, states = x, b.lasting(len(s.mtp) * s.width)
    for k, module in enumerate(s.mtp):
        b.shared["first"] = k + 1
        result = states.columns(k * s.width, s.width)
        next_tokens(b, s, module, f"mtp.{k}", hidden, result)
        hidden = result
    assert s.head is not None
    vocab = s.output_width
    logits = b.output(len(s.mtp) * vocab)
    with b.scope():
        last = b.buffer(states.width)
        b.op("select", x=states, y=last)
        for k in range(len(s.mtp)):
            x = last.columns(k * s.width, s.width)
            lower(b, s.head, s.width, "head", x, Target(logits.columns(k * vocab, vocab)))


def next_tokens(b: Builder, s: spec.Decoder, m: spec.MTP, path: str, hidden: Buffer, y: Buffer) -> None:
    """norm(layer(join([norm(embedding of the token), norm(hidden state before it)])))."""
    width = s.width
    with b.scope():
        joined, x = b.buffer(2 * width), b.buffer(width)
        token, before = joined.cut(width, width)
        embed(b, s, token)
        lower(b, m.norm, width, f"{path}.embedding_norm", token, Target(token))
        shift = b.vector(2 * width, (), lambda: np.repeat([1, 0], width), key=("shift", width))
        b.op("conv", x=hidden, y=before, state=b.state(StateLayout(fixed=width)), weight=shift, kernel=2)
        lower(b, m.norm, width, f"{path}.hidden_norm", before, Target(before))
        linear(b, joined, Linear(f"{path}.join", width), Target(x))
        layer(b, m.layer, width, f"{path}.layer", x)
        lower(b, m.norm, width, f"{path}.final_norm", x, Target(y))
