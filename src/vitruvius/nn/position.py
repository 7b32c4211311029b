"""Twins of spec/position.py: rotary tables and their use."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, log, pi

import torch
from torch import Tensor

from .. import spec
from .twin import Twin, twin


@twin(spec.LearnedPositions)
class LearnedPositions(Twin[spec.LearnedPositions]):
    """A vector for each absolute position."""

    weight: Tensor

    def forward(self, positions: Tensor) -> Tensor:
        """(B or 1, T) -> (B or 1, T, width)."""
        return self.weight[positions.clamp(max=self.spec.count - 1)]  # padding may lie beyond the last position


@lru_cache(maxsize=64)
def frequencies(rope: spec.RoPE, device: torch.device) -> Tensor:
    """Radians per position of each pair of channels, (dim / 2), in float32 as the reference computes them."""
    exponents = torch.arange(0, rope.dim, 2, device=device).float() / rope.dim
    plain: Tensor = 1.0 / (rope.theta**exponents)
    match rope.scaling:
        case None:
            return plain
        case spec.LinearScaling(factor=factor):
            return plain / factor
        case spec.Llama3Scaling() as s:
            turns = s.original_context * plain / (2 * pi)  # rotations within the original context
            smooth = ((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)).clamp(0, 1)
            return (1 - smooth) * plain / s.factor + smooth * plain
        case spec.Proportional(share=share, factor=factor):
            turning = torch.arange(rope.dim // 2, device=device) < int(share * rope.dim // 2)
            return plain * turning / factor
        case spec.YaRN() as s:
            low, high = _yarn_range(rope, s)
            ramp = ((torch.arange(rope.dim // 2, device=device).float() - low) / (high - low)).clamp(0, 1)
            return plain / s.factor * ramp + plain * (1 - ramp)


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


def rotation(rope: spec.RoPE, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (…, 1, T, dim / 2) for positions (…, T)."""
    angles = positions[..., None, :, None].float() * frequencies(rope, positions.device)
    scale = rope.scaling.attention_factor if isinstance(rope.scaling, spec.YaRN) else 1.0
    return angles.cos() * scale, angles.sin() * scale


def rotate(rope: spec.RoPE, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair of the first `dim` channels by its angle; x (B, heads, T, D) -> the same."""
    cos, sin = (part.to(x.dtype) for part in table)
    turned, rest = x[..., : rope.dim], x[..., rope.dim :]
    if rope.interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned
