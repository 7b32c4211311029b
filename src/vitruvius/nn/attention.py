"""Twins of spec/attention.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .call import Call, Group
from .encoder import EncoderKeyValue, RelativeBias
from .norm import RMSNorm
from .ops import Mask, Scores, attention
from .state import Keys
from .twin import Needs, Twin, twin

CAUSAL = spec.Causal()
Lent = tuple[tuple[Tensor, Tensor], Keys]  # what a group of sequences has of keys and values, and where they stand


def split_heads(x: Tensor, dim: int) -> Tensor:
    """(B, T, heads · dim) -> (B, heads, T, dim), however many heads there are: of a tensor parallel model a device has
    some."""
    return x.unflatten(-1, (-1, dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B, T, heads · D)."""
    return x.transpose(1, 2).flatten(-2)


@twin(spec.QKNorm)
class QKNorm(Twin[spec.QKNorm]):
    """Norms queries or keys."""

    norm: nn.Module

    def forward(self, x: Tensor, dim: int) -> Tensor:
        """Splits (B, T, heads · dim) into (B, heads, T, dim), and norms it if it is time to."""
        if self.spec.when == "after_rope":
            return split_heads(x, dim)
        if self.spec.over == "projection":
            return split_heads(self.norm(x), dim)
        return self.norm(split_heads(x, dim))

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
        k = self.k_norm(self.k(x), s.head_dim) if s.k_norm else split_heads(self.k(x), s.head_dim)
        v = split_heads(self.v(x), s.v_dim)
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
        v = split_heads(self.k(x), self.spec.head_dim)
        return F.rms_norm(v.float(), v.shape[-1:], None, self.spec.norm.eps).to(v.dtype)

    def keys(self, v: Tensor, rope: spec.RoPE | None, keys: Keys, group: Group) -> Tensor:
        """RoPE(w · v), for values v (n, G, S, D) that stand where `keys` says."""
        k = v * (self.spec.norm.offset + self.norm.weight)
        return group.rotate_kept(rope, k, keys) if rope else k


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

    takes_call: ClassVar[bool] = True

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); keys and values are kept in the call's states, if it has any."""
        s = self.spec
        rope = s.positions if isinstance(s.positions, spec.RoPE) else None
        q = self.q_norm(self.q(x), s.head_dim) if s.q_norm else split_heads(self.q(x), s.head_dim)
        if rope:
            q = call.rotate(rope, q)
        if s.q_norm:
            q = self.q_norm.after_rope(q)
        q = call.temper(s.softmax, q)
        outputs: list[Tensor] = []
        lent: list[Lent] = []
        biases: list[Tensor] = []
        for group, (queries, *new) in call.split(call.groups, q, *self.new(x, rope, call)):
            (k, v), keys = self.seen(new, group, call)
            how = group.scores(s.softmax, q.dtype, self.softmax.sinks if s.softmax.sinks else None)
            if isinstance(s.positions, spec.RelativeBias | spec.LayerBias):
                biases.append(self.bias(s.positions, keys, group, call))
                how = replace(how, bias=biases[-1])
            outputs.append(attention(queries, k, v, mask_of(s.mask, keys, group, call), how))
            lent.append(((k, v), keys))
        if not isinstance(s.kv, spec.EncoderKeyValue):
            call.give("key_values", lent)
        if isinstance(s.positions, spec.RelativeBias):
            call.give("bias", biases)
        y = merge_heads(call.join(outputs))
        return self.o(self.gated(x, y, s.gate) if s.gate else y)

    def needs(self) -> Needs:
        """Its rotary positions and mask; those of kept values too, of which keys are made again."""
        s = self.spec
        ropes = (s.positions,) if isinstance(s.positions, spec.RoPE) else ()
        unified = ropes if isinstance(s.kv, spec.UnifiedKeyValue) else ()
        return Needs(ropes, ((rule(s.mask), s.mask.window),), tuple((rope, s.mask.window) for rope in unified))

    def new(self, x: Tensor, rope: spec.RoPE | None, call: Call) -> tuple[Tensor, ...]:
        """What is kept of the new tokens, (B, G, T, channels) each: keys and values, or the values alone."""
        match self.spec.kv:
            case spec.KeyValue():
                k, v = self.kv(x, rope, call)
                return k, v
            case spec.UnifiedKeyValue():
                assert isinstance(self.kv, UnifiedKeyValue)
                return (self.kv.values(x),)
        return ()

    def seen(self, new: Sequence[Tensor], group: Group, call: Call) -> Lent:
        """The keys and values (n, G, S, channels) that a group's queries may see, and where they stand."""
        s = self.spec
        match s.kv:
            case spec.KeyValue():
                (k, v), keys = group.remember(self.path, s.mask.window, k=new[0], v=new[1])
                return (k, v), keys
            case spec.UnifiedKeyValue():
                assert isinstance(self.kv, UnifiedKeyValue)
                (v,), keys = group.remember(self.path, s.mask.window, v=new[0])
                rope = s.positions if isinstance(s.positions, spec.RoPE) else None
                return (self.kv.keys(v, rope, keys, group), v), keys
            case spec.LayerKeyValue(layer=layer):
                lent: Lent = call.given[spec.Edge("key_values", layer)][group.index]
                return lent
        k, v = group.encoder(self.path) if call.encoded is None else self.kv(call.encoded[group.index])
        return (k, v), group.keys[None]

    def bias(self, positions: spec.RelativeBias | spec.LayerBias, keys: Keys, group: Group, call: Call) -> Tensor:
        """What relative positions add to the scores, (n or 1, H, T, S)."""
        if isinstance(positions, spec.RelativeBias):
            own: Tensor = self.positions(group.positions, keys.positions)
            return own
        lent: Tensor = call.given[spec.Edge("bias", positions.layer)][group.index]
        return lent

    def gated(self, x: Tensor, y: Tensor, gate: spec.OutputGate) -> Tensor:
        """y (B, T, H · Dᵥ), each channel or head times its gate."""
        g = self.gate(x).sigmoid() if gate.act == "sigmoid" else F.softplus(self.gate(x).float()).to(y.dtype)
        return y * g if gate.over == "channel" else y * g.repeat_interleave(self.spec.kv.v_dim, -1)


