"""Softmax attention: which keys a query sees, how scores become weights, and the ways to keep keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isclose
from typing import Any

from ... import spec as s
from ...cost.quantity import number
from ..description import (
    Aspect,
    Callout,
    Description,
    Inner,
    Picture,
    callout,
    callouts,
    counted,
    describe,
    describes,
    facts,
    look,
    phrase,
    root,
    shown,
    times,
    title,
)
from ..drawing.attention import attention as inset
from ..drawing.attention import from_elsewhere, keys_as_values, latent_attention, own_keys_and_values
from ..knob import Knob, TreeEdit, choice_knob, number_knob

LARGEST_HEAD = 1024  # channels, of which papers write the root

# Which keys a query sees


@describes(s.Causal)
def _(spec: s.Causal) -> Description:
    return Description(
        title="full attention",
        short="full",
        marks={"mask": "full"},
        picture=Picture(label="causal softmax", callouts=[Callout("sees all earlier tokens")]),
    )


@describes(s.Window)
def _(spec: s.Window) -> Description:
    size = number(spec.size)
    return Description(
        title="window",
        short=f"window {size}",
        facts=[size],
        names={"size": "window"},
        tags=["sliding window"],
        picture=Picture(label="causal softmax", callouts=[Callout(f"sliding window of {size}")], look=s.Causal()),
    )


@describes(s.Chunk)
def _(spec: s.Chunk) -> Description:
    size = number(spec.size)
    return Description(
        title="chunk",
        short=f"chunk {size}",
        facts=[size],
        names={"size": "chunk"},
        tags=["chunked"],
        picture=Picture(label="causal softmax", callouts=[Callout(f"chunks of {size}")], look=s.Causal()),
    )


@describes(s.Everything)
def _(spec: s.Everything) -> Description:
    return Description(
        title="full attention both ways",
        picture=Picture(label="softmax over all", callouts=[Callout("sees all tokens, later ones too")]),
    )


# How scores become weights


@describes(s.LogTemperature)
def _(spec: s.LogTemperature) -> Description:
    scale, floor = number(spec.scale), number(spec.floor)
    position = f"(position + {spec.shift})" if spec.shift else "position"
    return Description(
        title="log temperature",
        facts=[
            f"scale {scale}",
            f"a step every {floor} tokens",
            f"first at token {number(spec.floor - spec.shift + 1)}",  # counted from 1; positions are from 0
        ],
        equation=f"q · (1 + {scale} · ln(1 + ⌊{position} / {floor}⌋))",
        names={"scale": "temperature scale", "floor": "temperature floor", "shift": "temperature shift"},
    )


@describes(s.LengthTemperature)
def _(spec: s.LengthTemperature) -> Description:
    length = number(spec.length)
    return Description(
        title="length temperature",
        facts=[f"log(position) / log({length}) beyond {length}"],
        equation=f"scores · log(position) / log({length})  beyond {length}",
        names={"length": "temperature length"},
    )


@describes(s.Softmax)
def _(spec: s.Softmax) -> Description:
    cap = None if spec.softcap is None else number(spec.softcap)
    cools, sinks = spec.temperature, spec.sinks
    return Description(
        title="softmax",
        facts=[
            *([] if cap is None else [f"scores capped at {cap}"]),
            *([phrase(cools)] if cools else []),
            *(["a sink for each head"] if sinks else []),
        ],
        equation=f"softmax({_capped(times(spec.scale, 'q·k'), spec)}{', sink' if sinks else ''})",
        names={"scale": "scores scaled by", "softcap": "scores capped at", "sinks": "attention sinks"},
        tags=[*(["attention sinks"] if sinks else []), *([] if cap is None else ["softcap"])],
        picture=Picture(
            callouts=[
                callout("scores not capped" if cap is None else f"scores capped at {cap}", "softcap", cap is None),
                callout("a sink for each head" if sinks else "no sinks", "sinks", quiet=not sinks),
                callout(phrase(cools) if cools else "no temperature", "temperature", quiet=not cools),
            ]
        ),
    )


def _capped(scores: str, spec: s.Softmax) -> str:
    cap = None if spec.softcap is None else number(spec.softcap)
    return scores if cap is None else f"{cap} · tanh({scores} / {cap})"


def _weights(product: str, attention: s.Attention | s.LatentAttention) -> str:
    """What multiplies the values: softmax(q kᵀ / √128)."""
    scale, positions = _scale(attention), attention.positions
    divided = f"{product} / {scale[2:]}" if scale.startswith("1/") else times(attention.softmax.scale, product)
    scores = _capped(divided, attention.softmax)
    biased = " + bias" if positions and not isinstance(positions, s.RoPE) else ""
    return f"softmax({scores}{biased}{', sink' if attention.softmax.sinks else ''})"


@describes(s.QKNorm)
def _(spec: s.QKNorm) -> Description:
    return Description(
        title=title(spec.norm),
        facts=[
            "of each head" if spec.over == "head" else "of the whole projection",
            *facts(spec.norm),
            *(["after RoPE"] if spec.when == "after_rope" else []),
        ],
        equation=describe(spec.norm).equation,
        names={"over": "norm over", "when": "norm when"},
    )


# Keys and values


@describes(s.KeyValue)
def _(spec: s.KeyValue) -> Description:
    bias = " + b" if spec.bias else ""
    k, v = (f"W_{name} x{bias}" for name in "kv")
    return Description(
        title="two projections",
        equation=f"k = {f'norm({k})' if spec.k_norm else k},  "
        f"v = {times(spec.v_scale, f'norm({v})' if spec.v_norm else v)}",
        names={
            "heads": "key/value heads",
            "k_norm": ("norm", "key"),
            "v_norm": ("norm", "value"),
            "bias": ("biases", "key/value"),
            "v_scale": "values scaled by",
        },
        picture=Picture(steps=own_keys_and_values(spec)),
    )


@describes(s.UnifiedKeyValue)
def _(spec: s.UnifiedKeyValue) -> Description:
    return Description(
        title="one projection",
        facts=[f"then {phrase(spec.norm)}"],
        equation="v = k(x) / √(mean(k²) + ε),  k = RoPE(w ⊙ v)",
        names={"heads": "key/value heads", "bias": ("biases", "key/value")},
        picture=Picture(callouts=[Callout("values are the keys before RoPE")], steps=keys_as_values(spec)),
    )


@describes(s.LayerKeyValue)
def _(spec: s.LayerKeyValue) -> Description:
    return Description(
        title=f"those of layer {spec.layer}",
        equation=f"k, v of layer {spec.layer}",
        names={"layer": "keys and values of layer", "heads": "key/value heads"},
        tags=["shared keys and values"],
        picture=Picture(
            callouts=[Callout("keys and values of an earlier layer")],
            look=replace(spec, layer=0),
            steps=from_elsewhere("of an earlier layer"),
            reference="layer",
        ),
    )


@describes(s.OutputGate)
def _(spec: s.OutputGate) -> Description:
    act = "σ" if spec.act == "sigmoid" else spec.act
    return Description(
        title="output gate",
        facts=[f"of each {spec.over}", spec.act],
        equation=f"{act}(W_g x{' + b' if spec.bias else ''}) ⊙ attention(x)",
        names={"act": "output gate's activation", "over": "output gate over", "bias": ("biases", "output gate")},
        tags=["output gate"],
        picture=Picture(callouts=[Callout(f"{spec.act} gate for each {spec.over}")]),
    )


# What may be changed


def _mask_knobs(mask: s.Mask) -> list[Knob]:
    """How far it sees: 0 is no window."""
    if not isinstance(mask, (s.Causal, s.Window)):
        return []
    size = mask.size if isinstance(mask, s.Window) else 0

    def edits(new: int) -> list[TreeEdit]:
        return [TreeEdit("mask", s.Window(size=new) if new else s.Causal())]

    return [Knob("window", "window (0: sees everything before)", str(size), edits, least=0, most=2**24)]


def _position_knobs(positions: s.Spec | None) -> list[Knob]:
    """RoPE may be dropped."""
    if not isinstance(positions, s.RoPE):
        return []
    choices = {"RoPE": ("RoPE", []), "none": ("none (NoPE)", [TreeEdit("positions", None)])}
    return [choice_knob("positions", "positions", "RoPE", choices)]


def _knobs(spec: s.Attention) -> list[Knob]:
    kv, found = spec.kv, [*_mask_knobs(spec.mask), *_position_knobs(spec.positions)]
    if not isinstance(kv, s.KeyValue):
        return found
    divisors = [n for n in range(1, spec.heads + 1) if spec.heads % n == 0]
    named = {1: "MQA: 1", spec.heads: f"MHA: {spec.heads}"}
    heads = {str(n): (named.get(n, f"GQA: {n}"), [TreeEdit("kv.heads", n)]) for n in divisors}
    found.append(choice_knob("kv_heads", "key/value heads", str(kv.heads), heads))
    norms = [n for n in (spec.q_norm, kv.k_norm) if n]
    if norms:
        without = [TreeEdit("q_norm", None), TreeEdit("kv.k_norm", None)]
        found.append(choice_knob("qk_norm", "QK norm", "there", {"there": ("there", []), "none": ("none", without)}))
    latent = ("multi-head latent attention", [TreeEdit("", _as_latent(spec))])
    kinds = {"heads": ("keys and values of their own", []), "latent": latent}
    return [*found, choice_knob("kind", "keys and values", "heads", kinds)]


def _as_latent(spec: s.Attention) -> s.LatentAttention:
    """Latent attention in the proportions of DeepSeek-V2 (arXiv 2405.04434, section 2.1.3): a latent of four heads'
    size, and a rotary key of half a head."""
    rope, dim = spec.positions, spec.head_dim
    rope_dim = max(2, dim // 4 * 2)
    return s.LatentAttention(
        heads=spec.heads,
        nope_dim=dim,
        rope_dim=rope_dim,
        v_dim=spec.kv.v_dim,
        q=None,
        kv=s.LowRank(rank=4 * dim, norm=s.RMSNorm(eps=1e-6)),
        mask=spec.mask,
        softmax=replace(spec.softmax, scale=float((dim + rope_dim) ** -0.5), sinks=False),
        positions=_narrower(rope, rope_dim) if isinstance(rope, s.RoPE) else None,
    )


def _narrower(rope: s.RoPE, dim: int) -> s.RoPE:
    """The same on fewer channels, without factors and sections that were made for each pair of them."""
    scaling = None if isinstance(rope.scaling, s.LongRoPE) else rope.scaling
    return replace(rope, dim=dim, scaling=scaling, sections=None)


# Attention


def _usual_scale(attention: s.Attention | s.LatentAttention) -> float:
    """What scores are multiplied by where nothing else is said: 1/√(channels of a key)."""
    dim = attention.head_dim if isinstance(attention, s.Attention) else attention.nope_dim + attention.rope_dim
    return float(dim**-0.5)


def _scale(attention: s.Attention | s.LatentAttention) -> str:
    """What scores are multiplied by, as papers write it: the root of a head's size, 1/√64 and not 1/8, but 1/128."""
    scale = attention.softmax.scale
    square = round(scale**-2) if scale else 0
    head = 1 < square <= LARGEST_HEAD and isclose(scale, square**-0.5)
    return f"1/√{number(square)}" if head else root(scale)


