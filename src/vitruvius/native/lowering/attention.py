"""Lowerings of spec/attention.py and spec/indexer.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import spec
from ..plan import Buffer, Builder, Floats, RowBlock, StateLayout, Target
from .base import Linear, layer_of, linear, lower, lowers, not_lowered, project, times
from .position import rotate


@lowers(spec.Attention)
def attention(b: Builder, s: spec.Attention, width: int, path: str, x: Buffer, to: Target) -> None:
    """o(gate(x) · softmax(q kᵀ) v), with q, k, v and the gate in one product."""
    rope = s.positions if isinstance(s.positions, spec.RoPE) else None
    with b.scope():
        q, k, v, gate = _projections(b, s, path, x)
        if s.q_norm and s.q_norm.when == "before_rope":
            _qk_norm(b, s.q_norm, f"{path}.q_norm", q, s)
        state = _keep(b, s, path, k, v, rope)
        if rope:
            rotate(b, rope, q, s.heads, s.head_dim)
        if s.q_norm and s.q_norm.when == "after_rope":
            _qk_norm(b, s.q_norm, f"{path}.q_norm", q, s)
        y = b.buffer(s.heads * s.kv.v_dim)
        attend(b, s, path, q, y, state, _bias(b, s, path))
        if s.gate and gate:
            b.op("pointwise", kind="gate", a=gate, b=y, y=y, act=s.gate.act, scale=1.0)
        linear(b, y, Linear(f"{path}.o", width, s.o_bias), to)


def _projections(
    b: Builder, s: spec.Attention, path: str, x: Buffer
) -> tuple[Buffer, Buffer | None, Buffer | None, Buffer | None]:
    """Queries, keys, values and gates, where there are such; keys and values of one projection are both."""
    kv = s.kv
    layers = {"q": Linear(f"{path}.q", s.heads * s.head_dim, s.q_bias)}
    if isinstance(kv, spec.KeyValue | spec.UnifiedKeyValue):
        layers["k"] = Linear(f"{path}.kv.k", kv.heads * kv.head_dim, kv.bias)
    if isinstance(kv, spec.KeyValue):
        layers["v"] = Linear(f"{path}.kv.v", kv.heads * kv.v_dim, kv.bias)
    if s.gate:
        rows = s.heads * (kv.v_dim if s.gate.over == "channel" else 1)
        layers["gate"] = Linear(f"{path}.gate", rows, s.gate.bias)
    made = dict(zip(layers, project(b, x, *layers.values()), strict=True))
    return made["q"], made.get("k"), made.get("v"), made.get("gate")


def _qk_norm(b: Builder, s: spec.QKNorm, path: str, x: Buffer, of: spec.Attention | spec.KeyValue) -> None:
    """Norms queries or keys in place, each head or the whole projection."""
    lower(b, s.norm, s.width(of.heads, of.head_dim), f"{path}.norm", x, Target(x))


def _keep(b: Builder, s: spec.Attention, path: str, k: Buffer | None, v: Buffer | None, rope: spec.RoPE | None) -> int:
    """Adds the rows' keys and values to the state, whose number is returned; another layer's is looked up."""
    kv = s.kv
    match kv:
        case spec.LayerKeyValue(layer=layer):
            number: int = b.shared["state", layer]
            return number
        case spec.KeyValue():
            assert k is not None
            assert v is not None
            _own_keys(b, kv, f"{path}.kv", k, v, rope)
        case spec.UnifiedKeyValue():
            assert k is not None
            v = b.buffer(k.width)
            weightless = spec.WeightlessNorm(eps=kv.norm.eps)
            lower(b, weightless, kv.head_dim, f"{path}.kv", k, Target(v))
            lower(b, kv.norm, kv.head_dim, f"{path}.kv.norm", k, Target(k))
            if rope:
                rotate(b, rope, k, kv.heads, kv.head_dim)
        case _:
            raise not_lowered(kv, path)
    state = b.state(StateLayout(kv.heads, kv.head_dim, kv.v_dim, window=s.mask.window or 0))
    b.op("keep", k=k, v=v, state=state)
    if layer_of(path) >= 0:
        b.shared["state", layer_of(path)] = state
    return state


def _own_keys(b: Builder, kv: spec.KeyValue, path: str, k: Buffer, v: Buffer, rope: spec.RoPE | None) -> None:
    """Norms, turns and scales keys and values in place."""
    if kv.k_norm and kv.k_norm.when == "before_rope":
        _qk_norm(b, kv.k_norm, f"{path}.k_norm", k, kv)
    if rope:
        rotate(b, rope, k, kv.heads, kv.head_dim)
    if kv.k_norm and kv.k_norm.when == "after_rope":
        _qk_norm(b, kv.k_norm, f"{path}.k_norm", k, kv)
    if kv.v_norm:
        lower(b, kv.v_norm, kv.v_dim, f"{path}.v_norm", v, Target(v))
    if kv.v_scale != 1.0:
        times(b, v, kv.v_scale, v)


def attend(
    b: Builder,
    s: spec.Attention | spec.LatentAttention,
    path: str,
    q: Buffer,
    y: Buffer,
    state: int,
    bias: int | None = None,
) -> None:
    """Softmax attention of q over the state."""
    softmax = s.softmax
    length = 0
    match softmax.temperature:
        case spec.LogTemperature(scale=scale, floor=floor, shift=shift):
            b.op("temper", x=q, scale=scale, floor=floor, shift=shift)
        case spec.LengthTemperature(length=length):
            pass
    b.op(
        "attend",
        q=q,
        y=y,
        state=state,
        heads=s.heads,
        scale=softmax.scale,
        softcap=softmax.softcap,
        sinks=b.vector(s.heads, f"{path}.softmax.sinks") if softmax.sinks else None,
        bias=bias,
        length=length,
        first=b.shared.get("first", 0),
        **_seen(b, s.mask, path),
    )


def _seen(b: Builder, mask: spec.Mask, path: str) -> dict[str, Any]:
    """The fields that say what is seen."""
    match mask:
        case spec.Causal():
            return {"mask": "causal"}
        case spec.Window(size=size):
            return {"mask": "window", "size": size}
        case spec.Chunk(size=size):
            return {"mask": "chunk", "size": size}
        case spec.Indexer():
            return {"mask": "selected", "selection": b.shared["selection", path]}
        case spec.LayerIndexer(layer=layer) if ("selection", layer) in b.shared:
            return {"mask": "selected", "selection": b.shared["selection", layer]}
    raise not_lowered(mask, path)


def _bias(b: Builder, s: spec.Attention, path: str) -> int | None:
    """What relative positions add to the scores: a number for each head and distance."""
    match s.positions:
        case spec.RelativeBias() as relative:
            size = s.heads * (relative.max_distance + 1)
            vector = b.vector(size, f"{path}.positions.weight", lambda table: by_distance(relative, table))
            b.shared["bias", layer_of(path)] = vector
            return vector
        case spec.LayerBias(layer=layer):
            number: int = b.shared["bias", layer]
            return number
    return None


def by_distance(s: spec.RelativeBias, table: Floats) -> Floats:
    """The table (buckets, heads) spread out: (heads, distances from 0 to max_distance), the last for all beyond."""
    return np.ascontiguousarray(table[list(s.rows())].T).ravel()


@lowers(spec.LatentAttention)
def latent_attention(b: Builder, s: spec.LatentAttention, width: int, path: str, x: Buffer, to: Target) -> None:
    """Attention over the latents themselves, with kv_b moved to query and output: q · (Wₖ c) = (Wₖᵀ q) · c, and
    Σ pⱼ (Wᵥ cⱼ) = Wᵥ (Σ pⱼ cⱼ)."""
    rank, dim = s.kv.rank, s.nope_dim + s.rope_dim
    kept = rank + s.rope_dim
    with b.scope():
        queries, kv = _latents(b, s, path, x)
        q = b.buffer(s.heads * kept)
        w_k = b.matrix(
            [RowBlock(f"{path}.kv_b.weight", 0, rank, change=_Keys(s))], rank, s.nope_dim, s.heads, "changed"
        )
        b.into("matmul", Target(q), x=queries, matrix=w_k, heads=s.heads, x_step=dim, y_step=kept)
        turning = queries.columns(s.nope_dim, queries.width - s.nope_dim)
        turned = q.columns(rank, q.width - rank)
        if s.positions:
            rotate(b, s.positions, turning, s.heads, dim, turned, kept)
            rotate(b, s.positions, kv.columns(rank, s.rope_dim), 1, s.rope_dim)
        else:
            b.op("copy", x=turning, y=turned, heads=s.heads, x_step=dim, y_step=kept, width=s.rope_dim)
        state = b.state(StateLayout(1, kept, 0, rank, s.mask.window or 0))
        b.op("keep", k=kv, state=state)
        y, out = b.buffer(s.heads * rank), b.buffer(s.heads * s.v_dim)
        attend(b, s, path, q, y, state)
        w_v = b.matrix(
            [RowBlock(f"{path}.kv_b.weight", 0, s.v_dim, change=_Values(s))], s.v_dim, rank, s.heads, "changed"
        )
        b.into("matmul", Target(out), x=y, matrix=w_v, heads=s.heads, x_step=rank, y_step=s.v_dim)
        linear(b, out, Linear(f"{path}.o", width, s.bias), to)


def _latents(b: Builder, s: spec.LatentAttention, path: str, x: Buffer) -> tuple[Buffer, Buffer]:
    """The queries of all heads, and the normed latent beside the rotary key; an indexer chooses keys on the way."""
    kv_a = Linear(f"{path}.kv_a", s.kv.rank + s.rope_dim, s.bias)
    rows = s.heads * (s.nope_dim + s.rope_dim)
    if s.q is None:
        queries, kv = project(b, x, Linear(f"{path}.q", rows), kv_a)
    else:
        inputs, inner = [Linear(f"{path}.q_a", s.q.rank, s.bias), kv_a], [Linear(f"{path}.q_b", rows)]
        if isinstance(s.mask, spec.Indexer):
            inputs += [Linear(f"{path}.mask.k", s.mask.dim), Linear(f"{path}.mask.head_weights", s.mask.heads)]
            inner += [Linear(f"{path}.mask.q", s.mask.heads * s.mask.dim)]
        q_latent, kv, *index = project(b, x, *inputs)
        lower(b, s.q.norm, s.q.rank, f"{path}.q_norm", q_latent, Target(q_latent))
        queries, *index_q = project(b, q_latent, *inner)
        if isinstance(s.mask, spec.Indexer):
            choose(b, s.mask, path, index_q[0], index[0], index[1])
    latent = kv.columns(0, s.kv.rank)
    lower(b, s.kv.norm, s.kv.rank, f"{path}.kv_norm", latent, Target(latent))
    return queries, kv


def choose(b: Builder, s: spec.Indexer, path: str, q: Buffer, k: Buffer, weights: Buffer) -> None:
    """The keys that each query sees, for the attention at `path` and for later layers."""
    lower(b, s.norm, s.dim, f"{path}.mask.norm", k, Target(k))
    if s.positions:
        rotate(b, s.positions, q, s.heads, s.dim)
        rotate(b, s.positions, k, 1, s.dim)
    state = b.state(StateLayout(1, s.dim))
    b.op("keep", k=k, state=state)
    selection = b.lasting(1 + s.topk)
    first = b.shared.get("first", 0)
    b.op("index", q=q, weights=weights, state=state, selection=selection, heads=s.heads, topk=s.topk, first=first)
    b.shared["selection", path] = b.shared["selection", layer_of(path)] = selection


@dataclass(frozen=True)
class _Keys:
    """Of kv_b (heads · (nope + v), rank) what makes keys, turned round: (heads, rank, nope)."""

    s: spec.LatentAttention

    def __call__(self, kv_b: Floats) -> Floats:
        """See the class."""
        return kv_b.reshape(self.s.heads, -1, self.s.kv.rank)[:, : self.s.nope_dim].swapaxes(1, 2)


@dataclass(frozen=True)
class _Values:
    """Of kv_b what makes values: (heads, v, rank)."""

    s: spec.LatentAttention

    def __call__(self, kv_b: Floats) -> Floats:
        """See the class."""
        return kv_b.reshape(self.s.heads, -1, self.s.kv.rank)[:, self.s.nope_dim :]
