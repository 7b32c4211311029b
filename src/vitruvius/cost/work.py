"""What every part of a model does in a step: the operations, the bytes it must move, what devices tell each other.

Everything is read from the spec. Two rules beside it:

- Of E experts of which a token takes k, t tokens touch E · (1 − (1 − k/E)^t) distinct ones on average, if all are
  equally likely and tokens choose for themselves. Only these are read.
- Latent attention has two forms. Absorbed, it works on the latents; expanded, it first makes keys and values of all
  cached latents again. The one with fewer operations is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..spec import (
    MLP,
    Attention,
    Branch,
    Decoder,
    EncoderKeyValue,
    Fixed,
    GatedMLP,
    Head,
    LatentAttention,
    LayerKeyValue,
    MoE,
    Node,
    Spec,
    UnifiedKeyValue,
)
from .counting import Counted, counted, on_the_encoder
from .memory import share
from .part import MTP, headed, weightless
from .policies import held

Form = Literal["expanded", "absorbed"]


@dataclass(frozen=True)
class Mixer:
    """Equal parts without weights of their own work: `count` of them, `once` on the encoder's tokens only."""

    spec: Spec
    count: int
    encoder_side: bool


@dataclass(frozen=True)
class Sent:
    """What devices exchange for each token, for `count` equal places.

    "reduce": each holds a part of a sum over `channels`, all need the sum. "gather": each holds some of the channels,
    all need all. "spread": a token goes to the devices that hold its `active` experts, and what they make of it back.
    `when` says with which placing of experts.
    """

    kind: Literal["reduce", "gather", "spread"]
    channels: int
    count: int = 1
    active: int = 0
    when: Literal["always", "cut", "spread"] = "always"


@dataclass(frozen=True)
class Work:
    """One part's work. `last` means that of a prompt it sees the last token only (the head)."""

    part: str
    weights: tuple[Counted, ...] = ()
    mixers: tuple[Mixer, ...] = ()
    sent: tuple[Sent, ...] = ()
    last: bool = False

    def products(self, prompt: bool, tensor: int = 1) -> Fraction:
        """Operations of matrix products for one token, on one of `tensor` devices."""
        used = [w for w in self.weights if w.product and (prompt or not w.encoder_side)]
        return sum((2 * w.passes * share(w.weight, tensor) for w in used), Fraction(0))

    def scores(self, context: int, prompt: bool, tensor: int = 1) -> Fraction:
        """Operations without weights for the token at position `context`, or for a whole prompt, of one sequence on one
        of `tensor` devices."""
        count = prefill_flops if prompt else decode_flops
        used = [m for m in self.mixers if prompt or not m.encoder_side]
        return sum((m.count * count(m.spec, context) * cut(m.spec, tensor) for m in used), Fraction(0))


def work(arch: Decoder) -> tuple[Work, ...]:
    """All parts, in the order of computation; multi-token prediction is none of them."""
    weights: dict[str, list[Counted]] = {}
    for weight in counted(arch):
        if weight.part != MTP:
            weights.setdefault(weight.part, []).append(weight)
    mixers: dict[str, Counter[tuple[Spec, bool]]] = {}
    sent: dict[str, list[Sent]] = {}
    for node, part in headed(arch):
        if part == MTP:
            continue
        if _mixes(node.spec):
            mixers.setdefault(weightless(part), Counter())[node.spec, on_the_encoder(node)] += 1
        for place, each in _sent(node, part):
            sent.setdefault(place, []).append(each)
    names = [name for part in dict.fromkeys([*weights, *sent]) for name in (part, weightless(part))]
    names += [name for name in mixers if name not in names]
    return tuple(
        Work(
            name,
            tuple(weights.get(name, ())),
            tuple(
                Mixer(spec, count, encoder_side) for (spec, encoder_side), count in mixers.get(name, Counter()).items()
            ),
            _together(sent.get(name, ())),
            last=name == Head.part,
        )
        for name in names
        if name in weights or name in mixers or name in sent
    )


def _mixes(spec: Spec) -> bool:
    return bool(spec.state()) or spec.flops(2, 2) > 0


