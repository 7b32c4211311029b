"""Differential attention in the operations that the native engine has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitruvius.native.lowering import (
    Buffer,
    Builder,
    Linear,
    StateLayout,
    Target,
    linear,
    lower,
    lowers,
    project,
    rotate,
)

from .spec import DifferentialAttention


@lowers(DifferentialAttention)
def differential_attention(b: Builder, s: DifferentialAttention, width: int, path: str, x: Buffer, to: Target) -> None:
    """Both keys of a head lie side by side in one state. Each softmax has queries that are zero where the other's key
    is, so the values are kept once."""
    pair = 2 * s.head_dim
    with b.scope():
        q, k, v = project(
            b,
            x,
            Linear(f"{path}.q", s.heads * pair),
            Linear(f"{path}.k", s.kv_heads * pair),
            Linear(f"{path}.v", s.kv_heads * pair),
        )
        if s.positions:
            rotate(b, s.positions, q, 2 * s.heads, s.head_dim)
            rotate(b, s.positions, k, 2 * s.kv_heads, s.head_dim)
        state = b.state(StateLayout(s.kv_heads, pair, pair, window=s.mask.window or 0))
        b.op("keep", k=k, v=v, state=state)
        y1, y2 = (_attend(b, s, q, half, state) for half in (0, 1))
        b.op("pointwise", kind="vector", a=y2, y=y2, vector=_factor(b, s, path), scale=1.0)
        b.op("pointwise", kind="add", a=y1, b=y2, y=y1, skip=1.0, scale=-1.0)
        lower(b, s.norm, pair, f"{path}.norm", y1, Target(y1, scale=1 - s.lambda_init))
        linear(b, y1, Linear(f"{path}.o", width), to)


def _attend(b: Builder, s: DifferentialAttention, q: Buffer, half: int, state: int) -> Buffer:
    """softmax(qᵢ kᵢᵀ) v, for one half of the queries."""
    start, pair = half * s.head_dim, 2 * s.head_dim
    alone, y = b.buffer(q.width), b.buffer(q.width)
    b.op("pointwise", kind="act", a=q, y=alone, scale=0.0)
    own, place = q.columns(start, q.width - start), alone.columns(start, q.width - start)
    b.op("copy", x=own, y=place, heads=s.heads, x_step=pair, y_step=pair, width=s.head_dim)
    mask = "window" if s.mask.window else "causal"
    size, first = s.mask.window or 0, b.shared.get("first", 0)
    scale = s.head_dim**-0.5
    b.op("attend", q=alone, y=y, state=state, heads=s.heads, scale=scale, mask=mask, size=size, first=first)
    return y


def _factor(b: Builder, s: DifferentialAttention, path: str) -> int:
    """λ, for each channel of a head."""

    def make(
        q1: NDArray[np.float32], k1: NDArray[np.float32], q2: NDArray[np.float32], k2: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        factor = np.exp(q1 @ k1) - np.exp(q2 @ k2) + s.lambda_init
        return np.full(2 * s.head_dim, factor, np.float32)

    names = tuple(f"{path}.lambda_{name}" for name in ("q1", "k1", "q2", "k2"))
    return b.vector(2 * s.head_dim, names, make, key=s.lambda_init)
