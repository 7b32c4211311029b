"""Twins of spec/position.py: rotary tables and their use."""

from __future__ import annotations

from functools import lru_cache

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


def frequencies(rope: spec.RoPE, device: torch.device) -> Tensor:
    """Radians per position of each pair of channels, (dim / 2)."""
    return torch.tensor(rope.frequencies(), device=device)


_known = lru_cache(maxsize=64)(frequencies)


def rotation(rope: spec.RoPE, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """For positions (B, T), or (A, B, T) on several axes, what each of the first `dim` channels and its partner are
    multiplied by, (B, 1, T, dim): cosines, and sines that are negative for the first of a pair."""
    radians = (frequencies if torch.compiler.is_compiling() else _known)(rope, positions.device)
    if positions.ndim == 3:
        chosen = list(rope.sections.axes()) if rope.sections else [0]
        turns = positions[chosen].movedim(0, -1)[:, None].float()
    else:
        turns = positions[:, None, :, None].float()
    angles = turns * radians
    cos, sin = angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor
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
