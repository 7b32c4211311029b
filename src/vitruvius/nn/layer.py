"""Twins of spec/layer.py, and what layers hand to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import spec
from .call import Call
from .stream import Residual
from .twin import Twin, twin

YIELDED = frozenset(("routing", "index_scores"))  # what a pass can yield besides logits


@twin(spec.Scale)
class Scale(Twin[spec.Scale]):
    """factor · x."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return self.spec.factor * x


@twin(spec.Branch)
class Branch(Twin[spec.Branch]):
    """x ← skip · x + scale · post(body(pre(x)))."""

    pre: nn.Module
    body: Twin[Any]
    post: nn.Module

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        return times(x, self.spec.skip) + self.added(x, call)

    def added(self, x: Tensor, call: Call) -> Tensor:
        """What the branch adds to its stream: scale · post(body(pre(x)))."""
        s = self.spec
        y = self.pre(x) if s.pre else x
        y = self.body(y, call) if self.body.takes_call else self.body(y)
        y = self.post(y) if s.post else y
        return times(y, s.scale)


def times(x: Tensor, factor: float) -> Tensor:
    """factor · x."""
    return x if factor == 1.0 else factor * x


@twin(spec.Parallel)
class Parallel(Twin[spec.Parallel]):
    """Σ scale · post(body(pre(x)))."""

    takes_call: ClassVar[bool] = True

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        y = torch.zeros_like(x)
        for branch in self.children():
            assert isinstance(branch, Branch)
            y = y + branch.added(x, call)
        return y


@twin(spec.Layer)
class Layer(Twin[spec.Layer]):
    """One branch after the other, on one plain stream or on what the residual around them gives."""

    around: Residual[Any]

    def forward(
        self,
        x: Tensor,
        call: Call,
        given: Mapping[spec.Edge, Any] | None = None,
        wanted: frozenset[str] = frozenset(),
        layer_input: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """x (B, T, W), or several such streams (n, B, T, W) -> the same, and what later layers want of it.

        Args:
            given: what it reads of earlier layers.
            wanted: the kinds of results that later layers read of it.
            layer_input: (B, T, channels), where layers have an input of their own.
        """
        call = replace(call, given=given or {}, wanted=wanted, layer_input=layer_input, gives={})
        x, rest = self.around.read(x) if self.spec.around else (x, None)
        for branch in self.spec.branches:
            x = getattr(self, branch.name)(x, call)
        return (self.around.join(x, rest, call) if self.spec.around else x), call.gives


@dataclass(frozen=True)
class Edges:
    """What the layers of a stack read of each other.

    Args:
        read: by each layer.
        wanted: of each layer, the kinds of results.
        over: after each layer, what no later one reads.
    """

    read: tuple[tuple[spec.Edge, ...], ...]
    wanted: tuple[frozenset[str], ...]
    over: tuple[tuple[spec.Edge, ...], ...]

    @staticmethod
    def of(layers: tuple[spec.Layer, ...], width: int) -> Edges:
        """Those that the layers declare."""
        read = tuple(tuple(edge for node in spec.walk(layer, width) for edge in node.spec.edges()) for layer in layers)
        last = {edge: i for i, edges in enumerate(read) for edge in edges}
        return Edges(
            read,
            tuple(frozenset(edge.kind for edge in last if edge.layer == i) for i in range(len(layers))),
            tuple(tuple(edge for edge, reader in last.items() if reader == i) for i in range(len(layers))),
        )

    def run(
        self,
        layers: Iterable[nn.Module],
        x: Tensor,
        call: Call,
        layer_inputs: Tensor | None = None,
        seen: list[Tensor] | None = None,
        yielded: dict[int, dict[str, Any]] | None = None,
    ) -> Tensor:
        """x (B, T, W), or several streams, through the layers. Each is handed what it reads, and what nobody reads any
        more is let go.

        Args:
            layer_inputs: (B, T, layers, channels), where layers have an input of their own.
            seen: gets the stream before the first layer and after each.
            yielded: gets what each layer yields besides.
        """
        left: dict[spec.Edge, Any] = {}
        for i, layer in enumerate(layers):
            if seen is not None:
                seen.append(x)
            given = {edge: left[edge] for edge in self.read[i]}
            own = None if layer_inputs is None else layer_inputs[..., i, :]
            x, gives = layer(x, call, given, self.wanted[i] if yielded is None else self.wanted[i] | YIELDED, own)
            if yielded is not None:
                yielded[i] = {kind: gives.pop(kind) for kind in YIELDED & gives.keys()}
            left |= {spec.Edge(kind, i): value for kind, value in gives.items()}
            for edge in self.over[i]:
                del left[edge]
        if seen is not None:
            seen.append(x)
        return x
