"""What each part of an architecture is called and what there is to say about it, one function for each noun.

The text drawing, the SVG drawing and the comparison all take their words from here. A noun that has none here is
described by its class and its fields, so a new one can be seen before anybody has written a line for it.
"""

from __future__ import annotations

import re
from dataclasses import fields
from functools import singledispatch
from math import isclose

from .. import spec as s
from ..cost.quantity import number

ACTIVATIONS = {"silu": "SiLU", "gelu": "GELU", "gelu_tanh": "tanh GELU", "relu": "ReLU", "relu2": "ReLU²"}
GATED = {"silu": "SwiGLU", "gelu": "GeGLU", "gelu_tanh": "GeGLU", "relu": "ReGLU"}  # Shazeer 2020, arXiv 2002.05202
BEST = {"max": "best expert", "top2_sum": "best two experts"}  # what a group of experts is scored by


@singledispatch
def title(spec: s.Spec) -> str:
    """What the part is called, without its numbers: "grouped-query attention", "window"."""
    return " ".join(word if word.isupper() else word.lower() for word in _WORD.findall(type(spec).__name__))


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")


@singledispatch
def facts(spec: s.Spec) -> list[str]:
    """What there is to say about the part and those inside it, in short phrases: "32 query heads", "softcap 50"."""
    said = []
    for field in fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, s.Spec):
            said.append(phrase(value))
        elif isinstance(value, tuple) and all(isinstance(item, s.Spec) for item in value):
            said += [phrase(item) for item in value]
        elif value is not None and value is not False and field.compare:
            name = field.name.replace("_", " ")
            said.append(name if value is True else f"{name} {shown(value)}")
    return said


@singledispatch
def marks(spec: s.Spec) -> dict[str, str]:
    """What tells one kind of layer from another, the most telling first: {"sees": "window 4", "positions": "RoPE"}."""
    return {"": title(spec)}


def phrase(spec: s.Spec) -> str:
    """Title and facts in one line: "RoPE theta 10,000, interleaved"."""
    return f"{title(spec)} {', '.join(facts(spec))}".strip()