def _sent(node: Node, part: str) -> Iterator[tuple[str, Sent]]:
    """Where Megatron-LM's cuts need an exchange (arXiv 1909.08053, section 3): after every block's last matrix."""
    above = node.above[-1] if node.above else None
    if isinstance(node.spec, Head):
        yield part, Sent("gather", node.spec.vocab)
    elif node.path == "embedding":
        yield part, Sent("reduce", node.width)
    elif isinstance(above, Branch) and node.path.endswith(".body"):
        if isinstance(node.spec, MoE):
            moe = node.spec
            yield part, Sent("reduce", node.width, when="cut")
            yield part, Sent("spread", moe.latent or node.width, active=moe.router.active, when="spread")
            if moe.shared:
                yield "shared experts", Sent("reduce", node.width, when="spread")
        elif (node.spec.mixes and node.spec.part) or isinstance(node.spec, MLP | GatedMLP):
            yield part, Sent("reduce", node.width)


def _together(sent: Iterable[Sent]) -> tuple[Sent, ...]:
    return tuple(Sent(s.kind, s.channels, n, s.active, s.when) for s, n in Counter(sent).items())


# ------------------------------------------------------------------ what has no weights


def prefill_flops(spec: Spec, context: int) -> int:
    """Of one part, over all positions of a prompt."""
    if isinstance(spec, LatentAttention):
        return min(latent_flops(spec, context, context).values())
    return spec.flops(context, tokens=context)


def decode_flops(spec: Spec, context: int) -> int:
    """Of one part, for the token at position `context`."""
    if isinstance(spec, LatentAttention):
        return min(latent_flops(spec, context, 1).values())
    return spec.flops(context)


def latent_flops(spec: LatentAttention, context: int, tokens: int) -> dict[Form, int]:
    """Operations of both forms, for the `tokens` tokens that end at `context`: kv_b makes keys and values of the
    tokens before them again where attention is expanded. (Of the new ones it does so in both, as their weights say.)"""
    earlier = max(_visible(spec, context) - tokens, 0)
    again = 2 * spec.kv.rank * spec.heads * (spec.nope_dim + spec.v_dim) * earlier
    return {
        "expanded": spec.flops(context, tokens, "expanded") + again,
        "absorbed": spec.flops(context, tokens, "absorbed"),
    }


def _visible(spec: Attention | LatentAttention, context: int) -> int:
    """The keys that the query at position `context` sees."""
    if isinstance(spec, Attention) and isinstance(spec.kv, EncoderKeyValue):
        return context
    return spec.mask.pairs(context) - spec.mask.pairs(context - 1)


def cut(spec: Spec, tensor: int) -> Fraction:
    """The share of its work that one of `tensor` devices does: query heads are cut, an indexer's are not."""
    if isinstance(spec, Attention | LatentAttention):
        return Fraction(-(-spec.heads // tensor), spec.heads)
    return held(spec, tensor)


def read(spec: Spec, context: int) -> dict[str | None, int]:
    """Elements of state that the token at position `context` reads and writes, by the dtype that the architecture
    fixes: the keys that it sees (not all that are kept), a recurrence's memory there and back, and the new entry."""
    found: Counter[str | None] = Counter()
    if isinstance(spec, Attention | LatentAttention):
        borrowed = isinstance(spec, Attention) and isinstance(spec.kv, LayerKeyValue | EncoderKeyValue)
        found[None] = _entry(spec) * (_visible(spec, context) + (0 if borrowed else 1))
        return found
    for state in spec.state().values():
        if isinstance(state, Fixed):
            found[state.dtype] += 2 * state.elements(context)
        else:
            found[state.dtype] += state.elements(context) + state.elements(1)
    return found


def written(spec: Spec, context: int) -> dict[str | None, int]:
    """Elements of state that a prompt of `context` tokens leaves behind, written once and read once."""
    found: Counter[str | None] = Counter()
    for state in spec.state().values():
        found[state.dtype] += 2 * state.elements(context)
    return found


def _entry(spec: Attention | LatentAttention) -> int:
    """Elements of one token's keys and values."""
    if isinstance(spec, LatentAttention):
        return spec.kv.rank + spec.rope_dim
    if isinstance(spec.kv, UnifiedKeyValue):
        return spec.kv.heads * spec.kv.head_dim
    return spec.kv.heads * (spec.kv.head_dim + spec.kv.v_dim)


def forms(parts: Iterable[Work], context: int) -> Mapping[str, Form]:
    """The form of latent attention that prefill and decoding take; empty without it."""
    latent = [m for part in parts for m in part.mixers if isinstance(m.spec, LatentAttention)]
    found: dict[str, Form] = {}
    for phase, tokens in (("prefill", context), ("decode", 1)):
        sums: Counter[Form] = Counter()
        for m in latent:
            assert isinstance(m.spec, LatentAttention)
            sums.update({form: m.count * value for form, value in latent_flops(m.spec, context, tokens).items()})
        if sums:
            found[phase] = min(sums, key=sums.__getitem__)
    return found
