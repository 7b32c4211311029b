"""Twins of spec/encoder.py."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .twin import Twin, twin


@lru_cache(maxsize=64)
def rows(s: spec.RelativeBias, device: torch.device) -> Tensor:
    """The row of each distance from 0 to `max_distance`."""
    return torch.tensor(s.rows(), device=device)


@twin(spec.RelativeBias)
class RelativeBias(Twin[spec.RelativeBias]):
    """A number for each head and distance."""

    weight: Tensor

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions of queries (B or 1, T) and keys (B or 1, S) -> what is added to their scores (B or 1, H, T, S)."""
        return F.embedding(self.bucket(keys[:, None, :] - queries[:, :, None]), self.weight).permute(0, 3, 1, 2)

    def bucket(self, distance: Tensor) -> Tensor:
        """The row for each distance, positive where the key comes after the query."""
        s = self.spec
        later = (distance > 0).long() * (s.buckets // 2) if s.bidirectional else 0
        far = distance.abs() if s.bidirectional else -distance.clamp(max=0)
        return later + rows(s, distance.device)[far.clamp(max=s.max_distance)]


@twin(spec.EncoderKeyValue)
class EncoderKeyValue(Twin[spec.EncoderKeyValue]):
    """Keys and values of the encoder's output."""

    k: nn.Linear
    v: nn.Linear

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, S, W) -> k (B, G, S, D) and v (B, G, S, Dᵥ)."""
        k, v = (part.unflatten(-1, (self.spec.heads, -1)).transpose(1, 2) for part in (self.k(x), self.v(x)))
        return k, v
