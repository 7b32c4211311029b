"""Lowerings of spec/decoder.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ... import spec
from ..plan import Buffer, Builder, RowBlock, StateLayout, Target
from .base import Linear, add, linear, lower, lowers, not_lowered, surrounding, times
from .stream import layer_inputs


@lowers(spec.Scale)
def scale(b: Builder, s: spec.Scale, width: int, path: str, x: Buffer, to: Target) -> None:
    """factor · x."""
    times(b, x, s.factor, to.y) if to == Target(to.y) else add(b, x, to.times(s.factor))


@lowers(spec.Branch)
def branch(b: Builder, s: spec.Branch, width: int, path: str, x: Buffer, to: Target) -> None:
    """scale · post(body(pre(x))); what is skipped is in the target."""
    to = to.times(s.scale)
    with b.scope():
        inside = x
        if s.pre:
            inside = b.buffer(width)
            lower(b, s.pre, width, f"{path}.pre", x, Target(inside))
        if s.post is None and inside != to.y:
            lower(b, s.body, width, f"{path}.body", inside, to)
            return
        result = b.buffer(width)
        lower(b, s.body, width, f"{path}.body", inside, Target(result))
        if s.post:
            lower(b, s.post, width, f"{path}.post", result, to)
        else:
            add(b, result, to)


@lowers(spec.Parallel)
def parallel(b: Builder, s: spec.Parallel, width: int, path: str, x: Buffer, to: Target) -> None:
    """Σ scale · post(body(pre(x)))."""
    assert x != to.y, "all branches see the same input"
    for part in s.branches:
        lower(b, part, width, f"{path}.{part.name}", x, to)
        to = replace(to, skip=1.0)


def layer(b: Builder, s: spec.Layer, width: int, path: str, x: Buffer) -> None:
    """One branch after the other and what is around them, in place."""
    with surrounding(b, s.around, width, f"{path}.around", x) as stream:
        for part in s.branches:
            lower(b, part, width, f"{path}.{part.name}", stream, Target(stream, part.skip))


def embed(b: Builder, s: spec.Decoder, y: Buffer) -> None:
    """The tokens' rows, scaled."""
    name, role = ("head.weight", "head") if s.embedding.tied else ("embedding.weight", "table")
    table = b.matrix([RowBlock(name, 0, s.embedding.vocab)], s.embedding.vocab, s.width, role=role)
    b.into("embed", Target(y, scale=s.embedding.scale), table=table)


def head(b: Builder, s: spec.Decoder, x: Buffer, logits: Buffer) -> None:
    """softcap(scale · x Wᵀ)."""
    vocab, cap = s.head.vocab, s.head.softcap
    matrix = b.matrix([RowBlock("head.weight", 0, vocab)], vocab, s.width, role="head")
    b.into("matmul", Target(logits, scale=s.head.scale), x=x, matrix=matrix)
    if cap is not None:
        b.op("pointwise", kind="softcap", a=logits, y=logits, scale=1.0, cap=cap)


def trunk(b: Builder, s: spec.Decoder) -> Buffer:
    """All layers: the residual stream before the final norm."""
    if s.encoder:
        raise not_lowered(s.encoder, "encoder")
    x = b.lasting(s.streams * s.width)
    first = x.columns(0, s.width)
    embed(b, s, first)
    if s.embedding.per_layer:
        layer_inputs(b, s.embedding.per_layer, s.width, "embedding.per_layer", first)
    if s.positions:
        rows = b.matrix([RowBlock("positions.weight", 0, s.positions.count)], s.positions.count, s.width, role="table")
        b.op("learned", y=first, table=rows)
    with surrounding(b, s.ends, s.width, "ends", x) as streams:
        for i, part in enumerate(s.layers):
            layer(b, part, s.width, f"layers.{i}", streams)
    return first


def decoder(b: Builder, s: spec.Decoder) -> None:
    """The model: logits of the wanted rows."""
    x = trunk(b, s)
    with b.scope():
        last = b.buffer(s.width)
        b.op("select", x=x, y=last)
        lower(b, s.final_norm, s.width, "final_norm", last, Target(last))
        head(b, s, last, b.output(s.head.vocab))


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
    logits = b.output(len(s.mtp) * s.head.vocab)
    with b.scope():
        last = b.buffer(states.width)
        b.op("select", x=states, y=last)
        for k in range(len(s.mtp)):
            head(b, s, last.columns(k * s.width, s.width), logits.columns(k * s.head.vocab, s.head.vocab))


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
