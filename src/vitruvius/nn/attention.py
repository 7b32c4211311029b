"""Twins of spec/attention.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import spec
from .call import Call, Keys
from .ops import attention
from .twin import Twin, twin


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads · D) -> (B, heads, T, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B, T, heads · D)."""
    return x.transpose(1, 2).flatten(-2)


@twin(spec.QKNorm)
class QKNorm(Twin[spec.QKNorm]):
    """Norms queries or keys while it splits them into heads."""

    norm: nn.Module

    def forward(self, x: Tensor, heads: int) -> Tensor:
        """(B, T, heads · D) -> (B, heads, T, D)."""
        if self.spec.over == "projection":
            return split_heads(self.norm(x), heads)
        return self.norm(split_heads(x, heads))


@twin(spec.KeyValue)
class KeyValue(Twin[spec.KeyValue]):
    """Own keys and values."""

    k: nn.Linear
    v: nn.Linear
    k_norm: QKNorm

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, W) -> k (B, G, T, D), v (B, G, T, Dᵥ)."""
        heads = self.spec.heads
        k = self.k_norm(self.k(x), heads) if self.spec.k_norm else split_heads(self.k(x), heads)
        return k, split_heads(self.v(x), heads)


@twin(spec.Attention)
class Attention(Twin[spec.Attention]):
    """o · softmax(q kᵀ) v."""

    q: nn.Linear
    o: nn.Linear
    kv: KeyValue
    q_norm: QKNorm

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); keys and values are kept in the call's state, if it has one."""
        s = self.spec
        q = self.q_norm(self.q(x), s.heads) if s.q_norm else split_heads(self.q(x), s.heads)
        k, v = self.kv(x)
        if s.positions:
            q, k = call.rotate(s.positions, q), call.rotate(s.positions, k)
        (k, v), keys = call.remember(self.path, k=k, v=v)
        mask = call.mask(s.sees, keys)
        return self.o(merge_heads(attention(q, k, v, mask, s.softmax.scale, s.softmax.softcap)))


@twin(spec.LatentAttention)
class LatentAttention(Twin[spec.LatentAttention]):
    """Attention over keys and values that are projections of one latent per token."""

    q: nn.Linear
    q_a: nn.Linear
    q_norm: nn.Module
    q_b: nn.Linear
    kv_a: nn.Linear
    kv_norm: nn.Module
    kv_b: nn.Linear
    o: nn.Linear

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); the latents and rotary keys are kept in the call's state, if it has one."""
        s = self.spec
        q = split_heads(self.q_b(self.q_norm(self.q_a(x))) if s.q else self.q(x), s.heads)
        q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), -1)
        latent, key = self.kv_a(x).split((s.kv.rank, s.rope_dim), -1)
        latent = self.kv_norm(latent)
        if s.positions:
            q_rope, key = call.rotate(s.positions, q_rope), call.rotate(s.positions, key[:, None])[:, 0]
        (latent, key), keys = call.remember(self.path, latent=latent, key=key)
        form = self.expanded if s.form(x.shape[1]) == "expanded" else self.absorbed
        return self.o(merge_heads(form(q_nope, q_rope, latent, key, call, keys)))

    def expanded(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, key: Tensor, call: Call, keys: Keys) -> Tensor:
        """Every head's own keys and values, made from the latents."""
        s = self.spec
        k_nope, v = split_heads(self.kv_b(latent), s.heads).split((s.nope_dim, s.v_dim), -1)
        k = torch.cat((k_nope, key[:, None].expand(-1, s.heads, -1, -1)), -1)
        q = torch.cat((q_nope, q_rope), -1)
        return attention(q, k, v, call.mask(s.sees, keys), s.softmax.scale, s.softmax.softcap)

    def absorbed(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, key: Tensor, call: Call, keys: Keys) -> Tensor:
        """kv_b moved to the query and the output: q · (Wₖ c) = (Wₖᵀ q) · c, and Σ pⱼ (Wᵥ cⱼ) = Wᵥ (Σ pⱼ cⱼ)."""
        s = self.spec
        w_k, w_v = self.kv_b.weight.unflatten(0, (s.heads, -1)).split((s.nope_dim, s.v_dim), 1)
        q = torch.cat((q_nope @ w_k, q_rope), -1)
        k = torch.cat((latent, key), -1)[:, None]
        mixed = attention(q, k, latent[:, None], call.mask(s.sees, keys), s.softmax.scale, s.softmax.softcap)
        return mixed @ w_v.transpose(-1, -2)
