"""Twins of spec/norm.py."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import spec
from .twin import Twin, twin


@twin(spec.LayerNorm)
class LayerNorm(Twin[spec.LayerNorm]):
    """w · (x − mean) / √(var + eps) + b."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        bias = self.bias if self.spec.bias else None
        return F.layer_norm(x, x.shape[-1:], self.weight, bias, self.spec.eps)


@twin(spec.RMSNorm)
class RMSNorm(Twin[spec.RMSNorm]):
    """(offset + w) · x / √(mean(x²) + eps), in float32."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        y, weight = x.float(), self.weight.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.spec.eps)
        return (y * (weight if self.spec.offset == 0 else self.spec.offset + weight)).to(x.dtype)


@twin(spec.WeightlessNorm)
class WeightlessNorm(Twin[spec.WeightlessNorm]):
    """x / √(mean(x²) + eps), in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        return F.rms_norm(x.float(), x.shape[-1:], None, self.spec.eps).to(x.dtype)


@twin(spec.UnitNorm)
class UnitNorm(Twin[spec.UnitNorm]):
    """w · x / √(Σx² + width · eps), in float32."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        y = F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.spec.eps)
        return (y * x.shape[-1] ** -0.5).to(x.dtype)


@twin(spec.GatedNorm)
class GatedNorm(Twin[spec.GatedNorm]):
    """w · norm(x) · act(z), or w · norm(x · act(z)), in float32."""

    weight: Tensor

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x and its gate z (…, width) -> (…, width)."""
        s, y = self.spec, x.float()
        gate = F.silu(z.float()) if s.act == "silu" else z.float().sigmoid()
        if s.gate_first:
            y = y * gate
        grouped = y.unflatten(-1, (s.groups, -1))
        y = self.weight.float() * F.rms_norm(grouped, grouped.shape[-1:], None, s.eps).flatten(-2)
        return (y if s.gate_first else y * gate).to(x.dtype)
