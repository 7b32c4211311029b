"""The inside of mixers whose memory does not grow with the sequence: what is written into it, what is read, and the way
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ... import spec as s
from ...cost.quantity import number
from ..description import factor, phrase, times
from .card import BETWEEN, PILL, ROW, TALL, Card, Inside, Letters
from .scene import Rect, Region
from .sketch import ARROW, INNER, LABEL, SMALL, SUB, Column, Highlight, widest

ACTS = {"silu": "SiLU", "sigmoid": "σ"}


@dataclass(frozen=True)
class Entrance:
    """A stream of the input that goes into the memory.

    Args:
        slot: its weight, and the `fields` that its size hangs on.
        steps: (text, fields, about) of what happens to it on its way.
    """

    slot: str
    label: str
    size: str
    fields: str
    steps: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Recurrence:
    """What a recurrence keeps, as its inset shows it: how it changes with a token, its size, and what is read of it."""

    update: str
    size: str
    output: str
    fields: str


def gated_delta_net(inside: Inside[s.GatedDeltaNet], width: int, letters: Letters, highlight: Highlight) -> Region:
    """Queries, keys and values through a convolution, a decay and a rate for each head."""
    spec = inside.spec
    keys, values = f"{spec.k_heads} × {spec.k_dim}", f"{spec.v_heads} × {spec.v_dim}"
    conv, length = _convolution(spec.conv), ("length 1", "", "each head's vector divided by its length")
    entrances = [
        Entrance("q", "Query", keys, "k_heads k_dim", [conv, length]),
        Entrance("k", "Key", keys, "k_heads k_dim", [conv, length]),
        Entrance("v", "Value", values, "v_heads v_dim", [conv]),
        Entrance("decay", "Decay α", f"{spec.v_heads}", "v_heads", [_decay()]),
        Entrance("beta", "Rate β", f"{spec.v_heads}", "v_heads", [(times(spec.beta_scale, "σ"), "beta_scale", "")]),
    ]
    memory = Recurrence(
        "S ← α S + β k × (v − α k · S)",
        f"{spec.v_heads} × {spec.k_dim} × {spec.v_dim}",
        "y = q · S",
        "v_heads k_dim v_dim memory_dtype",
    )
    size = spec.v_heads * spec.v_dim
    return _recurrence(
        inside, highlight, entrances, memory, spec.norm, ("gate", values, "gate v_heads v_dim"), ("o", size, width)
    )


def kimi_delta(inside: Inside[s.KimiDelta], width: int, letters: Letters, highlight: Highlight) -> Region:
    """As Gated DeltaNet, with a decay for each channel of a key."""
    spec = inside.spec
    heads, rank = f"{spec.heads} × {spec.head_dim}", f"through {number(spec.gate_rank)} channels"
    conv, length = _convolution(spec.conv), ("length 1", "", "each head's vector divided by its length")
    entrances = [
        Entrance("q", "Query", heads, "heads head_dim", [conv, length]),
        Entrance("k", "Key", heads, "heads head_dim", [conv, length]),
        Entrance("v", "Value", heads, "heads head_dim", [conv]),
        Entrance("decay_a", "Decay α", heads, "decay_b gate_rank heads head_dim", [_decay(rank)]),
        Entrance("beta", "Rate β", f"{spec.heads}", "heads", [("σ", "", "")]),
    ]
    memory = Recurrence(
        "S ← α S + β k × (v − k · α S)",
        f"{spec.heads} × {spec.head_dim} × {spec.head_dim}",
        "y = q · S",
        "heads head_dim memory_dtype",
    )
    gate = ("gate_a", heads, "gate_b gate_rank heads head_dim")
    return _recurrence(inside, highlight, entrances, memory, spec.norm, gate, ("o", spec.heads * spec.head_dim, width))


def mamba2(inside: Inside[s.Mamba2], width: int, letters: Letters, highlight: Highlight) -> Region:
    """x, b and c through a convolution, a time step for each head, a gate on what is read."""
    spec = inside.spec
    x, group, conv = f"{spec.heads} × {spec.head_dim}", f"{spec.groups} × {spec.state_dim}", _convolution(spec.conv)
    least, most = spec.dt_limit
    within = f", within {number(least)} and {'no limit' if most is None else number(most)}"
    about = "softplus(dt + bias)" + (within if least or most is not None else "")
    scaled = "multipliers" if spec.multipliers else ""
    factors = dict(zip(("z", "x", "b", "c", "dt"), map(factor, spec.multipliers or ()), strict=False))
    times = {name: [(text, "multipliers", "")] for name, text in factors.items()}
    entrances = [
        Entrance("in_proj", "c", group, f"groups state_dim {scaled}", [*times.get("c", []), conv]),
        Entrance("in_proj", "b", group, f"groups state_dim {scaled}", [*times.get("b", []), conv]),
        Entrance("in_proj", "x", x, f"heads head_dim {scaled}", [*times.get("x", []), conv]),
        Entrance(
            "in_proj",
            "Step dt",
            f"{spec.heads}",
            f"heads {scaled}",
            [*times.get("dt", []), ("softplus", "dt_bias dt_limit", about)],
        ),
    ]
    memory = Recurrence(
        "S ← exp(−A · dt) S + dt · b × x",
        f"{spec.heads} × {spec.state_dim} × {spec.head_dim}",
        "y = c · S + D · x",
        "heads state_dim head_dim memory_dtype",
    )
    gate = ("in_proj", x, f"in_proj heads head_dim {scaled}")
    way_out = ("out_proj", spec.heads * spec.head_dim, width)
    return _recurrence(inside, highlight, entrances, memory, spec.norm, gate, way_out, "z", factors.get("z", ""))


def short_convolution(inside: Inside[s.ShortConv], width: int, letters: Letters, highlight: Highlight) -> Region:
    """out(c · conv(b · x))."""
    spec, card = inside.spec, Card(inside, "attention", highlight)
    dim, bias = number(spec.dim), " + bias" if spec.bias else ""
    wide = max(84.0, widest([f"{dim}{bias}"], SUB) + 16)
    step = wide + BETWEEN
    b, x, c = (card.column(place, wide, source=0.0) for place in (-step, 0.0, step))
    card.input(0.0)
    for column, name in ((b, "b"), (x, "x"), (c, "c")):
        card.step(name, column.next(TALL), name, f"{dim}{bias}", fields="in_proj dim bias", size=LABEL)
    product = card.sketch.join("product", "×", x.joint()).rect
    b.turn((b.x, product.center[1]), (product.x, product.center[1]))
    _kept(card, x.next(PILL, 64), "conv", f"the last {spec.conv.kernel - 1} tokens' products")
    text, fields, about = _convolution(spec.conv)
    card.step("conv", x.next(ROW), text, fields=fields, about=about)
    gated = card.sketch.join("gated", "×", x.joint()).rect
    c.turn((c.x, gated.center[1]), (gated.right, gated.center[1]))
    size = f"{dim} → {number(width)}{bias}"
    card.step("o", x.next(TALL, max(wide, 132.0)), "Output projection", size, fields="out_proj dim bias", size=LABEL)
    return card.done(x)


def _convolution(conv: s.Convolution) -> tuple[str, str, str]:
    return f"conv {conv.kernel}{f', {ACTS[conv.act]}' if conv.act else ''}", "conv", phrase(conv)


def _decay(about: str = "") -> tuple[str, str, str]:
    formula = "exp(−exp(A_log) · softplus(a + dt_bias))"
    return "α ≤ 1", "A_log", f"α = {formula}{f', {about}' if about else ''}"


def _kept(card: Card, rect: Rect, fields: str, about: str) -> None:
    card.step(f"{fields}.cached", rect, "cached", fields=fields, role="cache", shape="pill", size=SMALL, about=about)


def _recurrence(
    inside: Inside[s.Spec],
    highlight: Highlight,
    entrances: Sequence[Entrance],
    memory: Recurrence,
    norm: s.GatedNorm | None,
    gate: tuple[str, str, str],
    way_out: tuple[str, int, int],
    gate_name: str = "Gate",
    gate_factor: str = "",
) -> Region:
    """The streams side by side, the memory over them, what is read of it, normed and gated, and the projection back."""
    card = Card(inside, "attention", highlight)
    slot, size, fields = gate
    sizes = [*(each.size for each in entrances), size]
    labels = [each.label for each in entrances]
    texts = [text for each in entrances for text, *_ in each.steps]
    wide = max(62.0, widest(sizes, SUB) + 14, widest(labels, LABEL) + 12, widest(texts, INNER) + 10)
    step = wide + BETWEEN
    places = [i * step for i in range(len(entrances) + 1)]
    source = places[len(entrances) // 2]
    columns = [card.column(x, wide, source=source) for x in places]
    card.input(source)
    for i, (column, each) in enumerate(zip(columns, entrances, strict=False)):
        card.step(
            f"{i}.{each.slot}",
            column.next(TALL),
            each.label,
            each.size,
            fields=f"{each.slot} {each.fields}",
            size=LABEL,
        )
        for text, own, about in each.steps:
            card.step(f"{i}.{text}", column.next(ROW), text, fields=own or each.slot, about=about)
    *into, aside = columns
    bottom = min(column.y for column in into) - ARROW
    for column in into:
        column.arrow(bottom)
    left, right = into[0].x - wide / 2, into[-1].x + wide / 2
    rect = Rect(left, bottom - TALL, right - left, TALL)
    kept = f"{memory.size}, kept for each sequence"
    card.step("memory", rect, memory.update, kept, fields=memory.fields, role="cache", about=kept)
    out = card.column((left + right) / 2, max(right - left - 2 * step, 190.0), rect.y)
    card.step("read", out.next(ROW), memory.output, fields=memory.fields)
    card.step(slot, aside.next(TALL), gate_name, size, fields=fields, size=LABEL)
    if gate_factor:
        card.step("gate.factor", aside.next(ROW), gate_factor, fields="multipliers")
    act = ACTS[norm.act if norm else "silu"]
    card.step("gate.act", aside.next(ROW), act, fields="norm" if norm else slot)
    if norm and not norm.gate_first:
        card.norm(out, "norm", norm, "norm")
    _gated(card, aside, out)
    if norm and norm.gate_first:
        card.norm(out, "norm", norm, "norm")
    name, inner, width = way_out
    text = f"{number(inner)} → {number(width)}"
    card.step("o", out.next(TALL), "Output projection", text, fields=name, size=LABEL)
    return card.done(out)


def _gated(card: Card, gate: Column, out: Column) -> None:
    product = card.sketch.join("gate.product", "×", out.joint()).rect
    gate.turn((gate.x, product.center[1]), (product.right, product.center[1]))
