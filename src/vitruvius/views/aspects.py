"""What can differ between two parts of the same kind, in the words of a comparison.

These are a part's fields, under the names that readers use. A noun says more here only where its fields are not what is
compared: the norms before and after a branch are one question, and a scale of 1/√(head dim) is no number of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, singledispatch
from math import isclose
from typing import Any

from .. import spec as s
from .words import ACTIVATIONS, BEST, root, shown, title, usual_scale


@dataclass(frozen=True)
class Aspect:
    """One comparable property of a part.

    Args:
        label: what it is called: "expert width", "norm eps"; empty for a place that another aspect puts into words.
        value: a part, a number, a word, or None for what is not there.
        fields: where it is held, as paths below the part; a drawing highlights them.
        role: whose it is, told where the same label means several things and only some differ: "query", "final".
        show: value -> text.
        told: of a part, the fields that its owner has already told.
    """

    label: str
    value: Any
    fields: tuple[str, ...]
    role: str = ""
    show: Callable[[Any], str] = shown
    told: frozenset[str] = frozenset()


# Field -> what it is called, or (what, whose), in the order of reading. Other fields follow under their own names.
Names = dict[str, str | tuple[str, str]]
NAMES: dict[type[s.Spec], Names] = {
    s.Decoder: {
        "embedding": ("token embedding", "embedding"),
        "positions": ("positions", "absolute"),
        "final_norm": ("norm", "final"),
        "head": ("head", "head"),
    },
    s.Embedding: {"vocab": "vocabulary", "scale": "embedding scale"},
    s.Head: {"vocab": "vocabulary", "softcap": "logits capped at", "scale": "logits scaled by"},
    s.LearnedPositions: {"count": "learned positions"},
    s.MTP: {"norm": ("norm", "module's")},
    s.Branch: {"scale": "branch scale", "skip": "residual scale"},
    s.Attention: {
        "mask": "attention sees",
        "positions": ("positions", "rotary"),
        "heads": "query heads",
        "q_norm": ("norm", "query"),
        "kv": "keys and values",
        "head_dim": "head dim",
        "q_bias": ("biases", "query"),
        "o_bias": ("biases", "output"),
        "gate": "output gate",
    },
    s.KeyValue: {
        "heads": "key/value heads",
        "k_norm": ("norm", "key"),
        "v_norm": ("norm", "value"),
        "bias": ("biases", "key/value"),
        "v_scale": "values scaled by",
    },
    s.LayerKeyValue: {"layer": "keys and values of layer", "heads": "key/value heads"},
    s.LatentAttention: {
        "mask": "attention sees",
        "positions": ("positions", "rotary"),
        "heads": "heads",
        "nope_dim": "head dim without RoPE",
        "rope_dim": "head dim with RoPE",
        "v_dim": "value dim",
        "q": ("query latent", "query latent"),
        "kv": ("key/value latent", "key/value latent"),
        "bias": ("biases", "attention"),
    },
    s.Softmax: {"scale": "scores scaled by", "softcap": "scores capped at", "sinks": "attention sinks"},
    s.OutputGate: {"act": "output gate's activation", "over": "output gate over"},
    s.QKNorm: {"over": "norm over", "when": "norm when"},
    s.Window: {"size": "window"},
    s.Chunk: {"size": "chunk"},
    s.RoPE: {"theta": "RoPE theta", "dim": "RoPE channels", "scaling": "RoPE scaling"},
    s.LinearScaling: {"factor": "RoPE scaling factor"},
    s.Llama3Scaling: {"factor": "RoPE scaling factor", "original_context": "RoPE original context"},
    s.YaRN: {
        "factor": "RoPE scaling factor",
        "original_context": "RoPE original context",
        "beta_fast": "YaRN's fast beta",
        "beta_slow": "YaRN's slow beta",
        "attention_factor": "YaRN's attention factor",
        "truncate": "YaRN's ramp truncated",
    },
    s.MoE: {
        "expert": ("expert", "expert"),
        "shared": ("shared expert", "shared expert"),
        "weigh": "router weighs",
        "latent": "expert latent",
        "norm": ("norm", "experts'"),
        "scale": "experts scaled by",
    },
    s.Router: {
        "experts": "experts",
        "active": "experts per token",
        "score": "router scores",
        "selection_bias": "selection bias",
        "groups": "expert groups",
        "scale": "expert weights scaled by",
        "bias": ("biases", "router"),
        "softcap": "router logits capped at",
        "norm": ("norm", "router"),
    },
    s.ExpertGroups: {"count": "number of groups", "active": "groups per token"},
    s.RMSNorm: {"eps": "norm eps"},
    s.LayerNorm: {"eps": "norm eps", "bias": "norm bias"},
    s.WeightlessNorm: {"eps": "norm eps"},
    s.UnitNorm: {"eps": "norm eps"},
    s.GatedNorm: {"eps": "norm eps", "act": "norm's gate", "gate_first": "gate before the norm"},
}


@lru_cache(1024)
def aspects(spec: s.Spec, role: str = "") -> tuple[Aspect, ...]:
    """What to compare of a part that is its owner's `role` ("feed-forward", "query"): each of its fields once."""
    special = _special(spec, role)
    told = {path for aspect in special for path in aspect.fields}
    found = [aspect for aspect in special if not aspect.fields]
    own = [f.name for f in fields(spec) if f.compare]
    for name in dict.fromkeys((*NAMES.get(type(spec), ()), *own)):
        found += [aspect for aspect in special if aspect.fields and aspect.fields[0].split(".")[0] == name]
        found += _field(spec, name, role, told) if name not in told else []
    return tuple(found)


