"""Lowerings of spec/feedforward.py."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

from ... import spec
from ..plan import PANEL, Buffer, Builder, RowBlock, Target
from .base import Linear, add, alternating, linear, lower, lowers, project, times


@lowers(spec.MLP)
def mlp(b: Builder, s: spec.MLP, width: int, path: str, x: Buffer, to: Target) -> None:
    """down(act(up(x)))."""
    with b.scope():
        hidden = b.buffer(s.dim)
        linear(b, x, Linear(f"{path}.up", s.dim, s.bias), Target(hidden), s.act)
        linear(b, hidden, Linear(f"{path}.down", width, s.bias), to)


@lowers(spec.GatedMLP)
def gated_mlp(b: Builder, s: spec.GatedMLP, width: int, path: str, x: Buffer, to: Target) -> None:
    """down(act(gate_scale · gate(x)) · up(x)), with gate and up in one product."""
    with b.scope():
        if isinstance(s.act, spec.GaussianTopK):
            hidden = most_active(b, s, s.act, path, x)
        else:
            hidden = b.buffer(s.dim)
            matrix, bias = both(b, s, x.width, path)
            b.op("glu", x=x, y=hidden, matrix=matrix, bias=bias, gate_scale=s.gate_scale, **activation(s.act))
        linear(b, hidden, Linear(f"{path}.down", width, s.bias), to)


def most_active(b: Builder, s: spec.GatedMLP, act: spec.GaussianTopK, path: str, x: Buffer) -> Buffer:
    """The hidden channels where a row's statistics decide which gates are open."""
    gate, up = project(b, x, Linear(f"{path}.gate", s.dim, s.bias), Linear(f"{path}.up", s.dim, s.bias))
    if s.gate_scale != 1.0:
        times(b, gate, s.gate_scale, gate)
    b.op("pointwise", kind="gaussian_topk", a=gate, y=gate, scale=NormalDist().inv_cdf(act.sparsity))
    b.op("pointwise", kind="gate", a=gate, b=up, y=up, act=act.act, scale=1.0)
    return up


