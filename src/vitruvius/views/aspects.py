"""What can differ between two parts of the same kind, in the words of a comparison.

By default these are a part's fields. A noun says more here only where its fields are not what a reader compares: the norms
before and after a branch are one question, and a scale of 1/√(head dim) is no number of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import singledispatch
from math import isclose
from typing import Any

from .. import spec as s
from .words import ACTIVATIONS, root, shown, usual_scale


@dataclass(frozen=True)
class Aspect:
    """One comparable property of a part.

    Args:
        label: what it is called: "expert width", "norm eps".
        value: a part, a number, a word, or None for what is not there.
        fields: where it is held, as paths below the part; a drawing highlights them.
        role: whose it is, told where the same label means several things and only some differ: "query", "final".
        show: value -> text.
    """

    label: str
    value: Any
    fields: tuple[str, ...]
    role: str = ""
    show: Callable[[Any], str] = shown


@singledispatch
def aspects(spec: s.Spec, role: str) -> list[Aspect]:
    """What to compare of a part that is its owner's `role` ("feed-forward", "expert", "query")."""
    return _fields(spec, role)


def _fields(spec: s.Spec, role: str, **labels: str) -> list[Aspect]:
    """One aspect for each field, under `labels` or the field's own name."""
    names = [f.name for f in fields(spec) if f.compare]
    return [Aspect(labels.get(n, n.replace("_", " ")), getattr(spec, n), (n,), role) for n in names]


@aspects.register
def _(spec: s.Decoder, role: str) -> list[Aspect]:
    return [
        Aspect("width", spec.width, ("width",)),
        Aspect("context", spec.context, ("context",)),
        Aspect("token embedding", spec.embedding, ("embedding",), "embedding"),
        Aspect("positions", spec.positions, ("positions",), "absolute"),
        Aspect("norm", spec.final_norm, ("final_norm",), "final"),
        Aspect("head", spec.head, ("head",), "head"),
        Aspect("multi-token prediction", len(spec.mtp) or None, ("mtp",)),
    ]


@aspects.register
def _(spec: s.Embedding, role: str) -> list[Aspect]:
    return [
        Aspect("vocabulary", spec.vocab, ("vocab",), role),
        Aspect("embedding scale", None if spec.scale == 1.0 else spec.scale, ("scale",), show=_root),
        Aspect("head's matrix", "the embedding's" if spec.tied else "its own", ("tied",)),
    ]


@aspects.register
def _(spec: s.Head, role: str) -> list[Aspect]:
    return _fields(spec, role, vocab="vocabulary", softcap="logits capped at")


@aspects.register
def _(spec: s.LearnedPositions, role: str) -> list[Aspect]:
    return _fields(spec, role, count="learned positions")


@aspects.register
def _(spec: s.Branch, role: str) -> list[Aspect]:
    role = "feed-forward" if spec.name == "mlp" else spec.body.part or spec.name
    where = {(True, False): "before", (False, True): "after, inside the residual", (True, True): "before and after"}
    placed = where.get((spec.pre is not None, spec.post is not None))
    norms = {name: norm for name, norm in (("pre", spec.pre), ("post", spec.post)) if norm}
    alike = len(set(norms.values())) == 1
    found = [Aspect("norms", placed, ("pre", "post"), role)]
    if alike:
        found.append(Aspect("norm", next(iter(norms.values())), tuple(norms), role))
    else:
        found += [Aspect("norm", norm, (name,), f"{role} {name}") for name, norm in norms.items()]
    return [
        *found,
        Aspect(role, spec.body, ("body",), role),
        Aspect("branch scale", spec.scale, ("scale",), role),
        Aspect("residual scale", spec.skip, ("skip",), role),
    ]


@aspects.register
def _(spec: s.Attention, role: str) -> list[Aspect]:
    partial = spec.positions.dim if spec.positions and spec.positions.dim != spec.head_dim else None
    return [
        Aspect("attention sees", spec.sees, ("sees",)),
        Aspect("query heads", spec.heads, ("heads",)),
        Aspect("head dim", spec.head_dim, ("head_dim", "kv.head_dim")),
        Aspect("keys and values", spec.kv, ("kv",)),
        Aspect("norm", spec.q_norm, ("q_norm",), "query"),
        Aspect("positions", spec.positions, ("positions",), "rotary"),
        Aspect("RoPE channels", partial, ("positions.dim",), show=lambda dim: "all" if dim is None else shown(dim)),
        *_softmax(spec),
        Aspect("biases", spec.q_bias, ("q_bias",), "query"),
        Aspect("biases", spec.o_bias, ("o_bias",), "output"),
    ]


@aspects.register
def _(spec: s.KeyValue, role: str) -> list[Aspect]:
    wider = None if spec.v_dim == spec.head_dim else spec.v_dim
    return [
        Aspect("key/value heads", spec.heads, ("heads",)),
        Aspect("value dim", wider, ("v_dim",), show=lambda dim: "head dim" if dim is None else shown(dim)),
        Aspect("norm", spec.k_norm, ("k_norm",), "key"),
        Aspect("biases", spec.bias, ("bias",), "key/value"),
    ]


