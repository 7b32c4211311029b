"""Cards that show the inside of attention, feed-forward layers and experts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, isclose

from ... import spec as s
from ...cost.quantity import number
from ..words import ACTIVATIONS, biased, phrase, root, title
from .notes import capital, label
from .scene import Line, Part, Rect, Text, group
from .sketch import ARROW, SMALL, SUB, Column, Highlight, Sketch, widest

PADDING = 18.0
HEADER = 40.0
ROW, TALL = 27.0, 40.0  # heights of boxes with one and with two lines
BETWEEN = 14.0  # columns


@dataclass(frozen=True)
class Inside:
    """Something whose inside is shown once: the paths of the parts that are made so, and their widths."""

    spec: s.Spec
    letter: str
    paths: tuple[str, ...]
    made_so: tuple[s.Spec, ...]
    lines: tuple[str, ...] = ()  # below the title


Fields = Callable[[str], tuple[str, ...]]


class _Card:
    """The sketch of one card, with its parts' paths."""

    def __init__(self, inside: Inside, highlight: Highlight, role: str) -> None:
        self.inside, self.role = inside, role
        self.sketch = Sketch(f"inside-{inside.letter}", highlight)

    def reads(self, fields: str) -> tuple[str, ...]:
        """The full paths of fields, wherever the part stands."""
        return tuple(f"{path}.{name}" for path in self.inside.paths for name in fields.split())

    def look(self, slot: str, fields: str = "", about: str = "") -> dict[str, object]:
        path = f"{self.inside.paths[0]}.{slot}"
        return {"path": path, "reads": self.reads(fields or slot), "about": about}

    def column(self, x: float, y: float, width: float) -> Column:
        return Column(self.sketch, x, y, width)

    def feed(self, xs: Sequence[float], y: float, source: float) -> None:
        """The input: a stem at `source`, and a rail at the height `y` to the columns that begin there."""
        for x in xs:
            if x != source:
                self.sketch.line((source, y), (x, y), (x, y - 4))
        if any(x != source for x in xs):
            self.sketch.dot("fork", source, y)
        self.sketch.line((source, y + 14), (source, y - 4))
        self.sketch.text("input", "input", source, y + 26, SMALL, ink="muted", anchor="middle")

    def output(self, column: Column) -> None:
        column.arrow_to(column.y - ARROW)
        self.sketch.text("output", "output", column.x, column.y - ARROW - 6, SMALL, ink="muted", anchor="middle")

    def done(self) -> Part:
        """The card around what was sketched, its upper left corner at (0, 0)."""
        inside = self.inside
        content = self.sketch.done()
        heading = label(inside.spec)
        width = max(content.rect.width, 34 + widest([heading], 13.5, True), widest(inside.lines, SMALL)) + 2 * PADDING
        header = HEADER + 15 * len(inside.lines)
        dx, dy = (width - content.rect.width) / 2 - content.rect.x, header - content.rect.y
        content = content.moved(dx, dy)
        texts = [Text(heading, 42.0, 26.5, 13.5, True)]
        texts += [Text(line, PADDING, 44.0 + 15 * i, SMALL, ink="muted") for i, line in enumerate(inside.lines)]
        sketch = Sketch(self.sketch.name, self.sketch.highlight)
        mark = Part(f"{sketch.name}.letter", Rect(PADDING - 1, 13, 18, 18), "circle", role=f"badge-{self.role}", texts=(Text(inside.letter, PADDING + 8, 26, 10.5, True, "paper", "middle"),))
        frame = Rect(0, 0, width, content.rect.bottom + PADDING - 4)
        return Part(sketch.name, frame, "box", inside.paths[0], f"card-{self.role}", phrase(inside.spec), texts=tuple(texts), parts=(mark, *content.parts), lines=content.lines)