def both(b: Builder, s: spec.GatedMLP, cols: int, path: str, copies: int = 1) -> tuple[int, int | None]:
    """The matrix in which panels of gate and up alternate, and its bias."""
    rows = 2 * -(-s.dim // PANEL) * PANEL
    pieces = [RowBlock(f"{path}.gate.weight", 0, s.dim, step=2), RowBlock(f"{path}.up.weight", PANEL, s.dim, step=2)]
    names = (f"{path}.gate.bias", f"{path}.up.bias")
    bias = b.vector(copies * rows, names, alternating) if s.bias else None
    return b.matrix(pieces, rows, cols, copies), bias


def activation(act: spec.Activation | spec.ClampedSwiGLU | spec.GaussianTopK) -> dict[str, Any]:
    """The fields that say how gate and up become one."""
    if isinstance(act, spec.ClampedSwiGLU):
        return {"act": "clamped", "limit": act.limit, "alpha": act.alpha, "offset": act.offset}
    assert isinstance(act, str), "GaussianTopK has a form of its own"
    return {"act": act}


@lowers(spec.ScalarGated)
def scalar_gated(b: Builder, s: spec.ScalarGated, width: int, path: str, x: Buffer, to: Target) -> None:
    """σ(gate(x)) · body(x)."""
    with b.scope():
        (gate,) = project(b, x, Linear(f"{path}.gate", 1))
        body = b.buffer(width)
        lower(b, s.body, width, f"{path}.body", x, Target(body))
        b.op("pointwise", kind="gate", a=gate, b=body, y=body, act="sigmoid", scale=1.0)
        add(b, body, to)


def route(b: Builder, s: spec.Router, width: int, path: str, x: Buffer) -> tuple[Buffer, Buffer]:
    """The weights of the chosen experts, and which rows go to which expert."""
    if s.norm:
        normed = b.buffer(width)
        lower(b, s.norm, width, f"{path}.norm", x, Target(normed))
        x = normed
    logits = b.buffer(s.experts)
    matrix = b.matrix([RowBlock(f"{path}.weight", 0, s.experts)], s.experts, width, role="router")
    bias = b.vector(s.experts, f"{path}.bias") if s.bias else None
    b.into("matmul", Target(logits), x=x, matrix=matrix, bias=bias)
    weights, groups = b.buffer(s.active), b.flat(2 + 4 * s.active)
    b.op(
        "route",
        logits=logits,
        chosen=b.buffer(s.active),
        weights=weights,
        groups=groups,
        selection_bias=b.vector(s.experts, f"{path}.selection_bias") if s.selection_bias else None,
        expert_scale=b.vector(s.experts, f"{path}.expert_scale") if s.expert_scale else None,
        active=s.active,
        score=s.score,
        group_count=s.groups.count if s.groups else 0,
        group_active=s.groups.active if s.groups else 0,
        group_score=s.groups.score if s.groups else None,
        norm_topk_eps=-1.0 if s.norm_topk_eps is None else s.norm_topk_eps,
        scale=s.scale,
        softcap=s.softcap,
        capacity=-1 if s.capacity is None else s.capacity,
    )
    return weights, groups


@lowers(spec.MoE)
def moe(b: Builder, s: spec.MoE, width: int, path: str, x: Buffer, to: Target) -> None:
    """scale · (Σ wₑ · expertₑ(x) over the chosen experts, plus the shared one)."""
    to = to.times(s.scale)
    with b.scope():
        weights, groups = route(b, s.router, width, f"{path}.router", x)
        inner = x
        if s.norm:
            inner = b.buffer(width)
            lower(b, s.norm, width, f"{path}.norm", x, Target(inner))
        if s.latent is None:
            experts(b, s, width, f"{path}.experts", inner, (weights, groups), to)
        else:
            (narrow,) = project(b, inner, Linear(f"{path}.latent_down", s.latent, s.latent_bias))
            result = b.buffer(s.latent)
            experts(b, s, s.latent, f"{path}.experts", narrow, (weights, groups), Target(result))
            linear(b, result, Linear(f"{path}.latent_up", width, s.latent_bias), to)
        if s.shared:
            lower(b, s.shared, width, f"{path}.shared", x, Target(to.y, 1.0, to.scale))


def experts(
    b: Builder, s: spec.MoE, width: int, path: str, x: Buffer, routed: tuple[Buffer, Buffer], to: Target
) -> None:
    """Σ wₑ · expertₑ(x): of the stacked matrices only the chosen copies are read."""
    expert, copies, active = s.expert, s.router.experts, s.router.active
    weights, groups = routed
    given, taken = (weights, None) if s.weigh == "input" else (None, weights)
    hidden = b.flat(active * -(-expert.dim // PANEL) * PANEL)
    common = {"x": x, "y": hidden, "groups": groups, "weights": given, "active": active}
    if isinstance(expert, spec.GatedMLP):
        matrix, bias = both(b, expert, width, path, copies)
        fields = {"gate_scale": expert.gate_scale, **activation(expert.act)}
        b.op("experts_glu", matrix=matrix, bias=bias, **common, **fields)
    else:
        matrix = b.matrix([RowBlock(f"{path}.up.weight", 0, expert.dim)], expert.dim, width, copies)
        bias = b.vector(copies * expert.dim, f"{path}.up.bias") if expert.bias else None
        b.op("experts_up", matrix=matrix, bias=bias, act=expert.act, **common)
    matrix = b.matrix([RowBlock(f"{path}.down.weight", 0, width)], width, expert.dim, copies)
    bias = b.vector(copies * width, f"{path}.down.bias") if expert.bias else None
    b.into("experts_down", to, x=hidden, groups=groups, weights=taken, matrix=matrix, bias=bias, active=active)
