"""Twins of spec/attention.py."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .call import Call, layer_of, visible
from .encoder import EncoderKeyValue, RelativeBias
from .norm import RMSNorm
from .ops import Mask, Scores, attention
from .state import Keys
from .twin import Twin, twin


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads · D) -> (B, heads, T, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B, T, heads · D)."""
    return x.transpose(1, 2).flatten(-2)


@twin(spec.QKNorm)
class QKNorm(Twin[spec.QKNorm]):
    """Norms queries or keys."""

    norm: nn.Module

    def forward(self, x: Tensor, heads: int) -> Tensor:
        """Splits (B, T, heads · D) into (B, heads, T, D), and norms it if it is time to."""
        if self.spec.when == "after_rope":
            return split_heads(x, heads)
        if self.spec.over == "projection":
            return split_heads(self.norm(x), heads)
        return self.norm(split_heads(x, heads))

    def after_rope(self, x: Tensor) -> Tensor:
        """Norms (B, heads, T, D), if that comes after RoPE."""
        return self.norm(x) if self.spec.when == "after_rope" else x


@twin(spec.Softmax)
class Softmax(Twin[spec.Softmax]):
    """Holds a head's sink; the softmax itself is in `ops.attention`."""

    sinks: Tensor


@twin(spec.KeyValue)
class KeyValue(Twin[spec.KeyValue]):
    """Own keys and values."""

    k: nn.Linear
    v: nn.Linear
    k_norm: QKNorm
    v_norm: nn.Module

    def forward(self, x: Tensor, positions: spec.RoPE | None, call: Call) -> tuple[Tensor, Tensor]:
        """x (B, T, W) -> k (B, G, T, D), rotated, and v (B, G, T, Dᵥ)."""
        s = self.spec
        k = self.k_norm(self.k(x), s.heads) if s.k_norm else split_heads(self.k(x), s.heads)
        v = split_heads(self.v(x), s.heads)
        if s.v_norm:
            v = self.v_norm(v)
        if positions:
            k = call.rotate(positions, k)
        if s.k_norm:
            k = self.k_norm.after_rope(k)
        return k, v if s.v_scale == 1.0 else v * s.v_scale


@twin(spec.UnifiedKeyValue)
class UnifiedKeyValue(Twin[spec.UnifiedKeyValue]):
    """Values, and the keys that are made of them."""

    k: nn.Linear
    norm: RMSNorm

    def values(self, x: Tensor) -> Tensor:
        """x (B, T, W) -> v (B, G, T, D), k(x) / √(mean + eps)."""
        v = split_heads(self.k(x), self.spec.heads)
        return F.rms_norm(v.float(), v.shape[-1:], None, self.spec.norm.eps).to(v.dtype)

    def keys(self, v: Tensor, rope: spec.RoPE | None, where: Keys, call: Call) -> Tensor:
        """RoPE(w · v), for values v (B, G, S, D) that stand `where` it says."""
        k = v * (self.spec.norm.offset + self.norm.weight)
        return call.rotate_kept(rope, k, where) if rope else k


@twin(spec.Attention)
class Attention(Twin[spec.Attention]):
    """o(gate(x) · softmax(q kᵀ) v)."""

    q: nn.Linear
    o: nn.Linear
    gate: nn.Linear
    kv: KeyValue | UnifiedKeyValue | EncoderKeyValue
    positions: RelativeBias
    q_norm: QKNorm
    softmax: Softmax

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); keys and values are kept in the call's state, if it has one."""
        s = self.spec
        rope = s.positions if isinstance(s.positions, spec.RoPE) else None
        q = self.q_norm(self.q(x), s.heads) if s.q_norm else split_heads(self.q(x), s.heads)
        if rope:
            q = call.rotate(rope, q)
        if s.q_norm:
            q = self.q_norm.after_rope(q)
        q, how = call.scores(s.softmax, q, self.softmax.sinks if s.softmax.sinks else None)
        match s.kv:
            case spec.KeyValue():
                k, v = self.kv(x, rope, call)
                (k, v), keys = call.remember(self.path, k=k, v=v)
            case spec.UnifiedKeyValue():
                assert isinstance(self.kv, UnifiedKeyValue)
                (v,), keys = call.remember(self.path, v=self.kv.values(x))
                k = self.kv.keys(v, rope, keys, call)
                call.lend(self.path, (k, v), keys)
            case spec.LayerKeyValue(layer=layer):
                (k, v), keys = call.kept_by(layer)
            case spec.EncoderKeyValue():
                (k, v), keys = call.encoder(self.path, self.kv)
        if (bias := self.relative(keys, call)) is not None:
            how = replace(how, bias=bias)
        y = merge_heads(attention(q, k, v, call.mask(s.mask, keys), how))
        return self.o(self.gated(x, y, s.gate) if s.gate else y)

    def relative(self, keys: Keys, call: Call) -> Tensor | None:
        """What relative positions add to the scores, (B or 1, H, T, S)."""
        match self.spec.positions:
            case spec.RelativeBias():
                return call.relative(layer_of(self.path), keys, self.positions)
            case spec.LayerBias(layer=layer):
                return call.relative(layer, keys)
        return None

    def gated(self, x: Tensor, y: Tensor, gate: spec.OutputGate) -> Tensor:
        """y (B, T, H · Dᵥ), each channel or head times its gate."""
        g = self.gate(x).sigmoid() if gate.act == "sigmoid" else F.softplus(self.gate(x).float()).to(y.dtype)
        return y * g if gate.over == "channel" else y * g.repeat_interleave(self.spec.kv.v_dim, -1)


