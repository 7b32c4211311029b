"""Twins of spec/recurrent.py. Memories are computed in float32, as in the references."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .attention import merge_heads, split_heads
from .call import Call
from .feedforward import ACTIVATIONS
from .norm import GatedNorm
from .ops import causal_conv, delta_rule, state_space
from .twin import Twin, twin

S = TypeVar("S", spec.GatedDeltaNet, spec.KimiDelta, spec.Mamba2, spec.ShortConv)


class Recurrent(Twin[S]):
    """What these mixers share: a short convolution, and a state of constant size."""

    conv: Tensor
    conv_bias: Tensor

    def convolved(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, channels) through the convolution; the inputs that come next need are kept in the call's state."""
        s, state = self.spec.conv, call.fixed(self.path)
        count = s.kernel - 1
        before = x.new_zeros(x.shape[0], count, x.shape[2]) if state is None else state.tensors["conv"]
        inputs = torch.cat((before, x), 1)
        y = causal_conv(inputs, self.conv, self.conv_bias if s.bias else None)
        if state is not None:
            state.replace(conv=last(inputs, count, call))
        return ACTIVATIONS[s.act](y) if s.act else y

    def memory(self, x: Tensor, call: Call) -> Tensor:
        """The memory (B, H, K, V) that the call's state holds, or an empty one."""
        state, declared = call.fixed(self.path), self.spec.state()["memory"]
        assert isinstance(declared, spec.Fixed)
        empty = torch.zeros(1, device=x.device).expand(x.shape[0], *declared.shape)
        return empty if state is None else state.tensors["memory"].float()

    def remember(self, memory: Tensor, call: Call) -> None:
        """Keeps the memory in the call's state, if it has one."""
        if (state := call.fixed(self.path)) is not None:
            state.replace(memory=memory)


def last(inputs: Tensor, count: int, call: Call) -> Tensor:
    """The last `count` of each row's inputs (B, count + T, channels) that are not padding."""
    if call.lengths is None:
        return inputs[:, inputs.shape[1] - count :]
    ends = torch.tensor(call.lengths, device=inputs.device)[:, None] + torch.arange(count, device=inputs.device)
    return inputs.gather(1, ends[..., None].expand(-1, -1, inputs.shape[2]))


def real(x: Tensor, call: Call) -> Tensor:
    """x (B, H, T, …) with zeros where there is padding, which a memory then passes over."""
    if call.real is None:
        return x
    return x.masked_fill(~call.real.unflatten(1, (1, -1, *[1] * (x.ndim - 3))), 0)


def unit(x: Tensor) -> Tensor:
    """x / |x| over the last axis, with the epsilon of flash-linear-attention."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """−exp(A_log) · softplus(a + dt_bias), in float32; a (B, T, H · steps) and dt_bias (H · steps) -> (B, H, T,
    steps)."""
    steps = F.softplus(a.float() + dt_bias.float())
    return -a_log.float().exp()[:, None, None] * split_heads(steps, a_log.shape[0])


@twin(spec.GatedDeltaNet)
class GatedDeltaNet(Recurrent[spec.GatedDeltaNet]):
    """o(norm(S q) · silu(gate(x))), with S ← αS + k (β (v − α kᵀS))ᵀ from token to token."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    beta: nn.Linear
    decay: nn.Linear
    gate: nn.Linear
    o: nn.Linear
    A_log: Tensor
    dt_bias: Tensor
    norm: GatedNorm

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        s = self.spec
        mixed = self.convolved(torch.cat((self.q(x), self.k(x), self.v(x)), -1), call)
        q, k, v = mixed.float().split([axis.size for axis in s.channels], -1)
        q, k = unit(split_heads(q, s.k_heads)) * s.k_dim**-0.5, unit(split_heads(k, s.k_heads))
        decay = log_decay(self.decay(x), self.A_log, self.dt_bias)[..., 0]
        beta = s.beta_scale * self.beta(x).float().sigmoid().mT
        y, memory = delta_rule(
            q, k, split_heads(v, s.v_heads), real(decay, call), real(beta, call), self.memory(x, call)
        )
        self.remember(memory, call)
        y = self.norm(y.transpose(1, 2).to(x.dtype), self.gate(x).unflatten(-1, (s.v_heads, -1)))
        return self.o(y.flatten(-2))


@twin(spec.KimiDelta)
class KimiDelta(Recurrent[spec.KimiDelta]):
    """o(norm(S q) · σ(gate(x))), with S ← diag(α) S + k (β (v − kᵀ diag(α) S))ᵀ from token to token."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    decay_a: nn.Linear
    decay_b: nn.Linear
    beta: nn.Linear
    gate_a: nn.Linear
    gate_b: nn.Linear
    o: nn.Linear
    A_log: Tensor
    dt_bias: Tensor
    norm: GatedNorm

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        s = self.spec
        mixed = self.convolved(torch.cat((self.q(x), self.k(x), self.v(x)), -1), call)
        q, k, v = (split_heads(y, s.heads) for y in mixed.float().chunk(3, -1))
        decay = log_decay(self.decay_b(self.decay_a(x)), self.A_log, self.dt_bias)
        beta = self.beta(x).float().sigmoid().mT
        y, memory = delta_rule(
            unit(q) * s.head_dim**-0.5, unit(k), v, real(decay, call), real(beta, call), self.memory(x, call)
        )
        self.remember(memory, call)
        y = self.norm(y.transpose(1, 2).to(x.dtype), self.gate_b(self.gate_a(x)).unflatten(-1, (s.heads, -1)))
        return self.o(y.flatten(-2))


@twin(spec.Mamba2)
class Mamba2(Recurrent[spec.Mamba2]):
    """out_proj(norm(Sᵀc + D·x, gate)), with S ← exp(−A·dt) S + dt · b ⊗ x from token to token."""

    in_proj: nn.Linear
    out_proj: nn.Linear
    A_log: Tensor
    dt_bias: Tensor
    D: Tensor
    norm: GatedNorm

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        s = self.spec
        inner, group, _ = (axis.size for axis in s.channels)
        projected = self.scaled(self.in_proj(x), [inner, inner, group, group, s.heads])
        gate, mixed, dt = projected.split([inner, inner + 2 * group, s.heads], -1)
        values, b, c = self.convolved(mixed, call).float().split([inner, group, group], -1)
        values, b, c = split_heads(values, s.heads), split_heads(b, s.groups), split_heads(c, s.groups)
        dt = real(F.softplus(dt.float() + self.dt_bias.float()).clamp(*s.dt_limit).mT, call)
        decay = -self.A_log.float().exp()[:, None] * dt
        y, memory = state_space(c, b, values * dt[..., None], decay, self.memory(x, call))
        self.remember(memory, call)
        y = merge_heads(torch.addcmul(y, self.D.float()[:, None, None], values)).to(x.dtype)
        return self.out_proj(self.norm(y, gate) if s.norm else y * F.silu(gate))

    def scaled(self, projected: Tensor, sizes: list[int]) -> Tensor:
        """Each of the five segments times its multiplier."""
        if self.spec.multipliers is None:
            return projected
        factors = torch.tensor(self.spec.multipliers, dtype=projected.dtype, device=projected.device)
        return projected * factors.repeat_interleave(torch.tensor(sizes, device=projected.device))


@twin(spec.ShortConv)
class ShortConv(Recurrent[spec.ShortConv]):
    """out_proj(c · conv(b · x))."""

    in_proj: nn.Linear
    out_proj: nn.Linear

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        b, c, values = self.in_proj(x).chunk(3, -1)
        return self.out_proj(c * self.convolved(b * values, call))