def _field(spec: s.Spec, name: str, role: str, told: set[str]) -> list[Aspect]:
    value = getattr(spec, name)
    if isinstance(value, tuple) and all(isinstance(item, s.Spec) for item in value):
        return [Aspect("", item, (title(item),), role) for item in value]  # branches
    label = NAMES.get(type(spec), {}).get(name, name.replace("_", " "))
    label, role = (label, role) if isinstance(label, str) else label
    inside = frozenset(path.removeprefix(f"{name}.") for path in told if path.startswith(f"{name}."))
    return [Aspect(label, value, (name,), role, told=inside)]


@singledispatch
def _special(spec: s.Spec, role: str) -> list[Aspect]:
    """Aspects that are not simply a field; a nested path ("softmax.scale") is not told again by its own part."""
    return []


@_special.register
def _(spec: s.Decoder, role: str) -> list[Aspect]:
    scale = spec.embedding.scale
    modules = f"{len(spec.mtp)} {'modules' if len(spec.mtp) > 1 else 'module'}" if spec.mtp else None
    return [
        Aspect("", None, ("family",)),  # which file read it is not part of the architecture
        Aspect("layers", len(spec.layers), ("layers",)),
        Aspect("embedding scale", "√width" if isclose(scale, spec.width**0.5) else scale, ("embedding.scale",)),
        Aspect("multi-token prediction", modules, ("mtp",)),
    ]


@_special.register
def _(spec: s.Encoder, role: str) -> list[Aspect]:
    return [Aspect("layers", len(spec.layers), ("layers",))]


@_special.register
def _(spec: s.Embedding, role: str) -> list[Aspect]:
    return [Aspect("head's matrix", "the embedding's" if spec.tied else "its own", ("tied",))]


@_special.register
def _(spec: s.Layer, role: str) -> list[Aspect]:
    return [Aspect("branches", ", then ".join(branch.name for branch in spec.branches), ())]


