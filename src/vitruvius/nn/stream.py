"""Twins of spec/stream.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .call import Call
from .feedforward import ACTIVATIONS
from .twin import Twin, twin

Inside = Callable[[Tensor, Call], Tensor]  # the branches of the layer that something is around


@twin(spec.PerLayerTable)
class PerLayerTable(Twin[spec.PerLayerTable]):
    """Looks rows up."""

    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, layers, dim)."""
        known = torch.where(ids < self.spec.vocab, ids, 0)
        return F.embedding(known, self.weight).unflatten(-1, (self.spec.layers, self.spec.dim))


@twin(spec.PerLayerEmbedding)
class PerLayerEmbedding(Twin[spec.PerLayerEmbedding]):
    """(norm(projection(x) / √W) + √dim · table[token]) / √2."""

    table: PerLayerTable
    projection: nn.Linear
    norm: nn.Module

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        """ids (B, T) and their embeddings x (B, T, W) -> an input for each layer (B, T, layers, dim)."""
        dim = self.spec.table.dim
        of_context = self.norm((self.projection(x) * self.width**-0.5).unflatten(-1, (-1, dim)))
        return (of_context + self.table(ids) * dim**0.5) * 0.5**0.5


@twin(spec.PerLayerInput)
class PerLayerInput(Twin[spec.PerLayerInput]):
    """norm(projection(act(gate(x)) · e))."""

    gate: nn.Linear
    projection: nn.Linear
    norm: nn.Module

    takes_call: ClassVar[bool] = True

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        assert call.layer_input is not None, "the model's embedding gives one to every layer"
        e = call.layer_input
        return self.norm(self.projection(ACTIVATIONS[self.spec.act](self.gate(x)) * e))


@twin(spec.Laurel)
class Laurel(Twin[spec.Laurel]):
    """x + norm(right(left(x)))."""

    left: nn.Linear
    right: nn.Linear
    norm: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return x + self.norm(self.right(self.left(x)))


@twin(spec.AltUp)
class AltUp(Twin[spec.AltUp]):
    """Predicts all streams, runs the layer on one, corrects all by what it gives."""

    norm: nn.Module
    router: nn.Linear
    predict: nn.Linear
    correct: nn.Linear
    scale: Tensor
    inject: PerLayerInput

    def forward(self, x: Tensor, call: Call, inside: Inside) -> Tensor:
        """Streams (n, B, T, W) -> (n, B, T, W)."""
        s = self.spec
        predicted = self.predicted(x)
        corrected = self.corrected(predicted, inside(predicted[s.active], call))
        active = corrected[s.active] * self.scale if s.scaled else corrected[s.active]
        return torch.cat((corrected[:1], corrected[1:] + self.inject(active, call)))

    def predicted(self, x: Tensor) -> Tensor:
        """xᵢ + Σⱼ pᵢⱼ xⱼ, with p linear in what the active stream is like."""
        n = self.spec.streams
        p = self.predict(self.modalities(x[self.spec.active])).unflatten(-1, (n, n)).movedim((-2, -1), (0, 1))
        y = x
        for j in range(n):
            y = y + p[:, j, ..., None] * x[j]
        return y

    def corrected(self, predicted: Tensor, output: Tensor) -> Tensor:
        """xᵢ + (1 + cᵢ) (output − x_active), with c linear in what the output is like."""
        c = 1 + self.correct(self.modalities(output)).movedim(-1, 0)[..., None]
        return predicted + c * (output - predicted[self.spec.active])

    def modalities(self, x: Tensor) -> Tensor:
        """tanh(router(norm(x) / W)): (B, T, W) -> (B, T, n)."""
        return torch.tanh(self.router(self.norm(x) / self.width).float()).to(x.dtype)


@twin(spec.AltUpEnds)
class AltUpEnds(Twin[spec.AltUpEnds]):
    """Where one stream becomes several and several one."""

    spread: nn.ModuleList
    merge: nn.ModuleList

    def widen(self, x: Tensor) -> Tensor:
        """(B, T, W) -> streams (n, B, T, W)."""
        return torch.stack([x, *(as_large_as(x, projection(x)) for projection in self.spread)])

    def narrow(self, x: Tensor) -> Tensor:
        """Streams (n, B, T, W) -> (B, T, W)."""
        first, *others = x
        back = [as_large_as(first, projection(y)) for projection, y in zip(self.merge, others, strict=True)]
        return torch.stack([first, *back]).mean(0)


def as_large_as(x: Tensor, y: Tensor) -> Tensor:
    """y with the root mean square of x."""
    wanted, given = (z.float().square().mean(-1, keepdim=True) for z in (x, y))
    return (y * (wanted / given.clamp(min=1e-5)).sqrt()).to(y.dtype)


@twin(spec.LayerScalar)
class LayerScalar(Twin[spec.LayerScalar]):
    """Scales what the layer leaves."""

    scalar: Tensor

    def forward(self, x: Tensor, call: Call, inside: Inside) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        return inside(x, call) * self.scalar
