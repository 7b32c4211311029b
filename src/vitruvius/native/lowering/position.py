"""Lowerings of spec/position.py: rotary tables and their use."""

from __future__ import annotations

from math import ceil, floor, log, pi

import numpy as np

from ... import spec
from ..plan import Buffer, Builder, Floats


def frequencies(rope: spec.RoPE) -> Floats:
    """Radians per position of each pair of channels, (dim / 2), in float32 as the reference computes them."""
    pairs = np.arange(rope.dim // 2, dtype=np.float32)
    plain = 1 / np.float32(rope.theta) ** (2 * pairs / np.float32(rope.dim))
    match rope.scaling:
        case None:
            result = plain
        case spec.LinearScaling(factor=factor):
            result = plain / factor
        case spec.Llama3Scaling() as s:
            turns = s.original_context * plain / (2 * pi)  # rotations within the original context
            smooth = ((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)).clip(0, 1)
            result = (1 - smooth) * plain / s.factor + smooth * plain
        case spec.Proportional(share=share, factor=factor):
            result = plain * (pairs < int(share * rope.dim // 2)) / factor
        case spec.YaRN() as s:
            low, high = _yarn_range(rope, s)
            ramp = ((pairs - low) / (high - low)).clip(0, 1)
            result = plain / s.factor * ramp + plain * (1 - ramp)
    return np.asarray(result, np.float32)


def _yarn_range(rope: spec.RoPE, yarn: spec.YaRN) -> tuple[float, float]:
    """The pairs of channels between which YaRN goes from keeping a frequency to interpolating it."""

    def pair(rotations: float) -> float:
        """The pair that makes this many rotations within the original context."""
        return rope.dim * log(yarn.original_context / (rotations * 2 * pi)) / (2 * log(rope.theta))

    low, high = pair(yarn.beta_fast), pair(yarn.beta_slow)
    if yarn.truncate:
        low, high = floor(low), ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    return low, high if high != low else high + 0.001


def _table(b: Builder, rope: spec.RoPE) -> Buffer:
    """The step's cosines and sines, made once for all layers that turn alike."""
    key = ("rotary", rope.theta, rope.dim, rope.scaling)
    if key not in b.shared:
        freqs = b.vector(rope.dim // 2, (), lambda: frequencies(rope), key=key)
        factor = rope.scaling.attention_factor if isinstance(rope.scaling, spec.YaRN) else 1.0
        b.shared[key] = b.lasting(rope.dim)
        b.op("rotary", y=b.shared[key], freqs=freqs, factor=factor)
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