def attention(inside: Inside, width: int, highlight: Highlight) -> Part:
    """Queries, keys and values of each head, their scores, and the way out."""
    spec = inside.spec
    assert isinstance(spec, s.Attention)
    card, kv, biases = _Card(inside, highlight, "attention"), spec.kv, biased(spec)

    def size(name: str, heads: int, dim: int) -> str:
        return f"{heads} × {dim}{' + bias' if name in biases else ''}"

    sizes = {"q": size("q", spec.heads, spec.head_dim), "k": size("k", kv.heads, kv.head_dim), "v": size("v", kv.heads, kv.v_dim)}
    wide = max(84.0, widest(sizes.values(), SUB) + 16)
    step = wide + BETWEEN
    q, k, v = (card.column(x, 0.0, wide) for x in (-step, 0.0, step))
    card.feed((-step, 0.0, step), 0.0, 0.0)
    linear = f"a linear layer, {number(width)} →"
    q.box("q", "Query", sizes["q"], height=TALL, role="attention", **card.look("q", "heads head_dim q_bias", f"{linear} {spec.heads * spec.head_dim}"))
    k.box("k", "Key", sizes["k"], height=TALL, role="attention", **card.look("kv.k", "kv.heads kv.head_dim kv.bias", f"{linear} {kv.heads * kv.head_dim}"))
    v.box("v", "Value", sizes["v"], height=TALL, role="attention", **card.look("kv.v", "kv.heads kv.v_dim kv.bias", f"{linear} {kv.heads * kv.v_dim}"))
    for column, norm, slot in ((q, spec.q_norm, "q_norm"), (k, kv.k_norm, "kv.k_norm")):
        if norm:
            column.box(slot, title(norm), height=ROW, role="norm", size=12, **card.look(slot, about=phrase(norm)))
    if spec.positions:
        for name, column in (("q", q), ("k", k)):
            column.to(min(q.y, k.y) if not name else column.y)
            column.box(f"rope-{name}", "RoPE", height=ROW, role="attention", size=12, **card.look("positions", about=phrase(spec.positions)))
    v.to(k.y + ROW + ARROW if k.y < v.y - ARROW else v.y)
    for name, column in (("k", k), ("v", v)):
        column.box(f"cache-{name}", "cached", height=20, width=64, role="cache", shape="pill", size=SMALL, **card.look(f"kv.{name}", "kv.heads kv.head_dim kv.v_dim sees", "kept for each token"))
    _scores(card, spec, q, k, v)
    out = f"{number(spec.heads * kv.v_dim)} → {number(width)}{' + bias' if spec.o_bias else ''}"
    return _way_out(card, q, v, out, "heads kv.v_dim o_bias")


def _scores(card: _Card, spec: s.Attention | s.LatentAttention, q: Column, k: Column, v: Column) -> None:
    """Softmax of the products of queries and keys, then the values' weighted sum; `q` and `v` go on above it."""
    middle, wide = (q.x + k.x) / 2, k.x - q.x + q.width
    y = min(q.y, k.y)
    scale = root(spec.softmax.scale)
    product = f"q · k {'÷ ' + scale[2:] if scale.startswith('1/') else '× ' + scale}"
    for column in (q, k):
        column.arrow_to(y - ARROW)
    sketch, scores = card.sketch, card.column(middle, y - ARROW - ROW, wide)
    sketch.box("scores", Rect(middle - wide / 2, y - ARROW - ROW, wide, ROW), product, role="attention", size=12, **card.look("softmax", "softmax.scale"))  # type: ignore[arg-type]
    if spec.softmax.softcap is not None:
        cap = number(spec.softmax.softcap)
        scores.box("softcap", f"{cap} · tanh(scores ÷ {cap})", height=ROW, role="attention", size=12, **card.look("softmax.softcap"))
    scores.box("softmax", "causal softmax", height=ROW, role="attention", size=12, **card.look("sees"))
    q.y = q.start = scores.y
    v.to(scores.y)


def _way_out(card: _Card, q: Column, v: Column, size: str, fields: str) -> Part:
    """The weighted sum of the values, all heads side by side, and the projection back to the stream."""
    sketch = card.sketch
    y = q.y - ARROW
    left, right = q.x - q.width / 2, v.x + v.width / 2
    scores = (left + v.x - v.width / 2 - BETWEEN) / 2
    sketch.line((scores, q.y), (scores, y), arrow=True)
    v.arrow_to(y)
    sketch.box("sum", Rect(left, y - ROW, right - left, ROW), "weighted sum of values", role="attention", size=12)
    out = card.column((left + right) / 2, y - ROW, right - left)
    out.box("o", "Output projection", size, height=TALL, role="attention", **card.look("o", fields))
    card.output(out)
    return card.done()