@twin(spec.Indexer)
class Indexer(Twin[spec.Indexer]):
    """Chooses the keys that each query sees: the best of Σₕ wₕ · relu(qₕ · k)."""

    q: nn.Linear
    k: nn.Linear
    norm: nn.Module
    head_weights: nn.Linear

    @torch.no_grad()
    def forward(self, x: Tensor, q_latent: Tensor, call: Call) -> Mask:
        """x (B, T, W) and the attention's latent queries (B, T, R) -> what is seen; its keys are kept in the state."""
        s = self.spec
        q, k = split_heads(self.q(q_latent), s.heads), self.norm(self.k(x))
        if s.positions:
            q, k = call.rotate(s.positions, q), call.rotate(s.positions, k[:, None])[:, 0]
        (k,), keys = call.remember(self.path, key=k)
        scores = (q.float() @ k.float()[:, None].transpose(-1, -2)).relu() * s.dim**-0.5  # (B, H, T, S)
        weights = self.head_weights(x).float() * s.heads**-0.5
        scores = (weights[:, :, None] @ scores.transpose(1, 2))[:, :, 0]
        causal = visible(spec.Causal(), call.positions, keys.positions)
        scores = scores.masked_fill(~causal, -torch.inf)
        best = scores.topk(min(s.topk, scores.shape[-1]), -1).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True) & causal
        return call.choose(self.path, Mask(chosen[:, None]))


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
    softmax: Softmax
    mask: Indexer

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); the latents and rotary keys are kept in the call's state, if it has one."""
        s = self.spec
        q_latent = self.q_norm(self.q_a(x)) if s.q else x
        q = split_heads(self.q_b(q_latent) if s.q else self.q(x), s.heads)
        q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), -1)
        latent, key = self.kv_a(x).split((s.kv.rank, s.rope_dim), -1)
        latent = self.kv_norm(latent)
        if s.positions:
            q_rope, key = call.rotate(s.positions, q_rope), call.rotate(s.positions, key[:, None])[:, 0]
        (latent, key), keys = call.remember(self.path, latent=latent, key=key)
        q = torch.cat((q_nope, q_rope), -1)
        q, how = call.scores(s.softmax, q, self.softmax.sinks if s.softmax.sinks else None)
        form = self.expanded if s.form(x.shape[1]) == "expanded" else self.absorbed
        mask = self.mask(x, q_latent, call) if isinstance(s.mask, spec.Indexer) else call.mask(s.mask, keys)
        return self.o(merge_heads(form(q, latent, key, mask, how)))

    def expanded(self, q: Tensor, latent: Tensor, key: Tensor, mask: Mask, how: Scores) -> Tensor:
        """Every head's own keys and values, made from the latents."""
        s = self.spec
        k_nope, v = split_heads(self.kv_b(latent), s.heads).split((s.nope_dim, s.v_dim), -1)
        k = torch.cat((k_nope, key[:, None].expand(-1, s.heads, -1, -1)), -1)
        return attention(q, k, v, mask, how)

    def absorbed(self, q: Tensor, latent: Tensor, key: Tensor, mask: Mask, how: Scores) -> Tensor:
        """kv_b moved to query and output: q · (Wₖ c) = (Wₖᵀ q) · c, and Σ pⱼ (Wᵥ cⱼ) = Wᵥ (Σ pⱼ cⱼ)."""
        s = self.spec
        w_k, w_v = self.kv_b.weight.unflatten(0, (s.heads, -1)).split((s.nope_dim, s.v_dim), 1)
        q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), -1)
        q = torch.cat((q_nope @ w_k, q_rope), -1)
        k = torch.cat((latent, key), -1)[:, None]
        return attention(q, k, latent[:, None], mask, how) @ w_v.transpose(-1, -2)
