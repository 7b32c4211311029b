"""What a drawing writes beside a part: short notes, each with the fields it was read from, so that it can be
highlighted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import singledispatch
from math import isclose

from ... import spec as s
from ...cost.quantity import number
from ..words import ACTIVATIONS, GATED, facts, phrase, root, title, usual_scale


@dataclass(frozen=True)
class Note:
    """A phrase and the fields it tells, relative to its part (none: the part itself). A `quiet` one is shown only
    where it differs."""

    text: str
    fields: tuple[str, ...]
    quiet: bool = False

    def paths(self, part: str) -> tuple[str, ...]:
        """The full paths of its fields, of a part that stands at `part`."""
        return tuple(f"{part}.{field}" for field in self.fields) or (part,)


def note(text: str, fields: str, quiet: bool = False) -> Note:
    """A note whose fields are names separated by spaces."""
    return Note(text, tuple(fields.split()), quiet)


def counted(count: int, noun: str) -> str:
    """1 head, 8 heads."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def named(kind: str) -> str:
    """The layers of a kind: "dense layers", "full attention layers"."""
    name = re.sub(r"\bfull\b", "full attention", kind)
    return name if "layer" in name else f"{name} layers"


def label(spec: s.Spec) -> str:
    """What stands in the box of a part."""
    match spec:
        case s.GatedMLP():
            return f"{gated(spec) or f'Gated {activation(spec)}'} feed-forward"
        case s.MLP():
            return "Feed-forward"
        case s.Attention(kv=s.EncoderKeyValue()):
            return "Cross-attention"
    return capital(title(spec))


def gated(spec: s.GatedMLP) -> str | None:
    """The name of a gate with this activation, where it has one: SwiGLU."""
    match spec.act:
        case s.ClampedSwiGLU():
            return "Clamped SwiGLU"
        case s.GaussianTopK(act=act):
            return GATED.get(act)
    return GATED.get(spec.act)


def activation(spec: s.MLP | s.GatedMLP) -> str:
    """What stands between up and down: SiLU."""
    match spec.act:
        case s.ClampedSwiGLU():
            return "clamped SiLU"
        case s.GaussianTopK(act=act, sparsity=sparsity):
            return f"{ACTIVATIONS[act]} of the top {number(100 * (1 - sparsity))} %"
    return ACTIVATIONS[spec.act]


@singledispatch
def notes(spec: s.Spec) -> list[Note]:
    """What there is to say about a part of this class; of one that has no words here, all its facts."""
    return [note(fact, "") for fact in facts(spec)]


@notes.register
def _(spec: s.Attention) -> list[Note]:
    kv, gate = spec.kv, spec.gate
    shared = "" if kv.heads == spec.heads else f", {counted(kv.heads, 'key/value head')}"
    return [
        note(counted(spec.heads, "head") + shared, "heads kv.heads"),
        note(f"head dimension {number(spec.head_dim)}", "head_dim kv.head_dim"),
        note(f"values of {number(kv.v_dim)}", "kv.v_dim", quiet=kv.v_dim == spec.head_dim),
        *([] if isinstance(kv, s.EncoderKeyValue) else _sees(spec.mask)),
        *([] if isinstance(kv, s.EncoderKeyValue) else _positions(spec.positions, spec.head_dim)),
        *_keys(spec),
        *_softmax(spec),
        note(f"{gate.act} gate for each {gate.over}" if gate else "output not gated", "gate", quiet=not gate),
    ]


def _keys(spec: s.Attention) -> list[Note]:
    """Where keys and values come from, and what is special about them."""
    kv = spec.kv
    if isinstance(kv, s.LayerKeyValue):
        return [note("keys and values of an earlier layer", "kv"), *_qk_norm(spec.q_norm, None)]
    if isinstance(kv, s.EncoderKeyValue):
        return [note("keys and values of the encoder", "kv")]
    biases = {"q": spec.q_bias, "k": kv.bias, "v": kv.bias, "o": spec.o_bias}
    have = ", ".join(name for name, bias in biases.items() if bias)
    if isinstance(kv, s.UnifiedKeyValue):
        said = [note("values are the keys before RoPE", "kv"), *_qk_norm(spec.q_norm, None)]
        return [*said, note(f"biases on {have}" if have else "no biases", "q_bias kv.bias o_bias", quiet=not have)]
    return [
        *_qk_norm(spec.q_norm, kv.k_norm),
        note("norm of values" if kv.v_norm else "values not normed", "kv.v_norm", quiet=not kv.v_norm),
        note(f"values × {number(kv.v_scale)}", "kv.v_scale", quiet=kv.v_scale == 1.0),
        note(f"biases on {have}" if have else "no biases", "q_bias kv.bias o_bias", quiet=not have),
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
        *_sees(spec.mask),
        *_positions(spec.positions, spec.rope_dim),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
        *_softmax(spec),
    ]


def _sees(mask: s.Mask) -> list[Note]:
    match mask:
        case s.Window(size=size):
            return [note(f"sliding window of {number(size)}", "mask")]
        case s.Chunk(size=size):
            return [note(f"chunks of {number(size)}", "mask")]
        case s.Everything():
            return [note("sees all tokens, later ones too", "mask")]
        case s.LayerIndexer(topk=topk):
            return [
                note(f"sees {number(topk)} earlier tokens, those", "mask"),
                note("that an earlier layer sees", "mask"),
            ]
        case s.Indexer(topk=topk, heads=heads, dim=dim):
            chosen = note(f"sees {number(topk)} earlier tokens, chosen", "mask.topk")
            return [chosen, note(f"by an indexer of {heads} heads of {dim}", "mask.heads mask.dim")]
    return [note("sees all earlier tokens", "mask")]


