"""Twins of spec/encoder.py."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .twin import Twin, twin


@twin(spec.RelativeBias)
class RelativeBias(Twin[spec.RelativeBias]):
    """A number for each head and distance."""

    weight: Tensor

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions of queries (B or 1, T) and keys (B or 1, S) -> what is added to their scores (B or 1, H, T, S)."""
        return F.embedding(self.bucket(keys[:, None, :] - queries[:, :, None]), self.weight).permute(0, 3, 1, 2)

    def bucket(self, distance: Tensor) -> Tensor:
        """The row for each distance, positive where the key comes after the query."""
        s, exact = self.spec, self.spec.exact
        rows = s.buckets // 2 if s.bidirectional else s.buckets  # of one direction
        later = (distance > 0).long() * rows if s.bidirectional else 0
        far = distance.abs() if s.bidirectional else -distance.clamp(max=0)
        # in float32 and in this order, as T5 has it: another rounding would move distances to the next row
        steps = torch.log(far.clamp(min=exact).float() / exact) / log(s.max_distance / exact) * (rows - exact)
        return later + torch.where(far < exact, far, (exact + steps.long()).clamp(max=rows - 1))


@twin(spec.EncoderKeyValue)
class EncoderKeyValue(Twin[spec.EncoderKeyValue]):
    """Keys and values of the encoder's output."""

    k: nn.Linear
    v: nn.Linear

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, S, W) -> k (B, G, S, D) and v (B, G, S, Dᵥ)."""
        k, v = (part.unflatten(-1, (self.spec.heads, -1)).transpose(1, 2) for part in (self.k(x), self.v(x)))
        return k, v
