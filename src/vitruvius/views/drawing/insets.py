"""Cards that show the inside of attention, feed-forward layers, experts and multi-token prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from ... import spec as s
from ...cost.quantity import number
from ..words import phrase, root, title
from .font import wrap
from .notes import activation, label, shared_body
from .scene import Differs, Part, Point, Rect, Text, group
from .sketch import ARROW, INNER, LABEL, RADIUS, SMALL, SUB, Column, Highlight, Sketch, around, widest

PADDING = 18.0
ROW, TALL, PILL = 27.0, 40.0, 20.0  # heights: one line of text, two, a small mark
BETWEEN = 14.0  # columns

Letters = Mapping[s.Spec, str]  # which card shows the inside of a part


@dataclass(frozen=True)
class Inside:
    """Something whose inside is shown once.

    Args:
        spec: the first of those that look so.
        letter: what marks it, here and where it stands.
        paths: of all parts that look so.
        made_so: the different specs among them.
        lines: what stands below the title.
    """

    spec: s.Spec
    letter: str
    paths: tuple[str, ...]
    made_so: tuple[s.Spec, ...]
    lines: tuple[str, ...] = ()


class Card:
    """The sketch of one inside: its steps, highlighted where one of their fields differs in one of its places."""

    def __init__(self, inside: Inside, role: str, highlight: Highlight) -> None:
        self.inside, self.role = inside, role
        self.sketch = Sketch(f"inside.{inside.paths[0]}.steps", highlight)

    def column(self, x: float, width: float, y: float = 0.0, source: float | None = None) -> Column:
        """A stream; one with a `source` begins with the input."""
        via: tuple[Point, ...] = ()
        if source is not None:
            via = ((source, ARROW), (source, 0.0)) if x != source else ((source, ARROW),)
        return Column(self.sketch, x, y, width, via)

    def input(self, source: float) -> None:
        self.sketch.text("input", "input", source, ARROW + 12)

    def step(
        self,
        name: str,
        rect: Rect,
        text: str,
        sub: str = "",
        *,
        fields: str,
        role: str = "",
        shape: Literal["box", "pill"] = "box",
        size: float = INNER,
        about: str = "",
    ) -> Part:
        """A box that shows `fields`, names separated by spaces."""
        paths = [f"{path}.{field}" for path in self.inside.paths for field in fields.split()]
        differs = self.sketch.highlight.fields(*paths)
        path = f"{self.inside.paths[0]}.{fields.split()[0]}" if fields else self.inside.paths[0]
        look = role or self.role
        return self.sketch.box(
            name, rect, text, sub, role=look, path=path, differs=differs, shape=shape, size=size, about=about
        )

    def norm(self, column: Column, slot: str, spec: s.Spec, field: str) -> None:
        """The norm in `slot`, which `field` holds."""
        marked = self.sketch.highlight
        differs: Differs = "whole" if any(marked.marks(f"{path}.{field}") for path in self.inside.paths) else ""
        differs = differs or marked.fields(*(f"{path}.{field}.norm" for path in self.inside.paths))
        path = f"{self.inside.paths[0]}.{slot}"
        name, about = title(spec), phrase(spec)
        self.sketch.box(slot, column.next(ROW), name, role="norm", path=path, differs=differs, size=INNER, about=about)

    def done(self, output: Column) -> Part:
        """The card around what was sketched, its upper left corner at (0, 0)."""
        output.arrow(output.y - ARROW)
        self.sketch.text("output", "output", output.x, output.y - ARROW - 5)
        content, inside = self.sketch.done(), self.inside
        heading, start = label(inside.spec), PADDING + (26 if inside.letter else 0)
        width = max(content.rect.width + 2 * PADDING, start + widest([heading], LABEL + 0.5) + PADDING, 190.0)
        lines = [line for given in inside.lines for line in wrap(given, width - 2 * PADDING, SMALL)]
        texts = [Text(heading, start, 27.0, LABEL + 0.5, True)]
        texts += [Text(line, PADDING, 47.0 + 15 * i, SMALL, ink="muted") for i, line in enumerate(lines)]
        top = 44.0 + 15 * len(lines)
        content = content.moved((width - content.rect.width) / 2 - content.rect.x, top - content.rect.y)
        center = (PADDING + RADIUS, 22.5)
        badge = (self.sketch.badge("letter", inside.letter, center, self.role),) if inside.letter else ()
        return Part(
            name=f"inside.{inside.paths[0]}",
            rect=Rect(0, 0, width, content.rect.bottom + PADDING - 4),
            shape="box",
            path=inside.paths[0],
            role=f"card-{self.role}",
            about=phrase(inside.spec),
            differs="whole" if all(self.sketch.highlight.part(path) == "whole" for path in inside.paths) else "",
            texts=tuple(texts),
            parts=(content, *badge),
        )


def widened(card: Part, width: float) -> Part:
    """The same card with this width, what it shows in its middle."""
    content, *badge = card.parts
    moved = content.moved((width - card.rect.width) / 2, 0.0)
    return replace(card, rect=replace(card.rect, width=width), parts=(moved, *badge))


def attention(inside: Inside, width: int, letters: Letters, highlight: Highlight) -> Part:
    """Queries, keys and values of every head, their scores, and the way out."""
    spec = inside.spec
    assert isinstance(spec, s.Attention)
    card, kv = Card(inside, "attention", highlight), spec.kv
    bias = " + bias"
    sizes = [f"{spec.heads} × {spec.head_dim}{bias if spec.q_bias else ''}"]
    if isinstance(kv, s.KeyValue):
        sizes += [f"{kv.heads} × {dim}{bias if kv.bias else ''}" for dim in (kv.head_dim, kv.v_dim)]
    wide = max(84.0, widest(sizes, SUB) + 16)
    step = wide + BETWEEN
    own = isinstance(kv, s.KeyValue)
    q, k, v = (card.column(x, wide, source=0.0 if own or not x else None) for x in (-step, 0.0, step))
    card.input(0.0)
    about = f"linear, from {number(width)}"
    card.step("q", q.next(TALL), "Query", sizes[0], fields="q heads head_dim q_bias", size=LABEL, about=about)
    _norm_and_rope(card, q, spec.q_norm, "q_norm", spec.positions)
    if isinstance(kv, s.KeyValue):
        _keys_and_values(card, spec, kv, (k, v), sizes[1:], about)
    else:
        for column, text in ((k, "Key"), (v, "Value")):
            card.step(text, column.next(TALL), text, f"of layer {kv.layer}", fields="kv", role="cache", size=LABEL)
    out = f"{number(spec.heads * kv.v_dim)} → {number(width)}{bias if spec.o_bias else ''}"
    gate = card.column(2 * step, wide, source=0.0) if spec.gate else None
    return _weighted_sum(card, spec, (q, k, v), gate, out, "o heads kv.v_dim o_bias")


def _keys_and_values(
    card: Card, spec: s.Attention, kv: s.KeyValue, columns: tuple[Column, Column], sizes: list[str], about: str
) -> None:
    k, v = columns
    card.step("k", k.next(TALL), "Key", sizes[0], fields="kv.k kv.heads kv.head_dim kv.bias", size=LABEL, about=about)
    card.step("v", v.next(TALL), "Value", sizes[1], fields="kv.v kv.heads kv.v_dim kv.bias", size=LABEL, about=about)
    _norm_and_rope(card, k, kv.k_norm, "kv.k_norm", spec.positions)
    if kv.v_norm:
        card.norm(v, "kv.v_norm", kv.v_norm, "kv.v_norm")
    if kv.v_scale != 1.0:
        card.step("kv.v_scale", v.next(ROW), f"× {number(kv.v_scale)}", fields="kv.v_scale")
    level = min(k.y, v.y)
    for column, slot in ((k, "kv.k"), (v, "kv.v")):
        column.to(level)
        _cached(card, f"{slot}.cached", column.next(PILL, 64), "", f"{slot} kv.heads kv.head_dim kv.v_dim")


def _norm_and_rope(card: Card, column: Column, norm: s.QKNorm | None, slot: str, rope: s.RoPE | None) -> None:
    """The norm of queries or keys and their rotation, in this order or the other."""
    late = norm is not None and norm.when == "after_rope"
    if norm and not late:
        card.norm(column, slot, norm, slot)
    if rope:
        card.step(f"{slot}.rope", column.next(ROW), "RoPE", fields="positions", about=phrase(rope))
    if norm and late:
        card.norm(column, slot, norm, slot)


def _cached(card: Card, name: str, rect: Rect, sub: str, fields: str) -> None:
    """What generation keeps for each token."""
    about = "kept for each token"
    card.step(name, rect, "cached", sub, fields=fields, role="cache", shape="pill", size=SMALL, about=about)


def _weighted_sum(
    card: Card,
    spec: s.Attention | s.LatentAttention,
    columns: tuple[Column, Column, Column],
    gate: Column | None,
    size: str,
    fields: str,
) -> Part:
    """Softmax of the queries' products with the keys, the values summed by it, and the projection back to the stream."""
    q, k, v = columns
    left, right, split = q.x - q.width / 2, v.x + v.width / 2, k.x + k.width / 2
    softmax, scale = spec.softmax, root(spec.softmax.scale)
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
    text = f"{_masked(spec.sees)}{' with sinks' if softmax.sinks else ''}"
    card.step("softmax", scores.next(ROW), text, fields="sees softmax.sinks", about=phrase(spec.sees))
    bottom = scores.y - ARROW
    scores.arrow(bottom)
    v.arrow(bottom)
    card.step("sum", Rect(left, bottom - ROW, right - left, ROW), "weighted sum of values", fields="")
    out = card.column((left + right) / 2, right - left, bottom - ROW)
    if isinstance(spec, s.Attention) and spec.gate and gate:
        _gated(card, spec, spec.gate, gate, out)
    card.step("o", out.next(TALL), "Output projection", size, fields=fields, size=LABEL)
    return card.done(out)


