"""Twins of spec/norm.py."""

from __future__ import annotations

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
        weight = self.weight if self.spec.offset == 0 else self.spec.offset + self.weight.float()
        return F.rms_norm(x.float(), x.shape[-1:], weight.float(), self.spec.eps).to(x.dtype)