def rule(mask: spec.Mask) -> spec.Mask:
    """What positions alone say: an indexer selects among all keys before."""
    return CAUSAL if isinstance(mask, spec.Indexer | spec.LayerIndexer) else mask


def mask_of(mask: spec.Mask, keys: Keys, group: Group, call: Call) -> Mask:
    """What a group's queries see of `keys`: as positions say, or as an earlier layer's indexer has selected."""
    if isinstance(mask, spec.LayerIndexer):
        lent: Mask = call.given[spec.Edge("selection", mask.layer)][group.index]
        return lent
    return group.mask(mask, keys)


@twin(spec.Indexer)
class Indexer(Twin[spec.Indexer]):
    """Selects the keys that each query sees: the best of Σₕ wₕ · relu(qₕ · k)."""

    q: nn.Linear
    k: nn.Linear
    norm: nn.Module
    head_weights: nn.Linear

    def forward(self, x: Tensor, q_latent: Tensor, call: Call) -> list[Mask]:
        """x (B, T, W) and the attention's latent queries (B, T, R) -> what each group's queries see; its keys are kept
        in the call's states.

        A selection has no gradient. The scores have one, for a loss of the indexer's own, which goes no further back
        (DeepSeek_V3_2.pdf, section 2.1.1)."""
        s, x, q_latent = self.spec, x.detach(), q_latent.detach()
        q, k = split_heads(self.q(q_latent), s.dim), self.norm(self.k(x))
        if s.positions:
            q, k = call.rotate(s.positions, q), call.rotate(s.positions, k[:, None])[:, 0]
        weights = self.head_weights(x).float() * s.heads**-0.5
        scores, selection = zip(
            *(self.select(group, *parts) for group, parts in call.split(call.groups, q, k, weights)), strict=True
        )
        call.give("index_scores", scores)
        call.give("selection", selection)
        return list(selection)

    def needs(self) -> Needs:
        """Its rotary positions; it selects among the keys that its attention may see."""
        return Needs((self.spec.positions,) if self.spec.positions else ())

    def select(self, group: Group, q: Tensor, k: Tensor, weights: Tensor) -> tuple[Tensor, Mask]:
        """Queries (n, H, T, D), new keys (n, T, D), weights of the heads (n, T, H) -> the scores (n, T, S), and the
        best keys of each query."""
        s = self.spec
        (k,), keys = group.remember(self.path, s.window, key=k)
        scores = (q.float() @ k.float()[:, None].transpose(-1, -2)).relu() * s.dim**-0.5  # (n, H, T, S)
        scores = (weights[:, :, None] @ scores.transpose(1, 2))[:, :, 0]
        before = group.mask(CAUSAL, keys).tensor(scores.shape[1], scores.shape[2], scores.device)
        if before is not None:
            before = before.view(-1, *scores.shape[1:])
            scores = scores.masked_fill(~before, -torch.inf)
        best = scores.topk(min(s.topk, scores.shape[-1]), -1).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
        return scores, Mask((chosen if before is None else chosen & before)[:, None])


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

    takes_call: ClassVar[bool] = True

    def needs(self) -> Needs:
        """Its rotary positions and mask."""
        s = self.spec
        return Needs((s.positions,) if s.positions else (), ((rule(s.mask), s.mask.window),))

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """x (B, T, W) -> (B, T, W); the latents and rotary keys are kept in the call's states, if it has any."""
        s = self.spec
        q_latent = self.q_norm(self.q_a(x)) if s.q else x
        q = split_heads(self.q_b(q_latent) if s.q else self.q(x), s.nope_dim + s.rope_dim)
        q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), -1)
        latent, key = self.kv_a(x).split((s.kv.rank, s.rope_dim), -1)
        latent = self.kv_norm(latent)
        if s.positions:
            q_rope, key = call.rotate(s.positions, q_rope), call.rotate(s.positions, key[:, None])[:, 0]
        q = call.temper(s.softmax, torch.cat((q_nope, q_rope), -1))
        selection = self.mask(x, q_latent, call) if isinstance(s.mask, spec.Indexer) else None
        outputs = []
        for group, (queries, new, new_key) in call.split(call.groups, q, latent, key):
            (c, k), keys = group.remember(self.path, s.mask.window, latent=new, key=new_key)
            mask = mask_of(s.mask, keys, group, call) if selection is None else selection[group.index]
            how = group.scores(s.softmax, q.dtype, self.softmax.sinks if s.softmax.sinks else None)
            absorbed = s.form(group.tokens) == "absorbed" and is_plain(self.kv_b)
            outputs.append((self.absorbed if absorbed else self.expanded)(queries, c, k, mask, how))
        return self.o(merge_heads(call.join(outputs)))

    def expanded(self, q: Tensor, latent: Tensor, key: Tensor, mask: Mask, how: Scores) -> Tensor:
        """Every head's own keys and values, made from the latents."""
        s = self.spec
        k_nope, v = split_heads(self.kv_b(latent), s.nope_dim + s.v_dim).split((s.nope_dim, s.v_dim), -1)
        k = torch.cat((k_nope, key[:, None].expand(-1, k_nope.shape[1], -1, -1)), -1)
        return attention(q, k, v, mask, how)

    def absorbed(self, q: Tensor, latent: Tensor, key: Tensor, mask: Mask, how: Scores) -> Tensor:
        """kv_b moved to query and output: q · (Wₖ c) = (Wₖᵀ q) · c, and Σ pⱼ (Wᵥ cⱼ) = Wᵥ (Σ pⱼ cⱼ)."""
        s = self.spec
        w_k, w_v = self.kv_b.weight.unflatten(0, (-1, s.nope_dim + s.v_dim)).split((s.nope_dim, s.v_dim), 1)
        q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), -1)
        q = torch.cat((q_nope @ w_k, q_rope), -1)
        k = torch.cat((latent, key), -1)[:, None]
        return attention(q, k, latent[:, None], mask, how) @ w_v.transpose(-1, -2)


def is_plain(layer: nn.Module) -> bool:
    """Whether a linear layer is its weight and nothing more: no adapter, quantisation or hook stands around it."""
    plain = type(layer) is nn.Linear and type(layer.weight) is nn.Parameter
    return plain and not layer._forward_hooks and not layer._forward_pre_hooks
