"""What every part of a model does in a step: the operations, the bytes it must move, what devices tell each other.

Everything is read from the spec. Two rules beside it:

- Of E experts of which a token takes k, t tokens touch E · (1 − (1 − k/E)^t) distinct ones on average, if all are
  equally likely and tokens choose for themselves. Only these are read.
- Latent attention has two forms. Absorbed, it works on the latents; expanded, it first makes keys and values of all
  cached latents again. The one with fewer operations is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from ..sharding import exchanges, fullest, share
from ..spec import Decoder, Exchange, Head, Spec, StateEntry
from .counting import Counted, counted, on_the_encoder
from .part import MTP, headed, weightless


@dataclass(frozen=True)
class Mixer:
    """Equal parts without weights of their own work: `count` of them, `encoder_side` if on the encoder's tokens."""

    spec: Spec
    count: int
    encoder_side: bool


@dataclass(frozen=True)
class Sent:
    """What devices exchange for each token at `count` equal places, `encoder_side` if of the encoder's tokens."""

    exchange: Exchange
    count: int
    encoder_side: bool


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
        return sum((2 * w.passes * share(w.weight.dimensions, tensor) for w in used), Fraction(0))

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
    sent: dict[str, Counter[tuple[Exchange, bool]]] = {}
    parts = {}
    for node, part in headed(arch):
        parts[node.path] = part
        if part != MTP and (node.spec.state() or node.spec.flops(2, 2)):
            mixers.setdefault(weightless(part), Counter())[node.spec, on_the_encoder(node)] += 1
    for node, each in exchanges(arch):
        sent.setdefault(parts[node.path], Counter())[replace(each, slot=None), on_the_encoder(node)] += 1
    names = [name for part in dict.fromkeys([*weights, *sent]) for name in (part, weightless(part))]
    names += [name for name in mixers if name not in names]
    return tuple(
        Work(
            name,
            tuple(weights.get(name, ())),
            tuple(
                Mixer(spec, count, encoder_side) for (spec, encoder_side), count in mixers.get(name, Counter()).items()
            ),
            tuple(Sent(each, count, encoder) for (each, encoder), count in sent.get(name, Counter()).items()),
            last=name == Head.part,
        )
        for name in names
        if name in weights or name in mixers or name in sent
    )


# ------------------------------------------------------------------ what has no weights


def prefill_flops(spec: Spec, context: int) -> int:
    """Of one part, over all positions of a prompt."""
    return min(spec.forms(context, context).values(), default=spec.flops(context, context))


def decode_flops(spec: Spec, context: int) -> int:
    """Of one part, for the token at position `context`."""
    return min(spec.forms(context).values(), default=spec.flops(context))


def cut(spec: Spec, tensor: int) -> Fraction:
    """The share of its work without weights that the fullest of `tensor` devices does."""
    axis = spec.work_axis()
    return Fraction(fullest(axis, tensor), axis.count) if axis else Fraction(1)


def written(spec: Spec, context: int) -> list[tuple[StateEntry, int]]:
    """State that a prompt of `context` tokens leaves behind, and the elements of each that are written once and read
    once."""
    return [(state, 2 * state.elements(context)) for state in spec.state().values()]


def forms(parts: Iterable[Work], context: int) -> Mapping[str, str]:
    """The form that prefill and decoding take of parts that have several; empty without them."""
    found: dict[str, str] = {}
    for phase, tokens in (("prefill", context), ("decode", 1)):
        sums: Counter[str] = Counter()
        for m in (mixer for part in parts for mixer in part.mixers):
            sums.update({form: m.count * value for form, value in m.spec.forms(context, tokens).items()})
        if sums:
            found[phase] = min(sums, key=sums.__getitem__)
    return found