def latent_attention(inside: Inside, width: int, highlight: Highlight) -> Part:
    """The latents that queries, keys and values are made of, and the rotary key that all heads share."""
    spec = inside.spec
    assert isinstance(spec, s.LatentAttention)
    card, rank, rope = _Card(inside, highlight, "attention"), spec.kv.rank, spec.rope_dim
    queries, pairs = f"{spec.heads} × ({spec.nope_dim} + {rope})", f"{spec.heads} × ({spec.nope_dim} + {spec.v_dim})"
    wide = max(112.0, widest([queries], SUB) + 16)
    narrow = 78.0
    both = max(2 * narrow + BETWEEN, widest([pairs], SUB) + 16)
    x_q, x_r = 0.0, wide / 2 + BETWEEN + narrow / 2
    x_kv = x_r + narrow / 2 + BETWEEN + both / 2
    x_k, x_v = x_kv - (narrow + BETWEEN) / 2, x_kv + (narrow + BETWEEN) / 2
    x_down = (x_r - narrow / 2 + x_kv + both / 2) / 2
    q, down = card.column(x_q, 0.0, wide), card.column(x_down, 0.0, narrow + BETWEEN + both)
    card.feed((x_q, x_down), 0.0, x_down)
    bias = " + bias" if spec.bias else ""
    if spec.q:
        q.box("q_a", "Query, down", f"{number(width)} → {number(spec.q.rank)}{bias}", height=TALL, role="attention", size=12, **card.look("q_a", "q"))
    down.box("kv_a", "Key and value, down", f"{number(width)} → {number(rank)} + {rope}{bias}", height=TALL, role="attention", size=12, **card.look("kv_a", "kv rope_dim bias"))
    r, kv = card.column(x_r, down.y, narrow), card.column(x_kv, down.y, both)
    if spec.q:
        q.box("q_norm", title(spec.q.norm), height=ROW, role="norm", size=12, **card.look("q_norm", "q", phrase(spec.q.norm)))
    kv.box("kv_norm", title(spec.kv.norm), height=ROW, role="norm", size=12, **card.look("kv_norm", "kv", phrase(spec.kv.norm)))
    if spec.positions:
        r.box("rope-k", "RoPE", height=ROW, role="attention", size=12, **card.look("positions", about=phrase(spec.positions)))
    kept = {"height": 34.0, "role": "cache", "shape": "pill", "size": SMALL}
    r.box("cache-key", "cached", f"{rope}, shared", **kept, **card.look("rope_dim", about="one rotary key for all heads, kept for each token"))  # type: ignore[arg-type]
    kv.to(r.y + 34 + ARROW)
    kv.box("cache-latent", "cached", f"{number(rank)} for all heads", **kept, **card.look("kv", about="the latent, kept for each token"))  # type: ignore[arg-type]
    q.to(kv.y)
    q.box("q", "Query, up" if spec.q else "Query", queries, height=TALL, role="attention", size=12, **card.look("q_b" if spec.q else "q", "heads nope_dim rope_dim q"))
    kv.box("kv_b", "Key and value, up", pairs, height=TALL, role="attention", size=12, **card.look("kv_b", "heads nope_dim v_dim kv"))
    if spec.positions:
        q.box("rope-q", f"RoPE on {rope}", height=ROW, role="attention", size=12, **card.look("positions", about=phrase(spec.positions)))
    k, v = card.column(x_k, kv.y, narrow), card.column(x_v, kv.y, narrow)
    k.box("k", f"k: {spec.nope_dim}", height=ROW, role="attention", size=12, **card.look("kv_b", "nope_dim"))
    v.box("v", f"v: {spec.v_dim}", height=ROW, role="attention", size=12, **card.look("kv_b", "v_dim"))
    r.arrow_to(min(q.y, k.y) - ARROW)
    _scores(card, spec, q, k, v)
    return _way_out(card, q, v, f"{number(spec.heads * spec.v_dim)} → {number(width)}{bias}", "heads v_dim bias")


def feed_forward(inside: Inside, width: int, highlight: Highlight) -> Part:
    """Up, activation, down; with a gate where there is one. Several sizes of the same build share a card."""
    spec = inside.spec
    assert isinstance(spec, (s.MLP, s.GatedMLP))
    card = _Card(inside, highlight, "feed-forward")
    hidden, bias = "h" if inside.lines else number(spec.dim), " + bias" if spec.bias else ""
    up, down = f"{number(width)} → {hidden}{bias}", f"{hidden} → {number(width)}{bias}"
    wide = max(104.0, widest([up, down], SUB) + 18)
    act = ACTIVATIONS[spec.act]
    if isinstance(spec, s.MLP):
        column = card.column(0.0, 0.0, wide)
        card.feed((0.0,), 0.0, 0.0)
        column.box("up", "Up", up, height=TALL, role="feed-forward", **card.look("up", "dim bias"))
        column.box("act", act, height=ROW, role="feed-forward", size=12, **card.look("act"))
    else:
        step = (wide + BETWEEN) / 2
        gate, column = card.column(-step, 0.0, wide), card.column(step, 0.0, wide)
        card.feed((-step, step), 0.0, 0.0)
        gate.box("gate", "Gate", up, height=TALL, role="feed-forward", **card.look("gate", "dim bias"))
        column.box("up", "Up", up, height=TALL, role="feed-forward", **card.look("up", "dim bias"))
        gate.box("act", act, height=ROW, role="feed-forward", size=12, **card.look("act"))
        y = gate.y - ARROW - 9
        times = card.sketch.join("times", "×", 0.0, y)
        for side, edge in ((gate, times.rect.x), (column, times.rect.right)):
            card.sketch.line((side.x, side.start), (side.x, y), (edge, y), arrow=True)
        column = card.column(0.0, times.rect.y, wide)
    column.box("down", "Down", down, height=TALL, role="feed-forward", **card.look("down", "dim bias"))
    card.output(column)
    return card.done()


