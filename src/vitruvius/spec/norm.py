"""Normalisation over the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import Size, Spec, Weight, vector, width_axis


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Spec):
    """w · (x − mean) / √(var + eps) + b. Ba et al. 2016, arXiv 1607.06450."""

    eps: float = 1e-5
    bias: bool = True

    def weights(self, width: int) -> dict[str, Weight]:
        weights = {"weight": vector(width_axis(width), initial=1.0)}
        if self.bias:
            weights["bias"] = vector(width_axis(width), initial=0.0)
        return weights


@dataclass(frozen=True, kw_only=True)
class RMSNorm(Spec):
    """(offset + w) · x / √(mean(x²) + eps). Zhang and Sennrich 2019, arXiv 1910.07467.

    Gemma stores w − 1, so its `offset` is 1; elsewhere it is 0.
    """

    eps: float = 1e-6
    offset: float = 0.0

    def weights(self, width: int) -> dict[str, Weight]:
        return {"weight": vector(width_axis(width), initial=1.0 - self.offset)}


@dataclass(frozen=True, kw_only=True)
class WeightlessNorm(Spec):
    """x / √(mean(x²) + eps)."""

    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class UnitNorm(Spec):
    """w · x / √(Σx² + width · eps): a vector of length 1, weighed (what Gemma 4's router scores)."""

    eps: float

    def weights(self, width: int) -> dict[str, Weight]:
        return {"weight": vector(width_axis(width), initial=1.0)}


@dataclass(frozen=True, kw_only=True)
class GatedNorm(Spec):
    """RMSNorm of an output that a gate z scales: w · norm(x) · act(z) (Yang et al. 2024, arXiv 2412.06464), or with
    `gate_first` w · norm(x · act(z)) (Mamba-2, arXiv 2405.21060, figure 6). `groups` of channels are normed apart.
    """

    eps: float
    act: Literal["silu", "sigmoid"] = "silu"
    gate_first: bool = False
    groups: Size = 1

    def weights(self, width: int) -> dict[str, Weight]:
        return {"weight": vector(width_axis(width), initial=1.0)}