@aspects.register
def _(spec: s.LatentAttention, role: str) -> list[Aspect]:
    return [
        Aspect("attention sees", spec.sees, ("sees",)),
        Aspect("heads", spec.heads, ("heads",)),
        Aspect("head dim without RoPE", spec.nope_dim, ("nope_dim",)),
        Aspect("head dim with RoPE", spec.rope_dim, ("rope_dim", "positions.dim")),
        Aspect("value dim", spec.v_dim, ("v_dim",)),
        Aspect("query latent", spec.q, ("q",), "query"),
        Aspect("key/value latent", spec.kv, ("kv",), "key/value"),
        Aspect("positions", spec.positions, ("positions",), "rotary"),
        *_softmax(spec),
        Aspect("biases", spec.bias, ("bias",), "attention"),
    ]


def _softmax(spec: s.Attention | s.LatentAttention) -> list[Aspect]:
    scale = None if isclose(spec.softmax.scale, usual_scale(spec)) else spec.softmax.scale
    return [
        Aspect("scores scaled by", scale, ("softmax.scale",), show=lambda x: "1/√(head dim)" if x is None else root(x)),
        Aspect("scores capped at", spec.softmax.softcap, ("softmax.softcap",)),
    ]


@aspects.register
def _(spec: s.LowRank, role: str) -> list[Aspect]:
    return [Aspect(f"{role} latent", spec.rank, ("rank",)), Aspect("norm", spec.norm, ("norm",), f"{role} latent")]


@aspects.register
def _(spec: s.QKNorm, role: str) -> list[Aspect]:
    return [Aspect("norm over", spec.over, ("over",), role), Aspect("norm", spec.norm, ("norm",), role)]


@aspects.register
def _(spec: s.Window, role: str) -> list[Aspect]:
    return _fields(spec, role, size="window")


@aspects.register
def _(spec: s.RoPE, role: str) -> list[Aspect]:
    pairs = "neighbours" if spec.interleaved else "halves"
    return [
        Aspect("RoPE theta", spec.theta, ("theta",)),
        Aspect("RoPE pairs", pairs, ("interleaved",)),
        Aspect("RoPE scaling", spec.scaling, ("scaling",)),
    ]


@aspects.register(s.LinearScaling)
@aspects.register(s.Llama3Scaling)
@aspects.register(s.YaRN)
def _(spec: s.Spec, role: str) -> list[Aspect]:
    return _fields(
        spec, role, **{f.name: f"RoPE scaling {f.name.replace('_', ' ')}" for f in fields(spec)}
    )


@aspects.register(s.MLP)
@aspects.register(s.GatedMLP)
def _(spec: s.MLP | s.GatedMLP, role: str) -> list[Aspect]:
    return [
        Aspect(f"{role} width", spec.dim, ("dim",)),
        Aspect("activation", ACTIVATIONS[spec.act], ("act",), role),
        Aspect("biases", spec.bias, ("bias",), role),
    ]


@aspects.register
def _(spec: s.MoE, role: str) -> list[Aspect]:
    return [
        Aspect("router", spec.router, ("router",)),
        Aspect("expert", spec.expert, ("expert",), "expert"),
        Aspect("shared expert", spec.shared, ("shared",), "shared expert"),
    ]


@aspects.register
def _(spec: s.Router, role: str) -> list[Aspect]:
    groups = spec.groups if spec.groups and spec.groups.count > 1 else None
    return [
        Aspect("experts", spec.experts, ("experts",)),
        Aspect("experts per token", spec.active, ("active",)),
        Aspect("router scores", spec.score, ("score",)),
        Aspect("selection bias", spec.correction, ("correction",)),
        Aspect("expert groups", groups, ("groups",)),
        Aspect("expert weights", spec.normalize, ("normalize",), show=_normalised),
        Aspect("expert weights scaled by", spec.scale, ("scale",)),
    ]


@aspects.register
def _(spec: s.ExpertGroups, role: str) -> list[Aspect]:
    return _fields(
        spec, role, count="number of groups", active="groups per token", score="groups scored by"
    )


@aspects.register
def _(spec: s.RMSNorm, role: str) -> list[Aspect]:
    weight = f"{shown(spec.offset)} + w" if spec.offset else "w"
    return [Aspect("norm eps", spec.eps, ("eps",), role), Aspect("norm weight", weight, ("offset",), role)]


@aspects.register
def _(spec: s.LayerNorm, role: str) -> list[Aspect]:
    return [Aspect("norm eps", spec.eps, ("eps",), role), Aspect("norm bias", spec.bias, ("bias",), role)]


def _root(scale: float | None) -> str:
    return "none" if scale is None else root(scale)


def _normalised(eps: float | None) -> str:
    if eps is None:
        return "as scored"
    return f"normalised (eps {shown(eps)})" if eps else "normalised"
