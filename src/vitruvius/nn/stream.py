"""Twins of spec/stream.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .call import Call
from .feedforward import ACTIVATIONS
from .twin import Twin, twin

R = TypeVar("R", bound=spec.Residual)
E = TypeVar("E", bound=spec.Ends)


class Residual(Twin[R], ABC):
    """How a layer meets the residual, where that is not one plain stream: (n, B, T, W), or (B, T, W) where n is 1."""

    @abstractmethod
    def read(self, x: Tensor) -> tuple[Tensor, Any]:
        """The residual -> what the branches work on, (B, T, W), and what `join` needs to know."""

    @abstractmethod
    def join(self, y: Tensor, rest: Any, call: Call) -> Tensor:
        """What the branches make of it, (B, T, W), and what `read` gave besides -> the residual after the layer."""


class Ends(Twin[E], ABC):
    """Where one stream becomes several and several one."""

    @abstractmethod
    def widen(self, x: Tensor) -> Tensor:
        """(B, T, W) -> streams (n, B, T, W)."""

    @abstractmethod
    def narrow(self, x: Tensor) -> Tensor:
        """Streams (n, B, T, W) -> (B, T, W)."""


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
class AltUp(Residual[spec.AltUp]):
    """Predicts all streams, runs the layer on one, corrects all by what it gives."""

    norm: nn.Module
    router: nn.Linear
    predict: nn.Linear
    correct: nn.Linear
    scale: Tensor
    inject: PerLayerInput

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The active one of the predictions x̂ᵢ = xᵢ + Σⱼ pᵢⱼ xⱼ, with p linear in what the active stream is like; and
        all of them."""
        n = self.spec.streams
        p = self.predict(self.modalities(x[self.spec.active])).unflatten(-1, (n, n)).movedim((-2, -1), (0, 1))
        predicted = x
        for j in range(n):
            predicted = predicted + p[:, j, ..., None] * x[j]
        return predicted[self.spec.active], predicted

    def join(self, y: Tensor, rest: Tensor, call: Call) -> Tensor:
        """xᵢ ← x̂ᵢ + (1 + cᵢ) (y − x̂_active), with c linear in what y is like; then the per-layer input of the active
        stream to all but the first."""
        s, predicted = self.spec, rest
        c = 1 + self.correct(self.modalities(y)).movedim(-1, 0)[..., None]
        x = predicted + c * (y - predicted[s.active])
        active = x[s.active] * self.scale if s.scaled else x[s.active]
        return torch.cat((x[:1], x[1:] + self.inject(active, call)))

    def modalities(self, x: Tensor) -> Tensor:
        """tanh(router(norm(x) / W)): (B, T, W) -> (B, T, n)."""
        return torch.tanh(self.router(self.norm(x) / self.width).float()).to(x.dtype)


@twin(spec.AltUpEnds)
class AltUpEnds(Ends[spec.AltUpEnds]):
    """Projections, each as large as the first stream."""

    spread: nn.ModuleList
    merge: nn.ModuleList

    def widen(self, x: Tensor) -> Tensor:
        """x₀ = x, xᵢ = Wᵢ x · rms(x) / rms(Wᵢ x)."""
        return torch.stack([x, *(as_large_as(x, projection(x)) for projection in self.spread)])

    def narrow(self, x: Tensor) -> Tensor:
        """The mean of x₀ and Vᵢ xᵢ · rms(x₀) / rms(Vᵢ xᵢ)."""
        first, *others = x
        back = [as_large_as(first, projection(y)) for projection, y in zip(self.merge, others, strict=True)]
        return torch.stack([first, *back]).mean(0)


def as_large_as(x: Tensor, y: Tensor) -> Tensor:
    """y with the root mean square of x."""
    wanted, given = (z.float().square().mean(-1, keepdim=True) for z in (x, y))
    return (y * (wanted / given.clamp(min=1e-5)).sqrt()).to(y.dtype)


@twin(spec.LayerScalar)
class LayerScalar(Residual[spec.LayerScalar]):
    """Scales what the layer leaves."""

    scalar: Tensor

    def read(self, x: Tensor) -> tuple[Tensor, None]:
        """x itself."""
        return x, None

    def join(self, y: Tensor, rest: None, call: Call) -> Tensor:
        """x ← s · y."""
        return y * self.scalar
