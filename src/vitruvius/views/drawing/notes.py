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


def label(spec: s.Spec) -> str:
    """What stands in the box of a part."""
    if isinstance(spec, s.GatedMLP):
        return f"{GATED.get(spec.act, f'Gated {ACTIVATIONS[spec.act]}')} feed-forward"
    if isinstance(spec, s.MLP):
        return "Feed-forward"
    return capital(title(spec))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@singledispatch
def notes(spec: s.Spec) -> list[Note]:
    """What there is to say about a part of this class."""
    return []


@notes.register
def _(spec: s.Attention) -> list[Note]:
    kv, norm = spec.kv, spec.q_norm
    shared = "" if kv.heads == spec.heads else f", {counted(kv.heads, 'key/value head')}"
    said = [
        note(counted(spec.heads, "head") + shared, "heads kv.heads"),
        note(f"head dimension {number(spec.head_dim)}", "head_dim kv.head_dim"),
        note(f"values of {number(kv.v_dim)} channels", "kv.v_dim", quiet=kv.v_dim == spec.head_dim),
        _sees(spec.sees),
        *_positions(spec.positions, spec.head_dim),
    ]
    if norm and norm == kv.k_norm:
        over = "each head" if norm.over == "head" else "the whole projection"
        said.append(note(f"QK norm: {title(norm)} of {over}", "q_norm kv.k_norm"))
    else:
        said.append(note("normed queries" if norm else "no norm of queries", "q_norm", quiet=not norm))
        said.append(note("normed keys" if kv.k_norm else "no norm of keys", "kv.k_norm", quiet=not kv.k_norm))
    have = biased(spec)
    said.append(note(f"biases on {', '.join(have)}" if have else "no biases", "q_bias kv.bias o_bias", quiet=not have))
    return said + _softmax(spec)


@notes.register
def _(spec: s.LatentAttention) -> list[Note]:
    queries = f"queries from a latent of {number(spec.q.rank)}" if spec.q else "queries without a latent"
    return [
        note(counted(spec.heads, "head"), "heads"),
        note(f"cached: a latent of {number(spec.kv.rank)} and a rotary key of {spec.rope_dim}", "kv rope_dim"),
        note(queries, "q"),
        note(f"head: {spec.nope_dim} + {spec.rope_dim} for scores, {spec.v_dim} for values", "nope_dim rope_dim v_dim"),
        _sees(spec.sees),
        *_positions(spec.positions, spec.rope_dim),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
        *_softmax(spec),
    ]


def _sees(sees: s.Sees) -> Note:
    if isinstance(sees, s.Window):
        return note(f"sliding window of {number(sees.size)}", "sees")
    return note("sees all tokens before", "sees")


def _positions(rope: s.RoPE | None, head_dim: int) -> list[Note]:
    if rope is None:
        return [note("no RoPE", "positions")]
    said = [note(f"RoPE, θ = {number(rope.theta)}", "positions.theta")]
    if rope.dim < head_dim:
        said.append(note(f"RoPE on {rope.dim} of {head_dim} channels", "positions.dim"))
    if rope.scaling:
        start = rope.scaling.original_context if not isinstance(rope.scaling, s.LinearScaling) else None
        said.append(
            note(f"{title(rope.scaling)}{f' of {number(start)}' if start else ' scaling'}", "positions.scaling")
        )
    else:
        said.append(note("positions not scaled", "positions.scaling", quiet=True))
    pairs = "neighbours" if rope.interleaved else "halves"
    return [*said, note(f"RoPE pairs {pairs}", "positions.interleaved", quiet=True)]


def _softmax(spec: s.Attention | s.LatentAttention) -> list[Note]:
    softmax = spec.softmax
    usual = isclose(softmax.scale, usual_scale(spec))
    cap = "scores not capped" if softmax.softcap is None else f"scores capped at {number(softmax.softcap)}"
    return [
        note(f"scores × {root(softmax.scale)}", "softmax.scale", quiet=usual),
        note(cap, "softmax.softcap", quiet=softmax.softcap is None),
    ]


@notes.register(s.MLP)
@notes.register(s.GatedMLP)
def _(spec: s.MLP | s.GatedMLP) -> list[Note]:
    return [
        note(f"hidden dimension {number(spec.dim)}", "dim"),
        note(ACTIVATIONS[spec.act], "act"),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
    ]


@notes.register
def _(spec: s.MoE) -> list[Note]:
    router, shared = spec.router, spec.shared
    said = [
        note(f"{router.active} of {counted(router.experts, 'expert')} per token", "router.experts router.active"),
        note(f"each of hidden dimension {number(spec.expert.dim)}", "expert.dim experts.dim"),
    ]
    if shared:
        times = shared.dim / spec.expert.dim
        size = f"{int(times)} × {number(spec.expert.dim)}" if times.is_integer() and times > 1 else number(shared.dim)
        said.append(note(f"and a shared expert of {size}", "shared"))
    else:
        said.append(note("no shared expert", "shared", quiet=True))
    said.append(note(ACTIVATIONS[spec.expert.act], "expert.act experts.act"))
    return said + _router(router)


def _router(router: s.Router) -> list[Note]:
    groups, sums = router.groups, router.normalize is not None
    scale = "" if router.scale == 1.0 else f" × {number(router.scale)}"
    said = [
        note(f"{router.score} router" + (" with a selection bias" if router.correction else ""), "router.score router.correction"),
        note(f"weights {'÷ sum' if sums else 'as scored'}{scale}", "router.normalize router.scale", quiet=False),
    ]
    if groups and groups.count > 1:
        said.append(note(f"chosen from {groups.active} of {groups.count} groups", "router.groups"))
    else:
        said.append(note("chosen from all experts", "router.groups", quiet=True))
    return said


@notes.register
def _(spec: s.RMSNorm) -> list[Note]:
    return [
        note(f"ε = {number(spec.eps)}", "eps", quiet=True),
        note(f"scaled by {number(spec.offset)} + weight" if spec.offset else "scaled by the weight", "offset", quiet=True),
    ]


@notes.register
def _(spec: s.LayerNorm) -> list[Note]:
    return [
        note(f"ε = {number(spec.eps)}", "eps", quiet=True),
        note("with bias" if spec.bias else "no bias", "bias", quiet=True),
    ]
