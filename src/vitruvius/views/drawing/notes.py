"""What a drawing writes beside a part: short notes, each with the fields that it was read from, so that it can be highlighted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from math import isclose

from ... import spec as s
from ...cost.quantity import number
from ..words import ACTIVATIONS, GATED, biased, root, title, usual_scale


@dataclass(frozen=True)
class Note:
    """A phrase and the fields it tells, relative to its part. One that is `quiet` is shown only where it differs."""

    text: str
    fields: tuple[str, ...]
    quiet: bool = False


def note(text: str, fields: str, quiet: bool = False) -> Note:
    return Note(text, tuple(fields.split()), quiet)


def counted(count: int, noun: str) -> str:
    """1 head, 8 heads."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def label(spec: s.Spec) -> str:
    """What stands in the box of a part."""
    if isinstance(spec, s.GatedMLP):
        return f"{GATED.get(spec.act, f'Gated {ACTIVATIONS[spec.act]}')} feed-forward"
    if isinstance(spec, s.MLP):
        return "Feed-forward"
    return capital(title(spec))


@singledispatch
def notes(spec: s.Spec) -> list[Note]:
    """What there is to say about a part of this class."""
    return []


@notes.register
def _(spec: s.Attention) -> list[Note]:
    kv, have = spec.kv, biased(spec)
    shared = "" if kv.heads == spec.heads else f", {counted(kv.heads, 'key/value head')}"
    return [
        note(counted(spec.heads, "head") + shared, "heads kv.heads"),
        note(f"head dimension {number(spec.head_dim)}", "head_dim kv.head_dim"),
        note(f"values of {number(kv.v_dim)}", "kv.v_dim", quiet=kv.v_dim == spec.head_dim),
        _sees(spec.sees),
        *_positions(spec.positions, spec.head_dim),
        *_qk_norm(spec.q_norm, kv.k_norm),
        note(f"biases on {', '.join(have)}" if have else "no biases", "q_bias kv.bias o_bias", quiet=not have),
        *_softmax(spec),
    ]


@notes.register
def _(spec: s.LatentAttention) -> list[Note]:
    return [
        note(counted(spec.heads, "head"), "heads"),
        note(f"head: {spec.nope_dim} + {spec.rope_dim} for scores,", "nope_dim rope_dim"),
        note(f"{spec.v_dim} for values", "v_dim"),
        note(f"queries from a latent of {number(spec.q.rank)}" if spec.q else "queries without a latent", "q"),
        note(f"keys and values from one of {number(spec.kv.rank)}", "kv"),
        note(f"and a rotary key of {spec.rope_dim}", "rope_dim"),
        _sees(spec.sees),
        *_positions(spec.positions, spec.rope_dim),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
        *_softmax(spec),
    ]


def _sees(sees: s.Sees) -> Note:
    if isinstance(sees, s.Window):
        return note(f"sliding window of {number(sees.size)}", "sees")
    return note("sees all earlier tokens", "sees")


def _qk_norm(q: s.QKNorm | None, k: s.QKNorm | None) -> list[Note]:
    if q and q == k:
        return [note(f"QK norm of {'each head' if q.over == 'head' else 'the whole projection'}", "q_norm kv.k_norm")]
    return [
        note("norm of queries" if q else "queries not normed", "q_norm", quiet=not q),
        note("norm of keys" if k else "keys not normed", "kv.k_norm", quiet=not k),
    ]


def _positions(rope: s.RoPE | None, head_dim: int) -> list[Note]:
    if rope is None:
        return [note("no RoPE", "positions")]
    part = "" if rope.dim == head_dim else f" on {rope.dim} of {head_dim}"
    pairs = "neighbouring channels" if rope.interleaved else "channels of both halves"
    return [
        note(f"RoPE{part}, θ = {number(rope.theta)}", "positions.theta positions.dim"),
        _scaling(rope.scaling),
        note(f"RoPE pairs {pairs}", "positions.interleaved", quiet=True),
    ]


def _scaling(scaling: s.Scaling | None) -> Note:
    match scaling:
        case None:
            return note("RoPE not scaled", "positions.scaling", quiet=True)
        case s.LinearScaling(factor=factor):
            return note(f"RoPE positions ÷ {number(factor)}", "positions.scaling")
        case s.Llama3Scaling(factor=factor, original_context=start):
            return note(f"Llama 3 scaling × {number(factor)} of {number(start)}", "positions.scaling")
        case s.YaRN(factor=factor, original_context=start):
            return note(f"YaRN × {number(factor)} of {number(start)}", "positions.scaling")


def _softmax(spec: s.Attention | s.LatentAttention) -> list[Note]:
    softmax, usual = spec.softmax, usual_scale(spec)
    cap = "scores not capped" if softmax.softcap is None else f"scores capped at {number(softmax.softcap)}"
    return [
        note(f"scores × {root(softmax.scale)}", "softmax.scale", quiet=isclose(softmax.scale, usual)),
        note(cap, "softmax.softcap", quiet=softmax.softcap is None),
    ]


@notes.register(s.MLP)
@notes.register(s.GatedMLP)
def _(spec: s.MLP | s.GatedMLP) -> list[Note]:
    named = isinstance(spec, s.GatedMLP) and spec.act in GATED  # SwiGLU says SiLU
    return [
        note(f"hidden dimension {number(spec.dim)}", "dim"),
        note(ACTIVATIONS[spec.act], "act", quiet=named),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
    ]


@notes.register
def _(spec: s.MoE) -> list[Note]:
    router, shared = spec.router, spec.shared
    times = shared.dim / spec.expert.dim if shared else 0
    size = "" if times == 1 else f" of {number(shared.dim)}" if shared else ""
    return [
        note(f"{router.active} of {counted(router.experts, 'expert')} per token", "router.experts router.active"),
        note(f"1 shared expert{size}" if shared else "no shared expert", "shared", quiet=not shared),
        note(f"expert: {label(spec.expert).removesuffix(' feed-forward')}, hidden {number(spec.expert.dim)}", "expert experts"),
        *_router(router),
    ]


def _router(router: s.Router) -> list[Note]:
    groups, scale = router.groups, "" if router.scale == 1.0 else f" × {number(router.scale)}"
    bias = " + selection bias" if router.correction else ""
    weights = f"weights ÷ their sum{scale}" if router.normalize is not None else f"weights{scale or ' as scored'}"
    among = f"chosen in the best {groups.active} of {groups.count} groups" if groups else ""
    limited = groups is not None and groups.count > 1
    return [
        note(f"router: {router.score}{bias}", "router.score router.correction"),
        note(among if limited else "chosen among all", "router.groups", quiet=not limited),
        note(weights, "router.normalize router.scale"),
    ]


@notes.register
def _(spec: s.RMSNorm) -> list[Note]:
    weight = f"× ({number(spec.offset)} + weight)" if spec.offset else "× weight"
    return [note(f"ε = {number(spec.eps)}", "eps", quiet=True), note(weight, "offset", quiet=True)]


@notes.register
def _(spec: s.LayerNorm) -> list[Note]:
    bias = "with bias" if spec.bias else "no bias"
    return [note(f"ε = {number(spec.eps)}", "eps", quiet=True), note(bias, "bias", quiet=True)]
