"""The inside of attention: of the usual kind, and with latent keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ... import spec as s
from ...cost.quantity import number
from ..description import describe, label, phrase, title
from .card import BETWEEN, PILL, ROW, TALL, Card, Inside, Letters
from .scene import Rect, Region
from .sketch import ARROW, INNER, LABEL, SMALL, SUB, Column, Highlight, widest

ROTATION = "rotation"  # the `steps` of positions that turn queries and keys; others are added to the scores


@dataclass(frozen=True)
class KeyValueSteps:
    """How keys and values get into the inset of attention: what draws their two columns, how wide their texts are, and
    whether they are made from the layer's own input."""

    draw: Callable[[Card, s.Attention, Column, Column], None]
    sizes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    made_here: bool = True


def attention(inside: Inside[s.Attention], width: int, letters: Letters, highlight: Highlight) -> Region:
    """Queries, keys and values of every head, their scores, and the way out."""
    spec, card = inside.spec, Card(inside, "attention", highlight)
    keys_and_values: KeyValueSteps = describe(spec.kv).picture.steps or from_elsewhere(title(spec.kv))
    size = _size(spec.heads, spec.head_dim, spec.q_bias)
    wide = _column_width(spec, size, keys_and_values)
    step = wide + BETWEEN
    source = 0.0 if keys_and_values.made_here else -step
    q, k, v = (card.column(x, wide, source=source) for x in (-step, 0.0, step))
    card.input(source)
    card.step("q", q.next(TALL), "Query", size, fields="q heads head_dim q_bias", size=LABEL)
    _norm_and_rope(card, q, spec.q_norm, "q_norm", spec.positions)
    keys_and_values.draw(card, spec, k, v)
    out = f"{number(spec.heads * spec.kv.v_dim)} → {number(width)}{_bias(spec.o_bias)}"
    gate = None
    if spec.gate:
        gates = f"{spec.heads} × {spec.kv.v_dim}" if spec.gate.over == "channel" else number(spec.heads)
        gate = (spec.gate, gates, card.column(2 * step, wide, source=source))
    return _weighted_sum(card, spec, (q, k, v), gate, out, "o heads kv.v_dim o_bias", letters)


def _column_width(spec: s.Attention, size: str, keys_and_values: KeyValueSteps) -> float:
    """One width for the columns of queries, keys and values, so that the longest text fits."""
    labels = [title(spec.q_norm)] if spec.q_norm else []
    labels += ["× temperature"] if spec.softmax.temperature else []
    labels += keys_and_values.labels
    return max(84.0, widest([size, *keys_and_values.sizes], SUB) + 16, widest(labels, INNER) + 12)


def _size(heads: int, dim: int, bias: bool) -> str:
    return f"{heads} × {dim}{_bias(bias)}"


def _bias(has: bool) -> str:
    return " + bias" if has else ""


def from_elsewhere(origin: str) -> KeyValueSteps:
    """Keys and values that another part has made."""

    def draw(card: Card, spec: s.Attention, k: Column, v: Column) -> None:
        for column, text in ((k, "Key"), (v, "Value")):
            rect = Rect(column.x - column.width / 2, -ARROW - TALL, column.width, TALL)
            card.step(text.lower(), rect, text, origin, fields="kv", role="cache", size=LABEL)
            column.leave(rect.y)

    return KeyValueSteps(draw, sizes=(origin,), made_here=False)


def own_keys_and_values(kv: s.KeyValue) -> KeyValueSteps:
    """A projection for the keys and one for the values."""
    keys, values = _size(kv.heads, kv.head_dim, kv.bias), _size(kv.heads, kv.v_dim, kv.bias)

    def draw(card: Card, spec: s.Attention, k: Column, v: Column) -> None:
        card.step("k", k.next(TALL), "Key", keys, fields="kv.k kv.heads kv.head_dim kv.bias", size=LABEL)
        card.step("v", v.next(TALL), "Value", values, fields="kv.v kv.heads kv.v_dim kv.bias", size=LABEL)
        _norm_and_rope(card, k, kv.k_norm, "kv.k_norm", spec.positions)
        if kv.v_norm:
            card.norm(v, "kv.v_norm", kv.v_norm, "kv.v_norm")
        if kv.v_scale != 1.0:
            card.step("kv.v_scale", v.next(ROW), f"× {number(kv.v_scale)}", fields="kv.v_scale")
        if not spec.state():
            return
        level = min(k.y, v.y)
        for column, slot in ((k, "kv.k"), (v, "kv.v")):
            column.to(level)
            _cached(card, f"{slot}.cached", column.next(PILL, 64), "", f"{slot} kv.heads kv.head_dim kv.v_dim")

    norms = tuple(title(norm) for norm in (kv.k_norm, kv.v_norm) if norm)
    return KeyValueSteps(draw, sizes=(_size(kv.heads, max(kv.head_dim, kv.v_dim), kv.bias),), labels=norms)