def _scaled(attention: s.Attention | s.LatentAttention) -> str:
    """The same as it is said of scores: "÷ √64"."""
    text = _scale(attention)
    return f"÷ {text[2:]}" if text.startswith("1/") else f"× {text}"


def _scores(attention: s.Attention | s.LatentAttention) -> list[str]:
    """How scores become weights, where it is not softmax(q·k / √(head dim))."""
    usual, scale = _usual_scale(attention), attention.softmax.scale
    found = []
    if scale == 1.0:
        found.append("scores not scaled")
    elif not isclose(scale, usual):
        of_usual = f" ({root(usual)} × {number(scale / usual)})" if "." in _scaled(attention) else ""
        found.append(f"scores {_scaled(attention)}{of_usual}")
    return [*found, *facts(attention.softmax)]


def _norms(norms: dict[str, s.Spec | None]) -> list[str]:
    """Norms by what they norm, equal ones together."""
    alike: dict[s.Spec, list[str]] = {}
    for name, norm in norms.items():
        if norm:
            alike.setdefault(norm, []).append(name)
    return [f"{' and '.join(names)}: {phrase(norm)}" for norm, names in alike.items()]


def _biases(spec: s.Attention) -> str:
    """Which projections have a bias: "q, k, v"."""
    own = isinstance(spec.kv, (s.KeyValue, s.UnifiedKeyValue)) and spec.kv.bias
    return ", ".join(name for name, bias in {"q": spec.q_bias, "k": own, "v": own, "o": spec.o_bias}.items() if bias)