def _qk_norm(q: s.QKNorm | None, k: s.QKNorm | None) -> list[Note]:
    if q and q == k:
        over = "each head" if q.over == "head" else "the whole projection"
        after = ", after RoPE" if q.when == "after_rope" else ""
        return [note(f"QK norm of {over}{after}", "q_norm kv.k_norm")]
    if q is None and k is None:
        return [note("no QK norm", "q_norm kv.k_norm", quiet=True)]
    return [
        note("norm of queries" if q else "queries not normed", "q_norm", quiet=not q),
        note("norm of keys" if k else "keys not normed", "kv.k_norm", quiet=not k),
    ]


def _positions(positions: s.Spec | None, head_dim: int) -> list[Note]:
    match positions:
        case None:
            return [note("no RoPE", "positions")]
        case s.RoPE(dim=dim, theta=theta, scaling=scaling, interleaved=interleaved):
            part = "" if dim == head_dim else f" on {dim} of {head_dim}"
            pairs = "neighbouring channels" if interleaved else "channels of both halves"
            return [
                note(f"RoPE{part}, θ = {number(theta)}", "positions.theta positions.dim"),
                _scaling(scaling),
                note(f"RoPE pairs {pairs}", "positions.interleaved", quiet=True),
            ]
        case s.LayerBias():
            return [note("relative bias of an earlier layer", "positions")]
    return [note(phrase(positions), "positions")]


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
    return note(phrase(scaling), "positions.scaling")


def _softmax(spec: s.Attention | s.LatentAttention) -> list[Note]:
    softmax, usual = spec.softmax, usual_scale(spec)
    cap = "scores not capped" if softmax.softcap is None else f"scores capped at {number(softmax.softcap)}"
    sinks, cools = softmax.sinks, softmax.temperature
    return [
        note(f"scores × {root(softmax.scale)}", "softmax.scale", quiet=isclose(softmax.scale, usual)),
        note(cap, "softmax.softcap", quiet=softmax.softcap is None),
        note("a sink for each head" if sinks else "no sinks", "softmax.sinks", quiet=not sinks),
        note(phrase(cools) if cools else "no temperature", "softmax.temperature", quiet=not cools),
    ]


@notes.register(s.MLP)
@notes.register(s.GatedMLP)
def _(spec: s.MLP | s.GatedMLP) -> list[Note]:
    told = isinstance(spec, s.GatedMLP) and gated(spec) is not None  # SwiGLU says SiLU
    return [
        note(f"hidden dimension {number(spec.dim)}", "dim"),
        note(activation(spec), "act", quiet=told),
        note("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
    ]


@notes.register
def _(spec: s.MoE) -> list[Note]:
    router, expert = spec.router, spec.expert
    kind = label(expert).removesuffix(" feed-forward") if isinstance(expert, s.GatedMLP) else activation(expert)
    latent = f"experts in a latent of {number(spec.latent)}" if spec.latent else "no latent"
    return [
        note(f"{router.active} of {counted(router.experts, 'expert')} per token", "router.experts router.active"),
        _shared(spec),
        note(f"expert: {kind}, hidden {number(expert.dim)}", "experts"),
        note(latent, "latent", quiet=spec.latent is None),
        *_router(router),
        note(f"weights on the expert's {spec.weigh}", "weigh", quiet=spec.weigh == "output"),
        note(f"all × {number(spec.scale)}", "scale", quiet=spec.scale == 1.0),
    ]


def _shared(spec: s.MoE) -> Note:
    if spec.shared is None:
        return note("no shared expert", "shared", quiet=True)
    dim = shared_body(spec.shared).dim
    size = "" if dim == spec.expert.dim else f" of {number(dim)}"
    return note(f"and a shared expert{size}{', gated' if isinstance(spec.shared, s.ScalarGated) else ''}", "shared")


def shared_body(spec: s.MLP | s.GatedMLP | s.ScalarGated) -> s.MLP | s.GatedMLP:
    """A shared expert without the gate around it."""
    return spec.body if isinstance(spec, s.ScalarGated) else spec


def _router(router: s.Router) -> list[Note]:
    groups, scale = router.groups, "" if router.scale == 1.0 else f" × {number(router.scale)}"
    bias = " + selection bias" if router.selection_bias else ""
    weights = f"weights ÷ their sum{scale}" if router.norm_topk_eps is not None else f"weights{scale or ' as scored'}"
    among = f"chosen in the best {groups.active} of {groups.count} groups" if groups else ""
    limited = groups is not None and groups.count > 1
    cap = "router not capped" if router.softcap is None else f"router capped at {number(router.softcap)}"
    return [
        note(f"router: {router.score}{bias}", "router.score router.selection_bias"),
        note(among if limited else "chosen among all", "router.groups", quiet=not limited),
        note(weights, "router.norm_topk_eps router.scale"),
        note("router biases" if router.bias else "no router biases", "router.bias", quiet=not router.bias),
        note(cap, "router.softcap", quiet=router.softcap is None),
    ]


@notes.register
def _(spec: s.RMSNorm) -> list[Note]:
    weight = f"× ({number(spec.offset)} + weight)" if spec.offset else "× weight"
    return [note(f"ε = {number(spec.eps).replace('e-0', 'e-')}", "eps", quiet=True), note(weight, "offset", quiet=True)]


@notes.register
def _(spec: s.LayerNorm) -> list[Note]:
    bias = "with bias" if spec.bias else "no bias"
    return [note(f"ε = {number(spec.eps).replace('e-0', 'e-')}", "eps", quiet=True), note(bias, "bias", quiet=True)]