def keys_as_values(kv: s.UnifiedKeyValue) -> KeyValueSteps:
    """One projection for both: the keys are the values, scaled and rotated."""
    size, fields = _size(kv.heads, kv.head_dim, kv.bias), "kv.k kv.heads kv.head_dim kv.bias"

    def draw(card: Card, spec: s.Attention, k: Column, v: Column) -> None:
        both = card.column((k.x + v.x) / 2, v.x - k.x + k.width, source=0.0)
        card.step("k", both.next(TALL), "Key and value", size, fields=fields, size=LABEL)
        card.norm(both, "kv.norm", kv.norm, "kv")
        _cached(card, "kv.cached", both.next(PILL, 64), "", "kv")
        for column in (k, v):
            column.follow(both)
        card.step("kv.weight", k.next(ROW), "× weight", fields="kv", about="the norm's weight, for the keys only")
        _norm_and_rope(card, k, None, "kv", spec.positions)

    return KeyValueSteps(draw)


def _norm_and_rope(card: Card, column: Column, norm: s.QKNorm | None, slot: str, positions: s.Spec | None) -> None:
    """The norm of queries or keys and their rotation, in this order or the other."""
    late = norm is not None and norm.when == "after_rope"
    if norm and not late:
        card.norm(column, slot, norm, slot)
    if positions and _rotates(positions):
        card.step(f"{slot}.rope", column.next(ROW), "RoPE", fields="positions", about=phrase(positions))
    if norm and late:
        card.norm(column, slot, norm, slot)


def _rotates(positions: s.Spec) -> bool:
    return describe(positions).picture.steps == ROTATION


def _cached(card: Card, name: str, rect: Rect, sub: str, fields: str) -> None:
    """What generation keeps for each token."""
    about = "kept for each token"
    card.step(name, rect, "cached", sub, fields=fields, role="cache", shape="pill", size=SMALL, about=about)


def _weighted_sum(
    card: Card,
    spec: s.Attention | s.LatentAttention,
    columns: tuple[Column, Column, Column],
    gate: tuple[s.OutputGate, str, Column] | None,
    size: str,
    fields: str,
    letters: Letters,
) -> Region:
    """Softmax of the queries' products with the keys, the values summed by it, and the projection back."""
    q, k, v = columns
    left, right, split = q.x - q.width / 2, v.x + v.width / 2, k.x + k.width / 2
    softmax, scale = spec.softmax, describe(spec).picture.steps
    if softmax.temperature:
        about = phrase(softmax.temperature)
        card.step("temperature", q.next(ROW), "× temperature", fields="softmax.temperature", about=about)
    bottom = min(q.y, k.y) - ARROW
    for column in (q, k):
        column.arrow(bottom)
    scores = card.column((left + split) / 2, split - left, bottom)
    product = f"q · k {'÷ ' + scale[2:] if scale.startswith('1/') else '× ' + scale}"
    card.step("scores", Rect(left, bottom - ROW, split - left, ROW), product, fields="softmax.scale")
    scores.leave(bottom - ROW)
    if softmax.softcap is not None:
        cap = number(softmax.softcap)
        card.step("softcap", scores.next(ROW), f"{cap} · tanh(scores ÷ {cap})", fields="softmax.softcap")
    if spec.positions and not _rotates(spec.positions):
        text = label(spec.positions)
        card.step("positions", scores.next(ROW), text, fields="positions", about=phrase(spec.positions))
    text = f"{label(spec.mask)}{' with sinks' if softmax.sinks else ''}"
    chosen = card.step("softmax", scores.next(ROW), text, fields="mask softmax.sinks", about=phrase(spec.mask))
    if spec.mask in letters:
        card.sketch.badge("softmax.badge", letters[spec.mask], (chosen.rect.right, chosen.rect.y), card.role)
    bottom = scores.y - ARROW
    scores.arrow(bottom)
    v.arrow(bottom)
    card.step("sum", Rect(left, bottom - ROW, right - left, ROW), "weighted sum of values", fields="")
    out = card.column((left + right) / 2, right - left, bottom - ROW)
    if gate:
        _gated(card, *gate, out)
    card.step("o", out.next(TALL), "Output projection", size, fields=fields, size=LABEL)
    return card.done(out)