def _crosses(spec: s.Attention) -> bool:
    return isinstance(spec.kv, s.EncoderKeyValue)


def _attention_facts(spec: s.Attention) -> list[str]:
    kv = spec.kv
    shared = "" if kv.heads == spec.heads else f", {kv.heads} key/value {'heads' if kv.heads > 1 else 'head'}"
    heads = f"{spec.heads} {'query heads' if shared else 'heads'}{shared} of {number(spec.head_dim)}"
    found = [heads if kv.v_dim == spec.head_dim else f"{heads}, values of {number(kv.v_dim)}"]
    norms: dict[str, s.Spec | None] = {"queries": spec.q_norm}
    if isinstance(kv, s.KeyValue):
        norms |= {"keys": kv.k_norm, "values": kv.v_norm}
        found += [f"values × {number(kv.v_scale)}"] if kv.v_scale != 1.0 else []
    else:
        found.append(f"keys and values: {title(kv)}")
    found += [phrase(spec.mask), phrase(spec.positions) if spec.positions else "no RoPE"]
    if isinstance(spec.positions, s.RoPE) and spec.positions.dim < spec.head_dim:
        found.append(f"RoPE on {spec.positions.dim} of {spec.head_dim} channels")
    found += _norms(norms) + _scores(spec)
    found += [phrase(spec.gate)] if spec.gate else []
    return found + ([f"biases on {biases}"] if (biases := _biases(spec)) else [])