def _gated(card: Card, spec: s.Attention, gate: s.OutputGate, column: Column, out: Column) -> None:
    """The gate, made from the input, multiplies what the heads have found."""
    size = f"{spec.heads} × {spec.kv.v_dim}" if gate.over == "channel" else number(spec.heads)
    card.step("gate", column.next(TALL), "Gate", size, fields="gate", size=LABEL)
    card.step("gate.act", column.next(ROW), gate.act, fields="gate.act")
    times = card.sketch.join("gate.product", "×", out.joint()).rect
    column.turn((column.x, times.center[1]), (times.right, times.center[1]))


def _masked(sees: s.Sees) -> str:
    match sees:
        case s.Everything():
            return "softmax over all"
        case s.Indexer(topk=topk):
            return f"softmax over the {number(topk)} chosen"
    return "causal softmax"


def latent_attention(inside: Inside, width: int, letters: Letters, highlight: Highlight) -> Part:
    """The latents that queries, keys and values are made of, and the rotary key that all heads share."""
    spec = inside.spec
    assert isinstance(spec, s.LatentAttention)
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
    card.step("q_b", q.next(TALL), "Query, up" if spec.q else "Query", queries, fields="q_b q heads nope_dim rope_dim" if spec.q else "q heads nope_dim rope_dim")
    card.step("kv_b", kv.next(TALL), "Key and value, up", pairs, fields="kv_b heads nope_dim v_dim kv")
    if spec.positions:
        card.step("rope-q", q.next(ROW), f"RoPE on {rope}", fields="positions", about=phrase(spec.positions))
    step = (narrow + BETWEEN) / 2
    k, v = card.column(latent - step, narrow, kv.y), card.column(latent + step, narrow, kv.y)
    card.step("k", k.next(ROW), f"k: {spec.nope_dim}", fields="nope_dim")
    card.step("v", v.next(ROW), f"v: {spec.v_dim}", fields="v_dim")
    key.arrow(min(q.y, k.y) - ARROW)
    size = f"{number(spec.heads * spec.v_dim)} → {number(width)}{bias}"
    return _weighted_sum(card, spec, (q, k, v), None, size, "o heads v_dim bias")


