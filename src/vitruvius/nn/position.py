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


def rotation(rope: spec.RoPE, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """For positions (…, T), what each of the first `dim` channels and its partner are multiplied by, (…, 1, T, dim):
    cosines, and sines that are negative for the first of a pair."""
    angles = positions[..., None, :, None].float() * frequencies(rope, positions.device)
    scale = rope.scaling.attention_factor if isinstance(rope.scaling, spec.YaRN) else 1.0
    cos, sin = angles.cos() * scale, angles.sin() * scale
    if rope.interleaved:
        return torch.stack((cos, cos), -1).flatten(-2).to(dtype), torch.stack((-sin, sin), -1).flatten(-2).to(dtype)
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(rope: spec.RoPE, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair of the first `dim` channels by its angle: x · cos + partner · sin; x (B, heads, T, D) -> the
    same."""
    cos, sin = table
    whole = rope.dim == x.shape[-1]
    turned = x if whole else x[..., : rope.dim]
    if rope.interleaved:
        partner = turned.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    else:
        partner = torch.cat(turned.chunk(2, -1)[::-1], -1)
    turned = torch.addcmul(turned * cos, partner, sin)
    return turned if whole else torch.cat((turned, x[..., rope.dim :]), -1)
