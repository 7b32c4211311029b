"""Lowerings of spec/norm.py."""

from __future__ import annotations

from ... import spec
from ..plan import Buffer, Builder, Floats, Target
from .base import lowers


@lowers(spec.LayerNorm)
def layer_norm(b: Builder, s: spec.LayerNorm, width: int, path: str, x: Buffer, to: Target) -> None:
    """Over groups of `width` channels."""
    bias = b.vector(width, f"{path}.bias") if s.bias else None
    b.into("norm", to, x=x, kind="layer", weight=b.vector(width, f"{path}.weight"), bias=bias, eps=s.eps, group=width)


@lowers(spec.RMSNorm)
def rms_norm(b: Builder, s: spec.RMSNorm, width: int, path: str, x: Buffer, to: Target) -> None:
    """Over groups of `width` channels."""

    def weight(stored: Floats) -> Floats:
        return stored + stored.dtype.type(s.offset)

    vector = b.vector(width, f"{path}.weight", weight, key=s.offset)
    b.into("norm", to, x=x, kind="rms", weight=vector, eps=s.eps, group=width)


@lowers(spec.WeightlessNorm)
def weightless_norm(b: Builder, s: spec.WeightlessNorm, width: int, path: str, x: Buffer, to: Target) -> None:
    """Over groups of `width` channels."""
    b.into("norm", to, x=x, kind="rms", eps=s.eps, group=width)


@lowers(spec.UnitNorm)
def unit_norm(b: Builder, s: spec.UnitNorm, width: int, path: str, x: Buffer, to: Target) -> None:
    """Over groups of `width` channels."""
    b.into("norm", to, x=x, kind="unit", weight=b.vector(width, f"{path}.weight"), eps=s.eps, group=width)


def gated_norm(b: Builder, s: spec.GatedNorm, width: int, path: str, x: Buffer, z: Buffer) -> None:
    """x, in place, normed and gated by z; the norm is for groups of `width` channels."""
    weight = b.vector(width, f"{path}.weight")
    group = width // s.groups
    b.op("gated_norm", x=x, z=z, y=x, weight=weight, act=s.act, gate_first=s.gate_first, eps=s.eps, group=group)
