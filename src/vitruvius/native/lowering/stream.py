"""Lowerings of spec/stream.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ... import spec
from ..plan import Buffer, Builder, Floats, RowBlock, Target
from .base import Linear, add, layer_of, linear, lower, lowers, surrounds


def layer_inputs(b: Builder, s: spec.PerLayerEmbedding, width: int, path: str, x: Buffer) -> None:
    """An input of its own for each layer, from the tokens and their embeddings x."""
    table = s.table
    size, half = table.layers * table.dim, 0.5**0.5
    e = b.shared["layer_inputs"] = b.lasting(size)
    linear(b, x, Linear(f"{path}.projection", size), Target(e, scale=width**-0.5))
    lower(b, s.norm, table.dim, f"{path}.norm", e, Target(e, scale=half))
    rows = b.matrix([RowBlock(f"{path}.table.weight", 0, table.vocab)], table.vocab, size, role="table")
    b.into("embed", Target(e, 1.0, half * table.dim**0.5), table=rows, known=table.vocab)


@lowers(spec.PerLayerInput)
def per_layer_input(b: Builder, s: spec.PerLayerInput, width: int, path: str, x: Buffer, to: Target) -> None:
    """norm(projection(act(gate(x)) · e))."""
    e: Buffer = b.shared["layer_inputs"].columns(layer_of(path) * s.dim, s.dim)
    with b.scope():
        inside, y = b.buffer(s.dim), b.buffer(width)
        linear(b, x, Linear(f"{path}.gate", s.dim), Target(inside), s.act)
        b.op("pointwise", kind="mul", a=inside, b=e, y=inside, scale=1.0)
        linear(b, inside, Linear(f"{path}.projection", width), Target(y))
        lower(b, s.norm, width, f"{path}.norm", y, to)


@lowers(spec.Laurel)
def laurel(b: Builder, s: spec.Laurel, width: int, path: str, x: Buffer, to: Target) -> None:
    """x + norm(right(left(x)))."""
    with b.scope():
        low, y = b.buffer(s.rank), b.buffer(width)
        linear(b, x, Linear(f"{path}.left", s.rank), Target(low))
        linear(b, low, Linear(f"{path}.right", width), Target(y))
        add(b, x, to)
        lower(b, s.norm, width, f"{path}.norm", y, Target(to.y, 1.0, to.scale))


@surrounds(spec.AltUp)
def altup(b: Builder, s: spec.AltUp, width: int, path: str, x: Buffer) -> Iterator[Buffer]:
    """Predicts all streams, which lie side by side in x; what the layer makes of the active one corrects all."""
    n = s.streams
    with b.scope():
        predicted, output = b.buffer(n * width), b.buffer(width)
        streams = predicted.cut(*[width] * n)
        p = _coefficients(b, s, width, path, "predict", x.columns(s.active * width, width), n * n)
        b.op("streams_predict", x=x, coefficients=p, y=predicted, n=n)
        b.op("copy", x=streams[s.active], y=output, heads=1, x_step=width, y_step=width, width=width)
        yield output
        c = _coefficients(b, s, width, path, "correct", output, n)
        b.op("streams_correct", x=predicted, output=output, coefficients=c, n=n, active=s.active)
        active = streams[s.active]
        if s.scaled:
            vector = b.vector(width, f"{path}.scale")
            b.op("pointwise", kind="vector", a=active, y=output, vector=vector, scale=1.0)
            active = output
        injected = b.buffer(width)
        lower(b, s.inject, width, f"{path}.inject", active, Target(injected))
        for stream in streams[1:]:
            add(b, injected, Target(stream, 1.0))
        b.op("copy", x=predicted, y=x, heads=1, x_step=x.width, y_step=x.width, width=x.width)


def _coefficients(b: Builder, s: spec.AltUp, width: int, path: str, name: str, x: Buffer, count: int) -> Buffer:
    """Linear in tanh(router(norm(x) / W))."""
    normed, modalities, coefficients = b.buffer(width), b.buffer(s.streams), b.buffer(count)
    lower(b, s.norm, width, f"{path}.norm", x, Target(normed, scale=1 / width))
    linear(b, normed, Linear(f"{path}.router", s.streams), Target(modalities), "tanh", role="router")
    linear(b, modalities, Linear(f"{path}.{name}", count), Target(coefficients), role="router")
    return coefficients


@surrounds(spec.AltUpEnds)
def altup_ends(b: Builder, s: spec.AltUpEnds, width: int, path: str, x: Buffer) -> Iterator[Buffer]:
    """The first of the streams x becomes all of them, and these one again, in its place."""
    first, *others = x.cut(*[width] * s.streams)
    for i, stream in enumerate(others):
        linear(b, first, Linear(f"{path}.spread.{i}", width), Target(stream))
        b.op("streams_match", x=first, y=stream)
    yield x
    with b.scope():
        back = b.buffer(s.streams * width)
        first, *others = back.cut(*[width] * s.streams)
        b.op("copy", x=x.columns(0, width), y=first, heads=1, x_step=width, y_step=width, width=width)
        for i, stream in enumerate(others):
            linear(b, x.columns((i + 1) * width, width), Linear(f"{path}.merge.{i}", width), Target(stream))
            b.op("streams_match", x=first, y=stream)
        b.op("streams_mean", x=back, y=x.columns(0, width), n=s.streams)


@surrounds(spec.LayerScalar)
def layer_scalar(b: Builder, s: spec.LayerScalar, width: int, path: str, x: Buffer) -> Iterator[Buffer]:
    """The whole stream times one stored number."""
    yield x
    vector = b.vector(1, f"{path}.scalar", _number)
    b.op("pointwise", kind="vector", a=x, y=x, vector=vector, scale=1.0)


def _number(scalar: Floats) -> Floats:
    return np.ravel(scalar)
