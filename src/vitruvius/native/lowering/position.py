"""Lowerings of spec/position.py: rotary tables and their use."""

from __future__ import annotations

import numpy as np

from ... import spec
from ..plan import Buffer, Builder


def _table(b: Builder, rope: spec.RoPE) -> Buffer:
    """The step's cosines and sines, made once for all layers that turn alike."""
    key = ("rotary", rope.theta, rope.dim, rope.scaling)
    if key not in b.shared:
        freqs = b.vector(rope.dim // 2, (), lambda: np.array(rope.frequencies(), np.float32), key=key)
        b.shared[key] = b.lasting(rope.dim)
        b.op("rotary", y=b.shared[key], freqs=freqs, factor=rope.attention_factor)
    table: Buffer = b.shared[key]
    return table


def rotate(
    b: Builder, rope: spec.RoPE, x: Buffer, heads: int, step: int, y: Buffer | None = None, y_step: int = 0
) -> None:
    """Rotary positions on the first channels of each head of x, `step` apart; in place, or into y."""
    b.op(
        "rope",
        x=x,
        y=y or x,
        table=_table(b, rope),
        heads=heads,
        x_step=step,
        y_step=y_step or step,
        dim=rope.dim,
        interleaved=rope.interleaved,
    )
