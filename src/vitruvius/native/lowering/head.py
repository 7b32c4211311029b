"""Lowerings of spec/head.py."""

from __future__ import annotations

from ... import spec
from ..plan import Buffer, Builder, Target
from .base import Linear, linear, lowers


@lowers(spec.Head)
def head(b: Builder, s: spec.Head, width: int, path: str, x: Buffer, to: Target) -> None:
    """softcap(scale · (x Wᵀ + b))."""
    linear(b, x, Linear(path, s.vocab, s.bias), to.times(s.scale), role="head")
    if s.softcap is not None:
        b.op("pointwise", kind="softcap", a=to.y, y=to.y, scale=1.0, cap=s.softcap)


@lowers(spec.Classifier)
def classifier(b: Builder, s: spec.Classifier, width: int, path: str, x: Buffer, to: Target) -> None:
    """x Wᵀ + b."""
    linear(b, x, Linear(path, s.labels, s.bias), to, role="head")