def _attention_callouts(spec: s.Attention) -> list[Callout]:
    kv, gate = spec.kv, spec.gate
    shared = "" if kv.heads == spec.heads else f", {counted(kv.heads, 'key/value head')}"
    gated = callouts(gate)[0].text if gate else "output not gated"
    return [
        callout(counted(spec.heads, "head") + shared, "heads kv.heads"),
        callout(f"head dimension {number(spec.head_dim)}", "head_dim kv.head_dim"),
        callout(f"values of {number(kv.v_dim)}", "kv.v_dim", quiet=kv.v_dim == spec.head_dim),
        *([] if _crosses(spec) else (each.within("mask") for each in callouts(spec.mask))),
        *([] if _crosses(spec) else _positions(spec.positions, spec.head_dim)),
        *_keys(spec),
        *_softmax(spec),
        callout(gated, "gate", quiet=not gate),
    ]


def _keys(spec: s.Attention) -> list[Callout]:
    """Where keys and values come from, and what is special about them."""
    kv, biases = spec.kv, _biases(spec)
    found = [] if isinstance(kv, s.KeyValue) else [each.within("kv") for each in callouts(kv)]
    if not _crosses(spec):
        found += _qk_norm(spec.q_norm, kv.k_norm if isinstance(kv, s.KeyValue) else None)
    if isinstance(kv, s.KeyValue):
        normed = "norm of values" if kv.v_norm else "values not normed"
        found.append(callout(normed, "kv.v_norm", quiet=not kv.v_norm))
        found.append(callout(f"values × {number(kv.v_scale)}", "kv.v_scale", quiet=kv.v_scale == 1.0))
    if isinstance(kv, (s.KeyValue, s.UnifiedKeyValue)):
        words = f"biases on {biases}" if biases else "no biases"
        found.append(callout(words, "q_bias kv.bias o_bias", quiet=not biases))
    return found


def _qk_norm(q: s.QKNorm | None, k: s.QKNorm | None) -> list[Callout]:
    if q and q == k:
        over = "each head" if q.over == "head" else "the whole projection"
        after = ", after RoPE" if q.when == "after_rope" else ""
        return [callout(f"QK norm of {over}{after}", "q_norm kv.k_norm")]
    if q is None and k is None:
        return [callout("no QK norm", "q_norm kv.k_norm", quiet=True)]
    return [
        callout("norm of queries" if q else "queries not normed", "q_norm", quiet=not q),
        callout("norm of keys" if k else "keys not normed", "kv.k_norm", quiet=not k),
    ]


