"""Lowerings of spec/decoder.py."""

from __future__ import annotations

from ... import spec
from ..plan import Buffer, Builder, RowBlock, Target
from .base import lower, not_lowered, surrounding
from .layer import layer
from .stream import layer_inputs


def embed(b: Builder, s: spec.Decoder, y: Buffer) -> None:
    """The tokens' rows, scaled."""
    name, role = ("head.weight", "head") if s.embedding.tied else ("embedding.weight", "table")
    table = b.matrix([RowBlock(name, 0, s.embedding.vocab)], s.embedding.vocab, s.width, role=role)
    b.into("embed", Target(y, scale=s.embedding.scale), table=table)


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
    """The model: logits of the wanted rows, scores of labels, or without a head the hidden states."""
    x = trunk(b, s)
    with b.scope():
        last, output = b.buffer(s.width), b.output(s.output_width)
        b.op("select", x=x, y=last)
        if s.head is None:
            lower(b, s.final_norm, s.width, "final_norm", last, Target(output))
            return
        lower(b, s.final_norm, s.width, "final_norm", last, Target(last))
        lower(b, s.head, s.width, "head", last, Target(output))
