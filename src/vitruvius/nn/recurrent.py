"""Twins of spec/recurrent.py. Memories are computed in float32, as in the references."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .attention import merge_heads, split_heads
from .call import Block, Call
from .feedforward import ACTIVATIONS
from .norm import GatedNorm
from .ops import causal_conv, delta_rule, state_space
from .twin import Twin, twin

S = TypeVar("S", spec.GatedDeltaNet, spec.KimiDelta, spec.Mamba2, spec.ShortConv)


class Recurrent(Twin[S]):
    """What these mixers share: a short convolution, and a state of constant size."""

    conv: Tensor
    conv_bias: Tensor
    A_log: Tensor

    takes_call: ClassVar[bool] = True

    def convolved(self, x: Tensor, block: Block, call: Call) -> Tensor:
        """x (n, T, channels) through the convolution; the inputs that come next need are kept in the block's states."""
        s, count = self.spec.conv, self.spec.conv.kernel - 1
        before = x.new_zeros(len(x), count, x.shape[2]) if block.rows is None else block.rows.read(self.path, "conv")
        inputs = torch.cat((before, x), 1)
        reach = None if call.documents is None else call.positions
        y = causal_conv(inputs, self.conv, self.conv_bias if s.bias else None, reach)
        if block.rows is not None:
            block.rows.replace(self.path, conv=inputs[:, inputs.shape[1] - count :])
        return ACTIVATIONS[s.act](y) if s.act else y

    def memory(self, x: Tensor, block: Block) -> Tensor:
        """The memory (n, H, K, V) that the block's states hold, or an empty one."""
        if block.rows is not None:
            return block.rows.read(self.path, "memory").float()
        declared = self.spec.state()["memory"]
        assert isinstance(declared, spec.Fixed)
        return torch.zeros(1, device=x.device).expand(len(x), len(self.A_log), *declared.shape[1:])

    def remember(self, memory: Tensor, block: Block) -> None:
        """Keeps the memory in the block's states, if it has any."""
        if block.rows is not None:
            block.rows.replace(self.path, memory=memory)


def forgetting(decay: Tensor, call: Call) -> Tensor:
    """Log decays (B, H, T, …), such that nothing is left of the memory where a document begins."""
    if call.documents is None:
        return decay
    begins = (call.positions == 0).unflatten(1, (1, -1, *[1] * (decay.ndim - 3)))
    return decay.masked_fill(begins, -1e4)  # exp of it is 0, and sums with others stay finite


def unit(x: Tensor) -> Tensor:
    """x / |x| over the last axis, with the epsilon of flash-linear-attention."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """−exp(A_log) · softplus(a + dt_bias), in float32; a (B, T, H · steps) and dt_bias (H · steps) -> (B, H, T,
    steps)."""
    a = a.float() + dt_bias.float()
    steps = torch.logaddexp(a, a.new_zeros(()))  # softplus: F.softplus compiles to wrong strides backward (torch 2.13)
    return -a_log.float().exp()[:, None, None] * split_heads(steps, steps.shape[-1] // len(a_log))


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
        new = torch.cat((self.q(x), self.k(x), self.v(x)), -1), self.decay(x), self.beta(x)
        y = call.join([self.mixed(block, call, *parts) for block, parts in call.split(call.blocks, *new)])
        y, z = (part.unflatten(-1, (-1, self.spec.v_dim)) for part in (y.to(x.dtype), self.gate(x)))
        return self.o(self.norm(y, z).flatten(-2))

    def mixed(self, block: Block, call: Call, qkv: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        """The recurrence itself: (n, T, channels) of queries, keys and values, (n, T, H) each of the others -> (n, T,
        H · V)."""
        s = self.spec
        values = len(self.A_log) * s.v_dim
        keys = (qkv.shape[-1] - values) // 2
        q, k, v = self.convolved(qkv, block, call).float().split((keys, keys, values), -1)
        q, k = unit(split_heads(q, s.k_dim)) * s.k_dim**-0.5, unit(split_heads(k, s.k_dim))
        decay = forgetting(log_decay(decay, self.A_log, self.dt_bias)[..., 0], call)
        beta = s.beta_scale * beta.float().sigmoid().mT
        y, memory = delta_rule(q, k, split_heads(v, s.v_dim), decay, beta, self.memory(qkv, block))
        self.remember(memory, block)
        return merge_heads(y)


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
        new = torch.cat((self.q(x), self.k(x), self.v(x)), -1), self.decay_b(self.decay_a(x)), self.beta(x)
        y = call.join([self.mixed(block, call, *parts) for block, parts in call.split(call.blocks, *new)])
        y, z = (part.unflatten(-1, (-1, self.spec.head_dim)) for part in (y.to(x.dtype), self.gate_b(self.gate_a(x))))
        return self.o(self.norm(y, z).flatten(-2))

    def mixed(self, block: Block, call: Call, qkv: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        """The recurrence itself: (n, T, 3 · H · D) of queries, keys and values, (n, T, H · D) of decays and (n, T, H)
        -> (n, T, H · D)."""
        s = self.spec
        q, k, v = (split_heads(y, s.head_dim) for y in self.convolved(qkv, block, call).float().chunk(3, -1))
        decay = forgetting(log_decay(decay, self.A_log, self.dt_bias), call)
        beta = beta.float().sigmoid().mT
        y, memory = delta_rule(unit(q) * s.head_dim**-0.5, unit(k), v, decay, beta, self.memory(qkv, block))
        self.remember(memory, block)
        return merge_heads(y)


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
        gate, new, dt = projected.split([inner, inner + 2 * group, s.heads], -1)
        y = call.join([self.mixed(block, call, *parts) for block, parts in call.split(call.blocks, new, dt)])
        y = y.to(x.dtype)
        return self.out_proj(self.norm(y, gate) if s.norm else y * F.silu(gate))

    def mixed(self, block: Block, call: Call, new: Tensor, dt: Tensor) -> Tensor:
        """The recurrence itself: (n, T, channels) of x, b and c, time steps (n, T, H) -> (n, T, H · P)."""
        s = self.spec
        x, b, c = self.convolved(new, block, call).float().split([axis.size for axis in s.channels], -1)
        x, b, c = split_heads(x, s.head_dim), split_heads(b, s.state_dim), split_heads(c, s.state_dim)
        dt = F.softplus(dt.float() + self.dt_bias.float()).clamp(*s.dt_limit).mT
        decay = forgetting(-self.A_log.float().exp()[:, None] * dt, call)
        y, memory = state_space(c, b, x * dt[..., None], decay, self.memory(new, block))
        self.remember(memory, block)
        return merge_heads(torch.addcmul(y, self.D.float()[:, None, None], x))

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
        y = [self.convolved(part, block, call) for block, (part,) in call.split(call.blocks, b * values)]
        return self.out_proj(c * call.join(y))
