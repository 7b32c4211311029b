"""Lowerings of spec/recurrent.py."""

from __future__ import annotations

import numpy as np

from ... import spec
from ..plan import PANEL, Buffer, Builder, Floats, StateLayout, Target
from .base import Linear, linear, lowers, project
from .norm import gated_norm

Recurrent = spec.GatedDeltaNet | spec.KimiDelta | spec.Mamba2 | spec.ShortConv


def convolve(
    b: Builder,
    s: Recurrent,
    path: str,
    x: Buffer,
    before: Buffer | None = None,
    after: Buffer | None = None,
) -> Buffer:
    """x through the short convolution; its last inputs are kept in a state."""
    conv, y = s.conv, b.buffer(x.width)
    b.op(
        "conv",
        x=x,
        y=y,
        state=b.state(StateLayout(fixed=(conv.kernel - 1) * x.width)),
        weight=b.vector(conv.kernel * x.width, f"{path}.conv", by_place),
        bias=b.vector(x.width, f"{path}.conv_bias") if conv.bias else None,
        kernel=conv.kernel,
        act=conv.act,
        before=before,
        after=after,
    )
    return y


def by_place(weight: Floats) -> Floats:
    """(channels, 1, kernel) -> (kernel, channels), the oldest input first."""
    return np.ascontiguousarray(weight[:, 0].T).ravel()


@lowers(spec.GatedDeltaNet)
def gated_delta_net(b: Builder, s: spec.GatedDeltaNet, width: int, path: str, x: Buffer, to: Target) -> None:
    """o(norm(S q) · silu(gate(x))); q, k, v, gate, β and decay in one product."""
    keys, values = s.k_heads * s.k_dim, s.v_heads * s.v_dim
    sizes = {"q": keys, "k": keys, "v": values, "gate": values, "beta": s.v_heads, "decay": s.v_heads}
    with b.scope():
        q, k, v, gate, beta, decay = project(b, x, *(Linear(f"{path}.{name}", rows) for name, rows in sizes.items()))
        mixed = convolve(b, s, path, _side_by_side(q, k, v))
        y = _delta(b, s, path, mixed, decay, beta)
        gated_norm(b, s.norm, s.v_dim, f"{path}.norm", y, gate)
        linear(b, y, Linear(f"{path}.o", width), to)


@lowers(spec.KimiDelta)
def kimi_delta(b: Builder, s: spec.KimiDelta, width: int, path: str, x: Buffer, to: Target) -> None:
    """o(norm(S q) · σ(gate(x))), with decay and gate through a few channels."""
    inner, rank = s.heads * s.head_dim, s.gate_rank
    sizes = {"q": inner, "k": inner, "v": inner, "beta": s.heads, "decay_a": rank, "gate_a": rank}
    with b.scope():
        q, k, v, beta, *narrow = project(b, x, *(Linear(f"{path}.{name}", rows) for name, rows in sizes.items()))
        (decay,) = project(b, narrow[0], Linear(f"{path}.decay_b", inner))
        (gate,) = project(b, narrow[1], Linear(f"{path}.gate_b", inner))
        mixed = convolve(b, s, path, _side_by_side(q, k, v))
        y = _delta(b, s, path, mixed, decay, beta)
        gated_norm(b, s.norm, s.head_dim, f"{path}.norm", y, gate)
        linear(b, y, Linear(f"{path}.o", width), to)


def _side_by_side(*parts: Buffer) -> Buffer:
    """Neighbouring columns as one buffer."""
    first = parts[0]
    width = sum(part.width for part in parts)
    return Buffer(first.base, first.start, width, first.stride, first.lasting)


def _delta(
    b: Builder, s: spec.GatedDeltaNet | spec.KimiDelta, path: str, mixed: Buffer, decay: Buffer, beta: Buffer
) -> Buffer:
    """The gated delta rule over queries, keys and values side by side."""
    if isinstance(s, spec.KimiDelta):
        k_heads, v_heads, k_dim, v_dim = s.heads, s.heads, s.head_dim, s.head_dim
        steps, beta_scale = s.heads * s.head_dim, 1.0
    else:
        k_heads, v_heads, k_dim, v_dim = s.k_heads, s.v_heads, s.k_dim, s.v_dim
        steps, beta_scale = s.v_heads, s.beta_scale
    q, k, v = mixed.cut(k_heads * k_dim, k_heads * k_dim, v_heads * v_dim)
    y = b.buffer(v_heads * v_dim)
    b.op(
        "delta",
        q=q,
        k=k,
        v=v,
        decay=decay,
        beta=beta,
        y=y,
        state=b.state(StateLayout(fixed=v_heads * k_dim * -(-v_dim // PANEL) * PANEL)),
        a_log=b.vector(v_heads, f"{path}.A_log"),
        dt_bias=b.vector(steps, f"{path}.dt_bias"),
        k_heads=k_heads,
        v_heads=v_heads,
        k_dim=k_dim,
        v_dim=v_dim,
        per_channel=isinstance(s, spec.KimiDelta),
        beta_scale=beta_scale,
    )
    return y


@lowers(spec.Mamba2)
def mamba2(b: Builder, s: spec.Mamba2, width: int, path: str, x: Buffer, to: Target) -> None:
    """out_proj(norm(Sᵀc + D·x, gate)); one product gives gate, x, b, c and dt."""
    inner, group = s.heads * s.head_dim, s.groups * s.state_dim
    sizes = (inner, inner, group, group, s.heads)
    with b.scope():
        (projected,) = project(b, x, Linear(f"{path}.in_proj", sum(sizes), s.in_bias))
        if s.multipliers:
            factors = s.multipliers
            vector = b.vector(sum(sizes), (), lambda: np.repeat(factors, sizes), key=("multipliers", factors, sizes))
            b.op("pointwise", kind="vector", a=projected, y=projected, vector=vector, scale=1.0)
        gate, mixed, dt = projected.cut(inner, inner + 2 * group, s.heads)
        values, keys, queries = convolve(b, s, path, mixed).cut(inner, group, group)
        y = b.buffer(inner)
        low, high = s.dt_limit
        b.op(
            "ssm",
            x=values,
            b=keys,
            c=queries,
            dt=dt,
            y=y,
            state=b.state(StateLayout(fixed=s.heads * s.state_dim * -(-s.head_dim // PANEL) * PANEL)),
            a_log=b.vector(s.heads, f"{path}.A_log"),
            dt_bias=b.vector(s.heads, f"{path}.dt_bias"),
            d=b.vector(s.heads, f"{path}.D"),
            heads=s.heads,
            groups=s.groups,
            head_dim=s.head_dim,
            state_dim=s.state_dim,
            dt_min=low,
            dt_max=float("inf") if high is None else high,
        )
        if s.norm:
            gated_norm(b, s.norm, inner, f"{path}.norm", y, gate)
        else:
            b.op("pointwise", kind="gate", a=gate, b=y, y=y, act="silu", scale=1.0)
        linear(b, y, Linear(f"{path}.out_proj", width, s.out_bias), to)


@lowers(spec.ShortConv)
def short_conv(b: Builder, s: spec.ShortConv, width: int, path: str, x: Buffer, to: Target) -> None:
    """out_proj(c · conv(b · x))."""
    with b.scope():
        (projected,) = project(b, x, Linear(f"{path}.in_proj", 3 * s.dim, s.bias))
        before, after, values = projected.cut(s.dim, s.dim, s.dim)
        y = convolve(b, s, path, values, before, after)
        linear(b, y, Linear(f"{path}.out_proj", width, s.bias), to)