def experts(inside: Inside, width: int, letters: dict[s.Spec, str], highlight: Highlight) -> Part:
    """The router and what it chooses from, as many squares as experts; `letters` say where an expert's inside is shown."""
    spec = inside.spec
    assert isinstance(spec, s.MoE)
    card, router = _Card(inside, highlight, "feed-forward"), spec.router
    rows = _grid(router)
    cell = min(16.0, max(5.0, 168.0 / len(rows[0])))
    grid = (len(rows[0]) * cell, len(rows) * cell)
    steps = _routing(router, width)
    wide, field = max(116.0, widest([text for _, *texts in steps for text in texts[:2]], SUB) + 18), max(132.0, grid[0] + 24)
    x_field = wide / 2 + BETWEEN + 10 + field / 2
    xs = [0.0, x_field]
    if spec.shared:
        xs.append(x_field + field / 2 + BETWEEN + 46)
    source = xs[1]
    card.feed(xs, 0.0, source)
    column = card.column(0.0, 0.0, wide)
    for name, text, sub, fields in steps:
        column.box(name, text, sub, height=TALL if sub else ROW, role="feed-forward", size=12, **card.look("router" if name == "router" else f"router.{name}", fields))
    chosen = card.column(x_field, 0.0, field)
    height = max(grid[1] + 58, -column.y - ARROW)
    box = chosen.box("experts", "", height=height, role="feed-forward", **card.look("experts", "router.experts router.active expert experts"))
    _squares(card, box, rows, cell, spec)
    total = card.column(x_field, 0.0, field)
    total.y = total.start = box.rect.y
    plus = total.join("sum", "+")
    y = plus.rect.center[1]
    card.sketch.line((0.0, column.start), (0.0, y), (plus.rect.x, y), kind="control", arrow=True)
    if spec.shared:
        side = card.column(xs[2], 0.0, 92.0)
        side.box("shared", "Shared", number(spec.shared.dim), height=TALL, role="feed-forward", size=12, **card.look("shared", about=phrase(spec.shared)))
        card.sketch.line((side.x, side.start), (side.x, y), (plus.rect.right, y), arrow=True)
    card.output(total)
    return card.done()


def _routing(router: s.Router, width: int) -> list[tuple[str, str, str, str]]:
    """(name, label, smaller label, fields) of the router's steps, the first at the bottom."""
    steps = [("router", "Router", f"{number(width)} → {number(router.experts)}", "router.experts"), ("score", router.score, "", "router.score")]
    limits = []
    if router.correction:
        limits.append("with selection bias")
    if router.groups and router.groups.count > 1:
        limits.append(f"in {router.groups.active} of {router.groups.count} groups")
    best = f"best {router.active}"
    if len(limits) > 1:
        best, limits = f"best {router.active} {limits[1]}", limits[:1]
    steps.append(("active", best, limits[0] if limits else "", "router.active router.correction router.groups"))
    weigh = " ".join(filter(None, ("÷ their sum" if router.normalize is not None else "", "" if router.scale == 1.0 else f"× {number(router.scale)}")))
    if weigh:
        steps.append(("normalize", f"weights {weigh}", "", "router.normalize router.scale"))
    return steps