def _gated(card: Card, gate: s.OutputGate, size: str, column: Column, out: Column) -> None:
    """The gate, made from the input, multiplies what the heads have found."""
    card.step("gate", column.next(TALL), "Gate", size, fields="gate", size=LABEL)
    card.step("gate.act", column.next(ROW), gate.act, fields="gate.act")
    times = card.sketch.join("gate.product", "×", out.joint()).rect
    column.turn((column.x, times.center[1]), (times.right, times.center[1]))


def latent_attention(inside: Inside[s.LatentAttention], width: int, letters: Letters, highlight: Highlight) -> Region:
    """The latents that queries, keys and values are made of, and the rotary key that all heads share."""
    spec = inside.spec
    card, rank, rope = Card(inside, "attention", highlight), number(spec.kv.rank), spec.rope_dim
    bias = " + bias" if spec.bias else ""
    queries, pairs = f"{spec.heads} × ({spec.nope_dim} + {rope})", f"{spec.heads} × ({spec.nope_dim} + {spec.v_dim})"
    down = f"{number(width)} → {number(spec.q.rank)}{bias}" if spec.q else ""
    wide, narrow = max(108.0, widest([queries, down], SUB) + 16), 78.0
    both = max(2 * narrow + BETWEEN, widest([pairs], SUB) + 16)
    narrow = (both - BETWEEN) / 2
    rotary = wide / 2 + BETWEEN + narrow / 2
    latent = rotary + narrow / 2 + BETWEEN + both / 2
    source = (rotary - narrow / 2 + latent + both / 2) / 2
    q = card.column(0.0, wide, source=source)
    kv_down = card.column(source, narrow + BETWEEN + both, source=source)
    card.input(source)
    if spec.q:
        card.step("q_a", q.next(TALL), "Query, down", down, fields="q_a q bias")
        card.norm(q, "q_norm", spec.q.norm, "q")
    text = f"{number(width)} → {rank} + {rope}{bias}"
    card.step("kv_a", kv_down.next(TALL), "Key and value, down", text, fields="kv_a kv rope_dim bias")
    key, kv = card.column(rotary, narrow, kv_down.y), card.column(latent, both, kv_down.y)
    card.norm(kv, "kv_norm", spec.kv.norm, "kv")
    if spec.positions:
        card.step("rope-k", key.next(ROW), "RoPE", fields="positions", about=phrase(spec.positions))
    key.to(kv.y)
    _cached(card, "key.cached", key.next(34, narrow), f"{rope}, shared", "rope_dim")
    _cached(card, "latent.cached", kv.next(34, both), f"{rank} for all heads", "kv")
    q.to(kv.y)
    card.step(
        "q_b",
        q.next(TALL),
        "Query, up" if spec.q else "Query",
        queries,
        fields="q_b q heads nope_dim rope_dim" if spec.q else "q heads nope_dim rope_dim",
    )
    card.step("kv_b", kv.next(TALL), "Key and value, up", pairs, fields="kv_b heads nope_dim v_dim kv")
    if spec.positions:
        card.step("rope-q", q.next(ROW), f"RoPE on {rope}", fields="positions", about=phrase(spec.positions))
    step = (narrow + BETWEEN) / 2
    k, v = card.column(latent - step, narrow, kv.y), card.column(latent + step, narrow, kv.y)
    card.step("k", k.next(ROW), f"k: {spec.nope_dim}", fields="nope_dim")
    card.step("v", v.next(ROW), f"v: {spec.v_dim}", fields="v_dim")
    key.arrow(min(q.y, k.y) - ARROW)
    size = f"{number(spec.heads * spec.v_dim)} → {number(width)}{bias}"
    return _weighted_sum(card, spec, (q, k, v), None, size, "o heads v_dim bias", letters)