@_special.register
def _(spec: s.Branch, role: str) -> list[Aspect]:
    role = "feed-forward" if spec.name == "mlp" else spec.name
    where = {
        (True, False): "before each branch",
        (False, True): "after each branch, inside the residual",
        (True, True): "before and after each branch",
    }
    slots = {"pre": spec.pre, "post": spec.post}
    found = [Aspect("norms", where.get((bool(spec.pre), bool(spec.post))), (), role)]
    if norm := spec.pre or spec.post:
        both = {name: there or norm for name, there in slots.items()}  # a single one is compared with either
        alike = len(set(both.values())) == 1
        found += [Aspect("norm", there, (name,), role if alike else f"{role} {name}") for name, there in both.items()]
    return [
        *found,
        *(Aspect("", bool(norm), (name,)) for name, norm in slots.items()),
        Aspect("", None, ("name",)),
        Aspect(role, spec.body, ("body",), role),
    ]


@_special.register
def _(spec: s.Attention, role: str) -> list[Aspect]:
    dim, rope = spec.head_dim, spec.positions
    value_dim = None if spec.kv.v_dim == dim else spec.kv.v_dim
    channels = rope.dim if isinstance(rope, s.RoPE) and rope.dim != dim else None
    return [
        Aspect("head dim", dim, ("head_dim", "kv.head_dim")),
        Aspect("value dim", value_dim, ("kv.v_dim",), show=lambda n: "head dim" if n is None else shown(n)),
        Aspect("RoPE channels", channels, ("positions.dim",), show=lambda n: "all" if n is None else shown(n)),
        _scale(spec),
    ]


@_special.register
def _(spec: s.LatentAttention, role: str) -> list[Aspect]:
    return [Aspect("head dim with RoPE", spec.rope_dim, ("rope_dim", "positions.dim")), _scale(spec)]


def _scale(spec: s.Attention | s.LatentAttention) -> Aspect:
    scale = None if isclose(spec.softmax.scale, usual_scale(spec)) else spec.softmax.scale
    show: Callable[[Any], str] = lambda value: root(value) if value else "1/√(head dim)"  # noqa: E731
    return Aspect("scores scaled by", scale, ("softmax.scale",), show=show)


@_special.register
def _(spec: s.LowRank, role: str) -> list[Aspect]:
    return [Aspect(role, spec.rank, ("rank",))]


@_special.register
def _(spec: s.RoPE, role: str) -> list[Aspect]:
    return [Aspect("RoPE pairs", "neighbours" if spec.interleaved else "halves", ("interleaved",))]


@_special.register
def _(spec: s.MLP, role: str) -> list[Aspect]:
    return _wide(spec, role)


@_special.register
def _(spec: s.GatedMLP, role: str) -> list[Aspect]:
    return _wide(spec, role)


def _wide(spec: s.MLP | s.GatedMLP, role: str) -> list[Aspect]:
    act = ACTIVATIONS[spec.act] if isinstance(spec.act, str) else spec.act
    return [
        Aspect(f"{role} width", spec.dim, ("dim",)),
        Aspect("activation", act, ("act",), role),
        Aspect("biases", spec.bias, ("bias",), role),
    ]


@_special.register
def _(spec: s.Router, role: str) -> list[Aspect]:
    def weighed(eps: float | None) -> str:
        return "as scored" if eps is None else f"normalised (eps {shown(eps)})" if eps else "normalised"

    one_group = spec.groups is not None and spec.groups.count == 1
    return [
        *([Aspect("expert groups", None, ("groups",))] if one_group else []),
        Aspect("expert weights", spec.norm_topk_eps, ("norm_topk_eps",), show=weighed),
    ]


@_special.register
def _(spec: s.ExpertGroups, role: str) -> list[Aspect]:
    return [Aspect("groups scored by", BEST[spec.score], ("score",))]


@_special.register
def _(spec: s.RMSNorm, role: str) -> list[Aspect]:
    return [Aspect("norm weight", f"{shown(spec.offset)} + w" if spec.offset else "w", ("offset",), role)]
