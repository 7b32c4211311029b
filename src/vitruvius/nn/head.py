"""Twins of spec/head.py."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import spec
from .layer import times
from .twin import Twin, twin


@twin(spec.Head)
class Head(Twin[spec.Head]):
    """softcap(scale · (x Wᵀ + b))."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> logits (…, V)."""
        logits = times(F.linear(x, self.weight, self.bias if self.spec.bias else None), self.spec.scale)
        cap = self.spec.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


@twin(spec.Classifier)
class Classifier(Twin[spec.Classifier]):
    """x Wᵀ + b."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> scores (…, labels)."""
        return F.linear(x, self.weight, self.bias if self.spec.bias else None)