def feed_forward(inside: Inside, width: int, letters: Letters, highlight: Highlight) -> Part:
    """Up, activation, down; with a gate where there is one. Those that differ in size only share a card."""
    spec = inside.spec
    assert isinstance(spec, (s.MLP, s.GatedMLP))
    card = Card(inside, "feed-forward", highlight)
    hidden, bias = "h" if inside.lines else number(spec.dim), " + bias" if spec.bias else ""
    up, down = f"{number(width)} → {hidden}{bias}", f"{hidden} → {number(width)}{bias}"
    wide = max(104.0, widest([up, down], SUB) + 18)
    side = (wide + BETWEEN) / 2 if isinstance(spec, s.GatedMLP) else 0.0
    activated, straight = card.column(-side, wide, source=0.0), card.column(side, wide, source=0.0)
    card.input(0.0)
    name = "gate" if side else "up"
    card.step(name, activated.next(TALL), name.capitalize(), up, fields=f"{name} dim bias", size=LABEL)
    card.step("act", activated.next(ROW), activation(spec), fields="act")
    result = activated
    if side:
        card.step("up", straight.next(TALL), "Up", up, fields="up dim bias", size=LABEL)
        times = around((0.0, activated.y - ARROW - RADIUS))
        card.sketch.join("product", "×", times)
        y = times.center[1]
        activated.turn((-side, y), (times.x, y))
        straight.turn((side, y), (times.right, y))
        result = card.column(0.0, wide, times.y)
    card.step("down", result.next(TALL), "Down", down, fields="down dim bias", size=LABEL)
    return card.done(result)