def _positions(positions: s.Spec | None, head_dim: int) -> list[Callout]:
    if positions is None:
        return [callout("no RoPE", "positions")]
    if not isinstance(positions, s.RoPE):
        return [each.within("positions") for each in callouts(positions)]
    part = "" if positions.dim == head_dim else f" on {positions.dim} of {head_dim}"
    pairs = "neighbouring channels" if positions.interleaved else "channels of both halves"
    scaling = positions.scaling
    return [
        callout(f"RoPE{part}, θ = {number(positions.theta)}", "positions.theta positions.dim"),
        *(each.within("positions.scaling") for each in (callouts(scaling) if scaling else ())),
        *([] if scaling else [callout("RoPE not scaled", "positions.scaling", quiet=True)]),
        callout(f"RoPE pairs {pairs}", "positions.interleaved", quiet=True),
    ]


def _softmax(spec: s.Attention | s.LatentAttention) -> list[Callout]:
    scale = spec.softmax.scale
    scaled = callout(f"scores {_scaled(spec)}", "softmax.scale", quiet=isclose(scale, _usual_scale(spec)))
    return [scaled, *(each.within("softmax") for each in callouts(spec.softmax))]


def _scale_aspect(spec: s.Attention | s.LatentAttention) -> Aspect:
    scale = None if isclose(spec.softmax.scale, _usual_scale(spec)) else spec.softmax.scale
    show: Callable[[Any], str] = lambda value: _scale(spec) if value else "1/√(head dim)"  # noqa: E731
    return Aspect("scores scaled by", scale, ("softmax.scale",), show=show)


def _marks(spec: s.Attention | s.LatentAttention, mixer: str) -> dict[str, str]:
    rope = spec.positions
    return {
        "mixer": mixer,
        "mask": (describe(spec.mask).marks or {}).get("mask", phrase(spec.mask)),
        "positions": title(rope) if rope else "NoPE",
        "theta": f"theta {number(rope.theta)}" if isinstance(rope, s.RoPE) else "",
        "kv": f"kv of {spec.kv.layer}" if isinstance(spec.kv, s.LayerKeyValue) else "",
    }


def _contrasts(spec: s.Attention | s.LatentAttention) -> dict[str, str]:
    """Whether the layers of a model differ in how far they see, or in having positions."""
    return {
        "local and global": "global" if spec.mask.window is None else "local",
        "no positions in some layers": "some" if spec.positions else "none",
    }


def _chooser(mask: s.Mask) -> list[Inner]:
    """What chooses the keys, if that has an inside to be shown."""
    return [Inner("mask", mask, "what attention sees")] if describe(mask).picture.inset else []


