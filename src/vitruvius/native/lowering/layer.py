"""Lowerings of spec/layer.py."""

from __future__ import annotations

from dataclasses import replace

from ... import spec
from ..plan import Buffer, Builder, Target
from .base import add, lower, lowers, surrounding, times


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