def experts(inside: Inside, width: int, letters: Letters, highlight: Highlight) -> Part:
    """The router and what it chooses from, a square for each expert."""
    spec = inside.spec
    assert isinstance(spec, s.MoE)
    card, router = Card(inside, "feed-forward", highlight), spec.router
    rows = choice(router)
    cell = min(26.0, max(6.5, 176.0 / len(rows[0])))
    steps = _routing(router, width)
    wide = max(116.0, widest([text for _, *both, _ in steps for text in both], INNER) + 16)
    field = max(128.0, len(rows[0]) * cell + 28)
    source = wide / 2 + 24 + field / 2
    route, chosen = card.column(0.0, wide, source=source), card.column(source, field, source=source)
    card.input(source)
    for name, text, sub, fields in steps:
        card.step(name, route.next(TALL if sub else ROW), text, sub, fields=fields)
    if spec.weigh == "input":
        chosen.to(route.y)
        times = card.sketch.join("product", "×", chosen.joint(), about="the inputs, by the router's weights").rect
        route.turn((0.0, times.center[1]), (times.x, times.center[1]), kind="control")
    if spec.latent:
        card.step("latent_down", chosen.next(TALL), "Down", f"{number(width)} → {number(spec.latent)}", fields="latent")
    height = max(len(rows) * cell + 62, chosen.y - ARROW - route.y)
    box = card.step("experts", chosen.next(height), "", fields="experts expert router.experts router.active")
    _squares(card, box, rows, cell, spec, letters)
    if spec.latent:
        card.step("latent_up", chosen.next(TALL), "Up", f"{number(spec.latent)} → {number(width)}", fields="latent")
    total = card.sketch.join("sum", "+", chosen.joint(), about="the chosen experts' sum").rect
    y = total.center[1]
    if spec.weigh == "output":
        route.turn((0.0, y), (total.x, y), kind="control")
    if spec.shared:
        _shared(card, spec, card.column(source + field / 2 + BETWEEN + 46, 92.0, source=source), total, letters)
    if spec.scale != 1.0:
        card.step("scale", chosen.next(PILL, 64), f"× {number(spec.scale)}", fields="scale", role="plain", shape="pill")
    return card.done(chosen)


def _shared(card: Card, spec: s.MoE, column: Column, total: Rect, letters: Letters) -> None:
    """The expert that every token passes through."""
    assert spec.shared is not None
    body = shared_body(spec.shared)
    rect = column.next(TALL)
    card.step("shared", rect, "Shared", number(body.dim), fields="shared", about=phrase(spec.shared))
    _mark(card, "shared.badge", rect, body, letters)
    if isinstance(spec.shared, s.ScalarGated):
        card.step("shared.gate", column.next(ROW), "× gate", fields="shared", about=phrase(spec.shared))
    column.turn((column.x, total.center[1]), (total.right, total.center[1]))


def _routing(router: s.Router, width: int) -> list[tuple[str, str, str, str]]:
    """(name, label, smaller label, fields) of the router's steps, in order."""
    groups, limited = router.groups, router.groups is not None and router.groups.count > 1
    best = f"best {router.active}" + (f" in {groups.active} of {groups.count} groups" if groups and limited else "")
    scale = "" if router.scale == 1.0 else f"× {number(router.scale)}"
    weigh = " ".join(filter(None, ("÷ their sum" if router.normalize is not None else "", scale)))
    capped = f"capped at {number(router.softcap)}" if router.softcap is not None else ""
    size = f"{number(width)} → {number(router.experts)}{' + bias' if router.bias else ''}"
    chosen = ("best", best, "with a selection bias" if router.correction else "", "router.active router.correction router.groups")
    steps = [
        ("router", "Router", size, "router.weight router.experts router.bias"),
        ("score", router.score, capped, "router.score router.softcap"),
        chosen,
    ]
    return steps + ([("weights", f"weights {weigh}", "", "router.normalize router.scale")] if weigh else [])


