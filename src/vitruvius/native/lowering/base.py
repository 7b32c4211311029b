"""From a part of the spec to operations: the table of parts, and what their lowerings share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from ...errors import NotLoweredError
from ...spec import Spec
from ...spec.registry import Registry
from ..plan import PANEL, Buffer, Builder, Floats, RowBlock, Target

# (builder, part, width of its stream, canonical path, input, where the result goes)
Lowering = Callable[[Builder, Any, int, str, Buffer, Target], None]
L = TypeVar("L", bound=Lowering)

LOWERINGS: Registry[type[Spec], Lowering] = Registry("vitruvius.lowerings")

# (builder, part, width of one stream, canonical path, all streams): gives what is inside something to work on in place
Surrounding = Callable[[Builder, Any, int, str, Buffer], Iterator[Buffer]]
SURROUNDINGS: dict[type[Spec], Surrounding] = {}


def lowers(kind: type[Spec]) -> Callable[[L], L]:
    """Registers the function that lowers `kind`."""

    def register(function: L) -> L:
        LOWERINGS[kind] = function
        return function

    return register


def surrounds(kind: type[Spec]) -> Callable[[Surrounding], Surrounding]:
    """Registers the function that lowers `kind`, which is around others: it reads, yields, and joins; or it widens,
    yields, and narrows."""

    def register(function: Surrounding) -> Surrounding:
        SURROUNDINGS[kind] = function
        return function

    return register


def surrounding(b: Builder, part: Spec | None, width: int, path: str, x: Buffer) -> AbstractContextManager[Buffer]:
    """Where what is inside `part` is lowered; it works on x itself where there is none. Raises NotLoweredError for a
    part that has no native form yet."""
    if part is None:
        return nullcontext(x)
    if type(part) not in SURROUNDINGS:
        raise not_lowered(part, path)
    return contextmanager(SURROUNDINGS[type(part)])(b, part, width, path, x)


def lower(b: Builder, part: Spec, width: int, path: str, x: Buffer, to: Target) -> None:
    """The operations of a part. Raises NotLoweredError for one that has no native form yet."""
    lowering = LOWERINGS.find(type(part))
    if lowering is None:
        raise not_lowered(part, path)
    lowering(b, part, width, path, x, to)


def not_lowered(part: Spec, path: str) -> NotLoweredError:
    """The error to raise for a part that only PyTorch can run."""
    return NotLoweredError(f"{type(part).__name__} ({path}) has no native form yet")


def layer_of(path: str) -> int:
    """The number in "layers.7.mixer.body"; −1 elsewhere."""
    group, _, rest = path.partition(".")
    return int(rest.partition(".")[0]) if group == "layers" else -1


@dataclass(frozen=True)
class Linear:
    """The layer y = W x + b at `path`, with so many rows."""

    path: str
    rows: int
    bias: bool = False

    @property
    def weight(self) -> str:
        """The canonical name of W."""
        return f"{self.path}.weight"


def linear(b: Builder, x: Buffer, layer: Linear, to: Target, act: str = "none", role: str = "matmul") -> None:
    """act(W x + b), where `to` says."""
    _stacked(b, x, [layer], to, act, role)


def project(b: Builder, x: Buffer, *layers: Linear) -> tuple[Buffer, ...]:
    """W x + b of several layers side by side, in one product where they are stored alike."""
    whole = b.buffer(sum(layer.rows for layer in layers))
    start = 0
    for group in _alike(b, layers):
        rows = sum(layer.rows for layer in group)
        _stacked(b, x, group, Target(whole.columns(start, rows)))
        start += rows
    return whole.cut(*(layer.rows for layer in layers))


def _alike(b: Builder, layers: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Neighbours of the same format."""
    for _, group in groupby(layers, lambda layer: b.format_of(layer.weight, "matmul")):
        yield list(group)


def _stacked(
    b: Builder, x: Buffer, layers: Sequence[Linear], to: Target, act: str = "none", role: str = "matmul"
) -> None:
    """Layers of one input as one matrix."""
    starts = [sum(layer.rows for layer in layers[:i]) for i in range(len(layers))]
    pieces = [RowBlock(layer.weight, start, layer.rows) for layer, start in zip(layers, starts, strict=True)]
    rows = sum(layer.rows for layer in layers)
    matrix = b.matrix(pieces, rows, x.width, role=role)
    b.into("matmul", to, x=x, matrix=matrix, bias=_biases(b, layers, starts, rows), act=act)


def _biases(b: Builder, layers: Sequence[Linear], starts: Sequence[int], rows: int) -> int | None:
    """The biases side by side, zeros where there are none."""
    names = tuple(f"{layer.path}.bias" for layer in layers if layer.bias)
    places = tuple(start for layer, start in zip(layers, starts, strict=True) if layer.bias)
    if not names:
        return None

    def make(*values: Floats) -> Floats:
        whole = np.zeros(rows, np.float32)
        for place, value in zip(places, values, strict=True):
            whole[place : place + value.size] = value
        return whole

    return b.vector(rows, names, make, key=places)


def alternating(gate: Floats, up: Floats) -> Floats:
    """Biases (…, dim) of gate and up as the panels of their common matrix lie: 16 of the one, 16 of the other."""
    missing = -gate.shape[-1] % PANEL
    parts = [np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, missing)]) for y in (gate, up)]
    return np.stack([y.reshape(*y.shape[:-1], -1, PANEL) for y in parts], -2).ravel()


def add(b: Builder, y: Buffer, to: Target) -> None:
    """y, where `to` says."""
    b.into("pointwise", to, kind="add", a=to.y, b=y)


def times(b: Builder, x: Buffer, factor: float, y: Buffer) -> None:
    """y = factor · x."""
    b.op("pointwise", kind="act", a=x, y=y, scale=factor)
