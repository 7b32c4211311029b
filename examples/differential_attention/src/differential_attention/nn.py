"""The torch twin of differential attention."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vitruvius.nn import Call, Needs, Twin, twin
from vitruvius.nn.ops import Scores, attention

from . import spec


@twin(spec.DifferentialAttention)
class DifferentialAttention(Twin[spec.DifferentialAttention]):
    """o((1 − λ_init) · norm((softmax(q₁ k₁ᵀ) − λ softmax(q₂ k₂ᵀ)) v))."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    norm: nn.Module
    lambda_q1: Tensor
    lambda_k1: Tensor
    lambda_q2: Tensor
    lambda_k2: Tensor

    takes_call: ClassVar[bool] = True

    def needs(self) -> Needs:
        """Its rotary positions and mask."""
        s = self.spec
        return Needs((s.positions,) if s.positions else (), ((s.mask, s.mask.window),))

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); keys and values are kept in the call's states, if it has any."""
        s, how = self.spec, Scores(self.spec.head_dim**-0.5)
        q, k = self.turned(self.q(x), s.heads, call), self.turned(self.k(x), s.kv_heads, call)
        v = self.v(x).unflatten(-1, (s.kv_heads, -1)).transpose(1, 2)
        outputs = []
        for group, (queries, new_k, new_v) in call.split(call.groups, q, k, v):
            (keys, values), places = group.remember(self.path, s.mask.window, k=new_k, v=new_v)
            (q1, q2), (k1, k2), mask = queries.chunk(2, -1), keys.chunk(2, -1), group.mask(s.mask, places)
            y1, y2 = attention(q1, k1, values, mask, how), attention(q2, k2, values, mask, how)
            outputs.append(y1 - self.factor().to(y1.dtype) * y2)
        y = (1 - s.lambda_init) * self.norm(call.join(outputs))
        return self.o(y.transpose(1, 2).flatten(-2))

    def factor(self) -> Tensor:
        """λ, in float32."""
        first = (self.lambda_q1.float() * self.lambda_k1.float()).sum().exp()
        second = (self.lambda_q2.float() * self.lambda_k2.float()).sum().exp()
        return first - second + self.spec.lambda_init

    def turned(self, x: Tensor, heads: int, call: Call) -> Tensor:
        """(B, T, heads · 2 · D) -> (B, heads, T, 2 · D), each half with its rotary positions."""
        x = x.unflatten(-1, (2 * heads, -1)).transpose(1, 2)
        if self.spec.positions:
            x = call.rotate(self.spec.positions, x)
        return x.unflatten(1, (heads, 2)).transpose(2, 3).flatten(-2)