def shown(value: object) -> str:
    """A field's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, s.Spec):
        return title(value)
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return "none" if value is None else str(value)


def root(value: float) -> str:
    """A factor that is the root of a whole number, or one over it, is written so: "√5,376", "1/√128"."""
    square = value * value
    for whole, text in ((square, "√{}"), (1 / square if square else 0.0, "1/√{}")):
        if whole > 1.5 and isclose(whole, round(whole), rel_tol=1e-9):
            return text.format(number(round(whole)))
    return number(value)


def usual_scale(attention: s.Attention | s.LatentAttention) -> float:
    """What scores are multiplied by where nothing else is said: 1/√(channels of a key)."""
    dim = attention.head_dim if isinstance(attention, s.Attention) else attention.nope_dim + attention.rope_dim
    return float(dim**-0.5)


def biased(attention: s.Attention) -> list[str]:
    """Which projections have a bias: some of q, k, v, o."""
    own = isinstance(attention.kv, (s.KeyValue, s.UnifiedKeyValue)) and attention.kv.bias
    has = {"q": attention.q_bias, "k": own, "v": own, "o": attention.o_bias}
    return [name for name, bias in has.items() if bias]


def _scores(attention: s.Attention | s.LatentAttention) -> list[str]:
    """How scores become weights, where it is not softmax(q·k / √(head dim))."""
    usual, softmax = usual_scale(attention), attention.softmax
    said = []
    if softmax.scale == 1.0:
        said.append("scores not scaled")
    elif not isclose(softmax.scale, usual):
        stretched = f" ({root(usual)} × {number(softmax.scale / usual)})" if "√" not in root(softmax.scale) else ""
        said.append(f"scores × {root(softmax.scale)}{stretched}")
    return said + facts(softmax)


def _normed(norms: dict[str, s.Spec | None]) -> list[str]:
    """Norms by what they norm, equal ones together."""
    alike: dict[s.Spec, list[str]] = {}
    for name, norm in norms.items():
        if norm:
            alike.setdefault(norm, []).append(name)
    return [f"{' and '.join(names)}: {phrase(norm)}" for norm, names in alike.items()]


# Attention


@title.register
def _(spec: s.Attention) -> str:
    if spec.kv.heads == spec.heads:
        return "multi-head attention"
    return "multi-query attention" if spec.kv.heads == 1 else "grouped-query attention"


@facts.register
def _(spec: s.Attention) -> list[str]:
    kv = spec.kv
    shared = "" if kv.heads == spec.heads else f", {kv.heads} key/value {'heads' if kv.heads > 1 else 'head'}"
    heads = f"{spec.heads} {'query heads' if shared else 'heads'}{shared} of {number(spec.head_dim)}"
    said = [heads if kv.v_dim == spec.head_dim else f"{heads}, values of {number(kv.v_dim)}"]
    norms: dict[str, s.Spec | None] = {"queries": spec.q_norm}
    if isinstance(kv, s.KeyValue):
        norms |= {"keys": kv.k_norm, "values": kv.v_norm}
        said += [f"values × {number(kv.v_scale)}"] if kv.v_scale != 1.0 else []
    else:
        said.append(f"keys and values: {title(kv)}")
    said += [phrase(spec.mask), phrase(spec.positions) if spec.positions else "no RoPE"]
    if isinstance(spec.positions, s.RoPE) and spec.positions.dim < spec.head_dim:
        said.append(f"RoPE on {spec.positions.dim} of {spec.head_dim} channels")
    said += _normed(norms) + _scores(spec)
    said += [phrase(spec.gate)] if spec.gate else []
    return said + ([f"biases on {', '.join(biased(spec))}"] if biased(spec) else [])


@title.register
def _(spec: s.KeyValue) -> str:
    return "two projections"


@title.register
def _(spec: s.UnifiedKeyValue) -> str:
    return "one projection"


@facts.register
def _(spec: s.UnifiedKeyValue) -> list[str]:
    return [f"then {phrase(spec.norm)}"]


@title.register
def _(spec: s.LayerKeyValue) -> str:
    return f"those of layer {spec.layer}"


@title.register
def _(spec: s.EncoderKeyValue) -> str:
    return "those of the encoder's output"


@title.register
def _(spec: s.LatentAttention) -> str:
    return "multi-head latent attention"


@facts.register
def _(spec: s.LatentAttention) -> list[str]:
    said = [
        f"{spec.heads} heads: queries and keys of {spec.nope_dim} + {spec.rope_dim} rotary, values of {spec.v_dim}",
        f"keys and values from a latent of {number(spec.kv.rank)}: {phrase(spec.kv.norm)}",
        f"queries from a latent of {number(spec.q.rank)}: {phrase(spec.q.norm)}" if spec.q else "queries directly",
        f"kept per token: {number(spec.kv.rank)} + {spec.rope_dim}",
        phrase(spec.mask),
        phrase(spec.positions) if spec.positions else "no RoPE",
        *_scores(spec),
    ]
    return said + (["biases on the way down and on o"] if spec.bias else [])


@title.register
def _(spec: s.Causal) -> str:
    return "full attention"


@title.register
def _(spec: s.Everything) -> str:
    return "full attention both ways"


@facts.register(s.Window)
@facts.register(s.Chunk)
def _(spec: s.Window | s.Chunk) -> list[str]:
    return [number(spec.size)]


@facts.register
def _(spec: s.Softmax) -> list[str]:
    said = [] if spec.softcap is None else [f"scores capped at {number(spec.softcap)}"]
    said += [phrase(spec.temperature)] if spec.temperature else []
    return said + (["a sink for each head"] if spec.sinks else [])


@facts.register
def _(spec: s.OutputGate) -> list[str]:
    return [f"of each {spec.over}", spec.act]


@title.register
def _(spec: s.QKNorm) -> str:
    return title(spec.norm)


@facts.register
def _(spec: s.QKNorm) -> list[str]:
    over = "of each head" if spec.over == "head" else "of the whole projection"
    return [over, *facts(spec.norm), *(["after RoPE"] if spec.when == "after_rope" else [])]


@marks.register(s.Attention)
@marks.register(s.LatentAttention)
def _(spec: s.Attention | s.LatentAttention) -> dict[str, str]:
    rope = spec.positions
    shared = spec.kv if isinstance(spec.kv, s.LayerKeyValue) else None
    return {
        "mixer": title(spec),
        "mask": "full" if isinstance(spec.mask, s.Causal) else phrase(spec.mask),
        "positions": "NoPE" if rope is None else "RoPE" if isinstance(rope, s.RoPE) else title(rope),
        "theta": f"theta {number(rope.theta)}" if isinstance(rope, s.RoPE) else "",
        "kv": f"kv of {shared.layer}" if shared else "",
    }


@title.register
def _(spec: s.Indexer) -> str:
    return "indexer's choice"


@facts.register
def _(spec: s.Indexer) -> list[str]:
    return [f"of {number(spec.topk)} keys", f"{spec.heads} heads of {spec.dim}"]


# Positions


@title.register
def _(spec: s.RelativeBias) -> str:
    return "relative position bias"


@facts.register
def _(spec: s.RelativeBias) -> list[str]:
    return [f"in {spec.buckets} buckets up to {number(spec.max_distance)}"]


@title.register
def _(spec: s.LayerBias) -> str:
    return f"relative position bias of layer {spec.layer}"


@facts.register
def _(spec: s.LayerBias) -> list[str]:
    return []


@title.register
def _(spec: s.LearnedPositions) -> str:
    return "learned positions"


@facts.register
def _(spec: s.LearnedPositions) -> list[str]:
    return [number(spec.count)]


@title.register
def _(spec: s.RoPE) -> str:
    return "RoPE"


@facts.register
def _(spec: s.RoPE) -> list[str]:
    said = [f"theta {number(spec.theta)}"] + (["interleaved"] if spec.interleaved else [])
    return said + ([phrase(spec.scaling)] if spec.scaling else [])


@title.register
def _(spec: s.LinearScaling) -> str:
    return "linear scaling"


@facts.register
def _(spec: s.LinearScaling) -> list[str]:
    return [f"factor {number(spec.factor)}"]


@title.register
def _(spec: s.Llama3Scaling) -> str:
    return "Llama 3 scaling"


@facts.register
def _(spec: s.Llama3Scaling) -> list[str]:
    return [
        f"factor {number(spec.factor)} from {number(spec.original_context)}",
        f"low {number(spec.low_freq_factor)}",
        f"high {number(spec.high_freq_factor)}",
    ]


@title.register
def _(spec: s.YaRN) -> str:
    return "YaRN"


@facts.register
def _(spec: s.YaRN) -> list[str]:
    said = [
        f"factor {number(spec.factor)} from {number(spec.original_context)}",
        f"beta {number(spec.beta_fast)}/{number(spec.beta_slow)}",
    ]
    if spec.attention_factor != 1.0:
        said.append(f"attention factor {number(spec.attention_factor)}")
    return said + ([] if spec.truncate else ["not truncated"])


@title.register
def _(spec: s.Proportional) -> str:
    return "proportional"


@facts.register
def _(spec: s.Proportional) -> list[str]:
    said = [f"on {number(100 * spec.share)} % of the channels"]
    return said + ([f"factor {number(spec.factor)}"] if spec.factor != 1.0 else [])


# Recurrences


@title.register
def _(spec: s.GatedDeltaNet) -> str:
    return "Gated DeltaNet"


@title.register
def _(spec: s.KimiDelta) -> str:
    return "Kimi Delta Attention"


@title.register
def _(spec: s.Mamba2) -> str:
    return "Mamba-2"


@title.register
def _(spec: s.ShortConv) -> str:
    return "short convolution"


# Feed-forward


@title.register
def _(spec: s.MLP) -> str:
    return "MLP"


@facts.register
def _(spec: s.MLP) -> list[str]:
    return [f"{number(spec.dim)} wide", ACTIVATIONS[spec.act], *(["biases"] if spec.bias else [])]


@title.register
def _(spec: s.GatedMLP) -> str:
    return "gated MLP"


@facts.register
def _(spec: s.GatedMLP) -> list[str]:
    act = ACTIVATIONS[spec.act] if isinstance(spec.act, str) else phrase(spec.act)
    known = f" ({GATED[spec.act]})" if isinstance(spec.act, str) and spec.act in GATED else ""
    return [f"{number(spec.dim)} wide", f"{act}{known}", *(["biases"] if spec.bias else [])]


@title.register
def _(spec: s.ClampedSwiGLU) -> str:
    return "clamped SwiGLU"


@title.register
def _(spec: s.GaussianTopK) -> str:
    return ACTIVATIONS[spec.act]


@facts.register
def _(spec: s.GaussianTopK) -> list[str]:
    return [f"of the highest {number(100 * (1 - spec.sparsity))} %, by a normal distribution"]


@title.register
def _(spec: s.ScalarGated) -> str:
    return title(spec.body)


@facts.register
def _(spec: s.ScalarGated) -> list[str]:
    return [*facts(spec.body), "times a gate for each token"]


@marks.register(s.MLP)
@marks.register(s.GatedMLP)
def _(spec: s.MLP | s.GatedMLP) -> dict[str, str]:
    sparse = isinstance(spec, s.GatedMLP) and isinstance(spec.act, s.GaussianTopK)
    return {"feed-forward": "sparse" if sparse else "dense"}


@title.register
def _(spec: s.MoE) -> str:
    return "mixture of experts"


@facts.register
def _(spec: s.MoE) -> list[str]:
    said = [f"{spec.router.experts} experts, {spec.router.active} for each token", f"expert: {phrase(spec.expert)}"]
    if spec.shared:
        said.append(f"shared expert: {phrase(spec.shared)}")
    said.append(f"router: {', '.join(facts(spec.router))}")
    said += ["its weights multiply the experts' inputs"] if spec.weigh == "input" else []
    said += [f"experts work in a latent of {number(spec.latent)}"] if spec.latent else []
    said += [f"before the experts: {phrase(spec.norm)}"] if spec.norm else []
    return said + ([f"all × {number(spec.scale)}"] if spec.scale != 1.0 else [])


@marks.register
def _(spec: s.MoE) -> dict[str, str]:
    return {"feed-forward": "MoE"}


@title.register
def _(spec: s.Router) -> str:
    return "router"


@facts.register
def _(spec: s.Router) -> list[str]:
    said = [f"{spec.score} scores"]
    if spec.selection_bias:
        said.append("selection bias")
    if spec.groups and spec.groups.count > 1:
        said += facts(spec.groups)
    said += [f"of {phrase(spec.norm)}"] if spec.norm else []
    said += ["a learned number for each expert"] if spec.expert_scale else []
    said += ["biases"] if spec.bias else []
    said += [f"logits capped at {number(spec.softcap)}"] if spec.softcap is not None else []
    said += [f"at most {number(spec.capacity)} tokens for an expert"] if spec.capacity is not None else []
    said += ["weights normalised"] if spec.norm_topk_eps is not None else []
    return said + ([f"weights × {number(spec.scale)}"] if spec.scale != 1.0 else [])


@title.register
def _(spec: s.ExpertGroups) -> str:
    return "expert groups"


@facts.register
def _(spec: s.ExpertGroups) -> list[str]:
    return [f"best {spec.active} of {spec.count} groups by their {BEST[spec.score]}"]


# Norms


@title.register
def _(spec: s.RMSNorm) -> str:
    return "RMSNorm"


@title.register
def _(spec: s.LayerNorm) -> str:
    return "LayerNorm"


@title.register
def _(spec: s.WeightlessNorm) -> str:
    return "weightless RMSNorm"


@title.register
def _(spec: s.UnitNorm) -> str:
    return "unit norm"


@title.register
def _(spec: s.GatedNorm) -> str:
    return "gated RMSNorm"


@facts.register
def _(spec: s.RMSNorm) -> list[str]:
    return [f"eps {number(spec.eps)}"] + ([f"weight {number(spec.offset)} + w"] if spec.offset else [])


@facts.register
def _(spec: s.LayerNorm) -> list[str]:
    return [f"eps {number(spec.eps)}"] + ([] if spec.bias else ["no bias"])


# The decoder


@title.register
def _(spec: s.Embedding) -> str:
    return "token embedding"


@facts.register
def _(spec: s.Embedding) -> list[str]:
    said = [f"{number(spec.vocab)} tokens"]
    if spec.scale != 1.0:
        said.append(f"× {root(spec.scale)}")
    said += ["tied to the head"] if spec.tied else []
    return said + ([phrase(spec.per_layer)] if spec.per_layer else [])


@title.register
def _(spec: s.Head) -> str:
    return "head"


@facts.register
def _(spec: s.Head) -> list[str]:
    said = [f"{number(spec.vocab)} tokens"]
    said += [f"logits × {number(spec.scale)}"] if spec.scale != 1.0 else []
    return said + ([] if spec.softcap is None else [f"logits capped at {number(spec.softcap)}"])


@title.register
def _(spec: s.Branch) -> str:
    return spec.name


@facts.register
def _(spec: s.Branch) -> list[str]:
    return [equation(spec), phrase(spec.body)]


def equation(branch: s.Branch) -> str:
    """Where the norms and the residual are: "x + RMSNorm(attention(RMSNorm(x)))"."""
    skip, scale = ("" if factor == 1.0 else f"{_factor(factor)} · " for factor in (branch.skip, branch.scale))
    return f"{skip}x + {scale}{_normed_body(branch)}"


def _factor(value: float) -> str:
    return number(value) if float(number(value).replace(",", "")) == value else root(value)


def _normed_body(branch: s.Branch) -> str:
    inside = f"{title(branch.pre)}(x)" if branch.pre else "x"
    if isinstance(branch.body, s.Parallel):
        side_by_side = " + ".join(_normed_body(part) for part in branch.body.branches)
        result = f"{title(branch.post)}({side_by_side})" if branch.post else f"({side_by_side})"
        return result if inside == "x" else f"{result} with x = {inside}"
    result = f"{branch.body.part or title(branch.body)}({inside})"
    return f"{title(branch.post)}({result})" if branch.post else result


@title.register
def _(spec: s.Parallel) -> str:
    return "side by side"


@facts.register
def _(spec: s.Parallel) -> list[str]:
    bodies = [branch.body for branch in spec.branches]
    in_one_line = [phrase(body) if len(facts(body)) <= 3 else "" for body in bodies]
    return [
        fact
        for body, line in zip(bodies, in_one_line, strict=True)
        for fact in ([line] if line else [title(body), *facts(body)])
    ]


@marks.register
def _(spec: s.Parallel) -> dict[str, str]:
    return {key or branch.name: word for branch in spec.branches for key, word in marks(branch.body).items()}


@title.register
def _(spec: s.Laurel) -> str:
    return "LAuReL"


@facts.register
def _(spec: s.Laurel) -> list[str]:
    return [f"of rank {spec.rank}", f"then {phrase(spec.norm)}"]


@title.register
def _(spec: s.AltUp) -> str:
    return "AltUp"


@facts.register
def _(spec: s.AltUp) -> list[str]:
    scaled = ["with a learned scale"] if spec.scaled else []
    return [f"over {spec.streams} streams", f"computing on stream {spec.active}", phrase(spec.inject), *scaled]


@title.register
def _(spec: s.PerLayerInput) -> str:
    return "per-layer input"


@facts.register
def _(spec: s.PerLayerInput) -> list[str]:
    return [f"of {spec.dim}", ACTIVATIONS[spec.act]]


@title.register
def _(spec: s.PerLayerEmbedding) -> str:
    return "per-layer embeddings"


@facts.register
def _(spec: s.PerLayerEmbedding) -> list[str]:
    return [f"of {spec.table.dim} for {number(spec.table.vocab)} tokens", "in a table that may live on slower memory"]


@title.register
def _(spec: s.Layer) -> str:
    return "layer"


@facts.register
def _(spec: s.Layer) -> list[str]:
    return [f"{title(branch)}: {', '.join(facts(branch))}" for branch in spec.branches]


@marks.register
def _(spec: s.Layer) -> dict[str, str]:
    return {key or branch.name: word for branch in spec.branches for key, word in marks(branch.body).items()}


@title.register
def _(spec: s.MTP) -> str:
    return "multi-token prediction"


@facts.register
def _(spec: s.MTP) -> list[str]:
    return ["of the token after the next"]


@title.register
def _(spec: s.Encoder) -> str:
    return "encoder"


@facts.register
def _(spec: s.Encoder) -> list[str]:
    return [f"of {len(spec.layers)} layers"]


@title.register
def _(spec: s.Decoder) -> str:
    return spec.name


@facts.register
def _(spec: s.Decoder) -> list[str]:
    return [
        f"{len(spec.layers)} layers",
        f"width {number(spec.width)}",
        f"vocabulary {number(spec.embedding.vocab)}",
        f"context {number(spec.context)}",
    ]