def _grid(router: s.Router) -> list[list[bool]]:
    """Rows of experts, whether one of the token's: an example of a choice, within groups (rows) where there are groups."""
    groups = router.groups
    if groups and groups.count > 1 and router.experts // groups.count <= 40:
        columns, lines = router.experts // groups.count, range(groups.count)
        open_lines = [line * groups.count // groups.active + (line % 2) for line in range(groups.active)]
    else:
        columns = next((c for c in (4, 8, 16, 24, 32, 48) if router.experts <= c * max(2, c * 2 // 3)), 64)
        lines = range(ceil(router.experts / columns))
        open_lines = list(lines)
    seats = [(line, column) for line in open_lines for column in range(columns) if line * columns + column < router.experts]
    chosen = {seats[(2 * i + 1) * len(seats) // (2 * router.active) + 3 * i % 5 - 2 if router.active * 6 < len(seats) else i * len(seats) // router.active] for i in range(router.active)}
    return [[(line, column) in chosen for column in range(columns) if line * columns + column < router.experts] for line in lines]


def _squares(card: _Card, box: Part, rows: list[list[bool]], cell: float, spec: s.MoE) -> None:
    router = spec.router
    x0 = box.rect.center[0] - len(rows[0]) * cell / 2
    y0 = box.rect.bottom - (box.rect.height - 42) / 2 - len(rows) * cell / 2
    both: dict[bool, list[Rect]] = {False: [], True: []}
    for i, row in enumerate(rows):
        for j, chosen in enumerate(row):
            both[chosen].append(Rect(x0 + j * cell + 0.75, y0 + i * cell + 0.75, cell - 1.5, cell - 1.5))
    path, differs = box.path, box.differs
    parts = tuple(
        Part(f"{box.name}.{'active' if chosen else 'idle'}", group("", tuple(Part("", c) for c in cells)).rect, "cells", path, "expert-active" if chosen else "expert-idle", differs=differs, cells=tuple(cells))
        for chosen, cells in both.items()
        if cells
    )
    ink = "difference" if differs else "ink"
    x, y = box.rect.center[0], box.rect.y
    texts = (
        Text(f"{number(router.experts)} experts", x, y + 18, 12, differs, ink, "middle"),
        Text(f"{router.active} for each token", x, y + 33, SUB, differs, ink if differs else "muted", "middle"),
    )
    card.sketch.parts[card.sketch.parts.index(box)] = replace(box, texts=texts, parts=parts)


def look_of(spec: s.Spec) -> s.Spec:
    """`spec` without what its card does not show, so that parts which look the same share one."""
    if isinstance(spec, s.Attention):
        rope = replace(spec.positions, theta=1.0, scaling=None) if spec.positions else None
        return replace(spec, positions=rope, sees=s.Causal())
    if isinstance(spec, (s.MLP, s.GatedMLP)):
        return replace(spec, dim=1)
    return spec


def prediction(arch: s.Decoder, highlight: Highlight) -> Part:
    """One more layer that predicts the token after the next."""
    spec = arch.mtp[0]
    inside = Inside(spec, "+", tuple(f"mtp.{i}" for i in range(len(arch.mtp))), (spec,), ())
    card = _Card(inside, highlight, "embedding")
    wide = 128.0
    step = (wide + BETWEEN) / 2
    for name, x, words in (("hidden_norm", -step, ("last layer's", "output")), ("embedding_norm", step, ("embedding of", "the next token"))):
        column = card.column(x, 0.0, wide)
        for i, word in enumerate(words):
            card.sketch.text(f"{name}.in-{i}", word, x, 8.0 + 14 * i, SMALL, ink="muted", anchor="middle")
        column.start = column.y = -6.0
        column.box(name, title(spec.norm), height=ROW, role="norm", size=12, **card.look(name, "norm", phrase(spec.norm)))
        column.arrow_to(column.y - ARROW)
    trunk = card.column(0.0, column.y, 2 * wide + BETWEEN)
    trunk.start = column.y - ARROW
    both = Rect(-wide - BETWEEN / 2, column.y - ARROW - TALL, 2 * wide + BETWEEN, TALL)
    card.sketch.box("join", both, "Join", f"{number(2 * arch.width)} → {number(arch.width)}", role="embedding", **card.look("join"))  # type: ignore[arg-type]
    trunk.y = trunk.start = both.y
    same = next((i for i, layer in enumerate(arch.layers) if layer == spec.layer), None)
    trunk.box("layer", "Layer" if same is None else f"Layer, as layer {same}", height=34, role="feed-forward", size=12, **card.look("layer"))
    trunk.box("final_norm", title(spec.norm), height=ROW, role="norm", size=12, **card.look("final_norm", "norm"))
    trunk.box("head", "the model's output layer", height=ROW, role="embedding", size=12)
    card.output(trunk)
    return card.done()