@describes(s.Attention)
def _(spec: s.Attention) -> Description:
    kv, dim, rope, gate = spec.kv, spec.head_dim, spec.positions, spec.gate
    name, short = ("grouped-query attention", "GQA")
    if kv.heads == spec.heads:
        name, short = ("multi-head attention", "MHA")
    elif kv.heads == 1:
        name, short = ("multi-query attention", "MQA")
    across = _crosses(spec)  # tokens do not meet among themselves
    mixed = f"{_weights('q kᵀ', spec)} v"
    value_dim = None if kv.v_dim == dim else kv.v_dim
    channels = None
    if isinstance(rope, s.RoPE):
        all_of_them = Aspect("RoPE channels", None if rope.dim == dim else rope.dim, ("positions.dim",), mutual=True)
        channels = replace(all_of_them, show=lambda n: "all" if n is None else shown(n))
    return Description(
        title=name,
        short=short,
        facts=_attention_facts(spec),
        equation=f"W_o ({describe(gate).equation}),  attention(x) = {mixed}" if gate else f"W_o {mixed}",
        names={
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
        aspects=[
            Aspect("head dim", dim, ("head_dim", "kv.head_dim")),
            Aspect("value dim", value_dim, ("kv.v_dim",), show=lambda n: "head dim" if n is None else shown(n)),
            *([channels] if channels else []),
            _scale_aspect(spec),
        ],
        marks=_marks(spec, short),
        tags=[
            *([] if across else describe(spec.mask).tags),
            *(["QK norm"] if spec.q_norm else []),
            *describe(spec.softmax).tags,
            *describe(kv).tags,
            *(describe(gate).tags if gate else []),
        ],
        contrasts={} if across else _contrasts(spec),
        filters={} if across else {"attention": short},
        figures={"attention heads": spec.heads},
        knobs=[] if across else _knobs(spec),
        picture=Picture(
            label="Cross-attention" if across else "",
            callouts=_attention_callouts(spec),
            inset=inset,
            look=replace(spec, mask=look(spec.mask), kv=look(kv), positions=rope and look(rope)),
            inner=_chooser(spec.mask),
            steps=_scale(spec),
            looks_across=across,
        ),
    )


@describes(s.LowRank)
def _(spec: s.LowRank) -> Description:
    return Description(
        title="low rank",
        facts=[f"rank {number(spec.rank)}", phrase(spec.norm)],
        equation=f"W_b · {title(spec.norm)}(W_a x)",
        aspects=[Aspect("{role}", spec.rank, ("rank",))],
    )


@describes(s.LatentAttention)
def _(spec: s.LatentAttention) -> Description:
    rank, bias = number(spec.kv.rank), " + b" if spec.bias else ""
    name, rotary = "multi-head latent attention", "RoPE" if spec.positions else ""
    queries = f"queries from a latent of {number(spec.q.rank)}" if spec.q else ""
    product = f"(q_nope·k_nope + {rotary}(q_rope)·{rotary}(k_rope))"
    return Description(
        title=name,
        short="MLA",
        facts=[
            f"{spec.heads} heads: queries and keys of {spec.nope_dim} + {spec.rope_dim} rotary, values of {spec.v_dim}",
            f"keys and values from a latent of {rank}: {phrase(spec.kv.norm)}",
            f"{queries}: {phrase(spec.q.norm)}" if spec.q else "queries directly",
            f"kept per token: {rank} + {spec.rope_dim}",
            phrase(spec.mask),
            phrase(spec.positions) if spec.positions else "no RoPE",
            *_scores(spec),
            *(["biases on the way down and on o"] if spec.bias else []),
        ],
        equation=f"W_o {_weights(product, spec)} v,  (k_nope, v) = W_b · norm(c),  (c, k_rope) = W_a x{bias}"
        + (f",  q = W_qb · norm(W_qa x{bias})" if spec.q else ",  q = W_q x"),
        names={
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
        aspects=[Aspect("head dim with RoPE", spec.rope_dim, ("rope_dim", "positions.dim")), _scale_aspect(spec)],
        marks=_marks(spec, "MLA"),
        tags=[*describe(spec.mask).tags, *describe(spec.softmax).tags],
        contrasts=_contrasts(spec),
        filters={"attention": "MLA"},
        figures={"attention heads": spec.heads},
        knobs=[
            number_knob("rank", "latent of keys and values", spec.kv.rank, "kv.rank", most=2**16),
            *_mask_knobs(spec.mask),
            *_position_knobs(spec.positions),
        ],
        picture=Picture(
            callouts=[
                callout(counted(spec.heads, "head"), "heads"),
                callout(f"head: {spec.nope_dim} + {spec.rope_dim} for scores,", "nope_dim rope_dim"),
                callout(f"{spec.v_dim} for values", "v_dim"),
                callout(
                    f"queries from a latent of {number(spec.q.rank)}" if spec.q else "queries without a latent", "q"
                ),
                callout(f"keys and values from one of {rank}", "kv"),
                callout(f"and a rotary key of {spec.rope_dim}", "rope_dim"),
                *(each.within("mask") for each in callouts(spec.mask)),
                *_positions(spec.positions, spec.rope_dim),
                callout("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
                *_softmax(spec),
            ],
            inset=latent_attention,
            steps=_scale(spec),
            look=replace(spec, mask=look(spec.mask)),
            inner=_chooser(spec.mask),
        ),
    )