def choice(router: s.Router) -> list[list[bool]]:
    """An example: rows of experts, true where chosen for a token. Where the choice is limited to groups, a row is a group."""
    groups = router.groups
    if groups and 1 < groups.count and router.experts // groups.count <= 40:
        columns = router.experts // groups.count
        usable = [i * groups.count // groups.active for i in range(groups.active)]
    else:
        columns = next((c for c in (4, 8, 16, 24, 32, 48) if router.experts <= c * c), 64)
        usable = list(range(ceil(router.experts / columns)))
    seats = [row * columns + column for row in usable for column in range(columns) if row * columns + column < router.experts]
    stride = len(seats) / router.active
    chosen = {seats[int((i + (0.37 * i) % 1) * stride)] for i in range(router.active)}
    return [[seat in chosen for seat in range(start, min(start + columns, router.experts))] for start in range(0, router.experts, columns)]


def _squares(card: Card, box: Part, rows: list[list[bool]], cell: float, spec: s.MoE, letters: Letters) -> None:
    """Fills the box of the experts: their count, and a square for each."""
    x, y = box.rect.center[0], box.rect.y
    left, top = x - len(rows[0]) * cell / 2, y + 44 + (box.rect.height - 54 - len(rows) * cell) / 2
    gap = min(3.0, cell / 5)
    squares: dict[bool, list[Rect]] = {False: [], True: []}
    for i, row in enumerate(rows):
        for j, chosen in enumerate(row):
            squares[chosen].append(Rect(left + j * cell + gap / 2, top + i * cell + gap / 2, cell - gap, cell - gap))
    parts = []
    for chosen, cells in squares.items():
        if cells:
            name = "active" if chosen else "idle"
            rect = group("", tuple(Part("", c) for c in cells)).rect
            parts.append(Part(f"{box.name}.{name}", rect, "cells", box.path, f"expert-{name}", cells=tuple(cells)))
    minor = "difference" if box.differs else "muted"
    texts = (
        Text(f"{number(spec.router.experts)} experts", x, y + 19, INNER, anchor="middle"),
        Text(f"{spec.router.active} for each token", x, y + 35, SUB, bool(box.differs), minor, "middle"),
    )
    card.sketch.parts[card.sketch.parts.index(box)] = replace(box, texts=texts, parts=tuple(parts))
    _mark(card, "experts.badge", box.rect, spec.expert, letters)


def _mark(card: Card, name: str, rect: Rect, spec: s.Spec, letters: Letters) -> None:
    if spec in letters:
        card.sketch.badge(name, letters[spec], (rect.right, rect.y), card.role)


def prediction(arch: s.Decoder, highlight: Highlight) -> Part:
    """One more layer that predicts the token after the next."""
    spec = arch.mtp[0]
    inside = Inside(spec, "", tuple(f"mtp.{i}" for i in range(len(arch.mtp))), (spec,))
    card, wide = Card(inside, "embedding", highlight), 124.0
    side = (wide + BETWEEN) / 2
    sources = (("hidden_norm", -side, ("output of", "the last layer")), ("embedding_norm", side, ("embedding of", "the next token")))
    for name, x, words in sources:
        for i, word in enumerate(words):
            card.sketch.text(f"{name}.from-{i}", word, x, 14.0 * (i + 1))
        column = card.column(x, wide)
        card.norm(column, name, spec.norm, "norm")
        column.arrow(column.y - ARROW)
    both = Rect(-wide - BETWEEN / 2, column.y - ARROW - TALL, 2 * wide + BETWEEN, TALL)
    size = f"{number(2 * arch.width)} → {number(arch.width)}"
    card.step("join", both, "Join", size, fields="join", size=LABEL)
    stream = card.column(0.0, both.width, both.y)
    like = next((f", like layer {i}" for i, layer in enumerate(arch.layers) if layer == spec.layer), "")
    card.step("layer", stream.next(TALL), f"One layer{like}", fields="layer", role="feed-forward", size=LABEL, about=phrase(spec.layer))
    card.norm(stream, "final_norm", spec.norm, "norm")
    card.sketch.box("mtp.head", stream.next(ROW), "Output layer of the model", role="embedding", size=INNER)
    return card.done(stream)


def look_of(spec: s.Spec) -> s.Spec:
    """`spec` without what its card does not show: parts that look the same share one."""
    match spec:
        case s.Attention(positions=rope):
            shown = replace(rope, theta=1.0, scaling=None) if rope else None
            sees = s.Causal() if isinstance(spec.sees, (s.Window, s.Chunk)) else spec.sees
            return replace(spec, positions=shown, sees=sees)
        case s.MLP() | s.GatedMLP():
            return replace(spec, dim=1)
    return spec
