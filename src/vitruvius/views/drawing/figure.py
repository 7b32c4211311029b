"""The whole figure of one model: the stream from token ids to logits, a panel for each kind of layer, cards for their insides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, prod

from ... import spec as s
from ...cost.quantity import count, number
from ..pattern import Kind, kinds, stretches
from ..words import phrase, root
from .cards import cards, insides
from .font import wrap
from .notes import Note, capital, counted, label, note
from .panel import (
    NOTE_DISTANCE,
    Anchor,
    Heading,
    Panel,
    anchored,
    beside,
    box_width,
    layer_panel,
    notes_height,
)
from .scene import Part, Rect, Text, group
from .sketch import ARROW, NOTE, SMALL, Column, Highlight, Sketch

SHOWN = 4  # kinds of layers with a panel of their own
BOX = 36.0  # height of the boxes below and above the layers
RAIL = 20.0  # between a panel and the line to its neighbours
LADDER, LADDER_DISTANCE = 15.0, 24.0
BESIDE = 40.0  # between the notes of a panel and the next panel, or the cards
TITLE = 22.0


def figure(arch: s.Decoder, marked: Highlight) -> Part:
    """The figure of a model, its upper left corner at (0, 0)."""
    shown = kinds(arch)[:SHOWN]
    inside = insides(arch, shown)
    body = _body(arch, shown, {spec: i.letter for i in inside for spec in i.made_so}, marked)
    beside_it = cards(arch, inside, marked, body.rect.height)
    parts = [body.moved(-body.rect.x, -body.rect.y)]
    if beside_it:
        parts.append(beside_it.moved(body.rect.width + BESIDE, 0.0))
    drawn = group("", tuple(parts))
    header = _header(arch, shown, drawn.rect.width, marked)
    drawn = drawn.moved(0.0, header.rect.bottom + 26)
    return group("figure", (header, *drawn.parts))


# The title


def parameters(arch: s.Decoder) -> tuple[int, int]:
    """All, and those that one token uses; without the layers for multi-token prediction."""
    total = active = 0
    for node in s.walk(arch, arch.width):
        if not node.path.startswith("mtp."):
            for _, weight, shape in node.weights():
                total += prod(shape)
                active += round(prod(shape) * node.uses * weight.uses)
    return total, active


def _header(arch: s.Decoder, shown: Sequence[Kind], width: float, marked: Highlight) -> Part:
    total, active = parameters(arch)
    some = f", {count(active).replace(' ', '')} active" if active < total else ""
    facts = [
        f"{count(total).replace(' ', '')} parameters{some}",
        counted(len(arch.layers), "layer"),
        f"width {number(arch.width)}",
        f"context {number(arch.context)}",
    ]
    lines = [Text(arch.name, 0.0, 20.0, TITLE, True)]
    said = [" · ".join(facts)]
    if len(shown) > 1:
        order = ", then ".join(map(str, stretches(arch)))
        said.append(f"From the bottom: {order}")
    if more := len(kinds(arch)) - len(shown):
        said.append(f"{counted(more, 'more kind')} of layers without a panel")
    y = 26.0
    for text in said:
        for line in wrap(text, max(width, 420.0), NOTE + 0.5):
            y += 18
            lines.append(Text(line, 0.0, y, NOTE + 0.5, ink="muted"))
    right = max(text.rect.right for text in lines)
    return Part("header", Rect(0.0, -2.0, right, y + 8), path="", texts=tuple(lines))


# The stream


@dataclass(frozen=True)
class _Beside:
    """A panel in its place, with its notes."""

    panel: Part
    notes: Part
    x: float  # of its stream


def _body(arch: s.Decoder, shown: Sequence[Kind], letters: dict[s.Spec, str], marked: Highlight) -> Part:
    width = box_width([kind.layer for kind in shown])
    sketch = Sketch("", marked)
    column = Column(sketch, 0.0, 0.0, width)
    below = _entrance(arch, column)
    column.rise(30.0 if len(shown) == 1 else 18.0 + RAIL)
    bottom = column.y
    placed = _panels(arch, shown, width, bottom, letters, marked)
    for item in placed:
        sketch.parts += [item.panel, item.notes]
    first = placed[0].panel.rect
    sketch.line((0.0, column.start), (0.0, bottom))
    column.y = column.start = first.y
    for item in placed[1:]:
        sketch.dot("fork", 0.0, bottom + RAIL)
        sketch.line((0.0, bottom + RAIL), (item.x, bottom + RAIL), (item.x, bottom))
        sketch.line((item.x, first.y), (item.x, first.y - RAIL), (3.0, first.y - RAIL), arrow=True)
    if len(placed) > 1:
        column.rise(RAIL)
        sketch.dot("merge", 0.0, column.y)
    above = _exit(arch, column)
    left = placed[0].notes.rect.x
    if below:
        sketch.add(beside("notes.below", left, bottom + (RAIL + 10 if len(placed) > 1 else 10), inf, None, below))
    if above:
        sketch.add(beside("notes.above", left, -inf, first.y - (RAIL + 10 if len(placed) > 1 else 10), None, above))
    sketch.add(_ladder(arch, shown, first.x - LADDER_DISTANCE, first, marked))
    return sketch.done()


def _panels(
    arch: s.Decoder, shown: Sequence[Kind], width: float, bottom: float, letters: dict[s.Spec, str], marked: Highlight
) -> list[_Beside]:
    """The panels from left to right, all of one height, which their notes fit into."""
    headings = [_heading(arch, kind, i, len(shown)) for i, kind in enumerate(shown)]

    def panel(kind: Kind, spread: float = 0.0) -> Panel:
        return layer_panel(kind.layer, f"layers.{kind.indices[0]}", width, letters, marked, spread)

    tight = [panel(kind) for kind in shown]
    needed = [max(p.rect.height, notes_height(h, p.anchors)) for p, h in zip(tight, headings, strict=True)]
    placed: list[_Beside] = []
    x = 0.0
    for kind, heading, narrow in zip(shown, headings, tight, strict=True):
        drawn = panel(kind, (max(needed) - narrow.rect.height) / len(kind.layer.branches))
        part = drawn.part.moved(x, bottom)
        anchors = [anchor.moved(x, bottom) for anchor in drawn.anchors]
        notes = beside(f"notes.{part.name}", part.rect.right + NOTE_DISTANCE, part.rect.y, bottom, heading, anchors)
        placed.append(_Beside(part, notes, x))
        x = notes.rect.right + BESIDE + part.rect.width / 2
    return placed


def _heading(arch: s.Decoder, kind: Kind, index: int, of: int) -> Heading:
    if of == 1:
        return Heading(counted(len(kind.indices), "layer"), ())
    where = f"{len(kind.indices)} of {counted(len(arch.layers), 'layer')}: {_ranges(kind.indices)}"
    return Heading(capital(kind.name), (where,), index)


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> "0–2, 5"; only the first few of many."""
    starts = [indices[0], *(b for a, b in pairwise(indices) if b != a + 1)]
    ends = [*(a for a, b in pairwise(indices) if b != a + 1), indices[-1]]
    runs = [f"{a}–{b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(runs if len(runs) <= 4 else [*runs[:3], "…"])


def _entrance(arch: s.Decoder, column: Column) -> list[Anchor]:
    """From the token ids to the layers."""
    sketch, marked, embedding = column.sketch, column.sketch.highlight, arch.embedding
    ids = sketch.text("context", "token ids", 0.0, -6.0, NOTE, ink="muted", anchor="middle", path="context")
    column.rise(20)
    column.start = column.y
    box = column.box("embedding", label(embedding), height=BOX, role="embedding", path="embedding", reads=("embedding.vocab", "width", "embedding.tied"), about=phrase(embedding))
    if embedding.scale != 1.0:
        _pill(column, "embedding.scale", f"× {root(embedding.scale)}", "the embedding is scaled")
    if arch.positions:
        plus = column.join("positions.sum", "+", path="positions", about="added to the token's embedding")
        x, y = plus.rect.right + ARROW + 2, plus.rect.center[1]
        size = f"{number(arch.positions.count)} × {number(arch.width)}"
        sketch.box("positions", Rect(x, y - 20, 118, 40), "Learned positions", size, role="embedding", size=NOTE, path="positions", about=phrase(arch.positions))
        sketch.line((x, y), (plus.rect.right, y), arrow=True)
    tied = note("its table is the output layer's" if embedding.tied else "a table of its own", "tied", quiet=not embedding.tied)
    said = [note(f"vocabulary of {number(embedding.vocab)}", "vocab"), tied]
    first = Anchor("embedding", "embedding", box.rect.right, box.rect.center[1], ())
    wide = (Note(f"embedding width {number(arch.width)}", ("width",)), marked.exactly("width"))
    lines = [(n, marked.touches(*(f"embedding.{f}" for f in n.fields))) for n in said]
    first = first.saying([lines[0], wide, lines[1]])
    context = (Note(f"context of {number(arch.context)} tokens", ("context",)), marked.exactly("context"))
    return [first, Anchor("context", "plain", ids.rect.right + 4, ids.rect.center[1], (context,))]


def _exit(arch: s.Decoder, column: Column) -> list[Anchor]:
    """From the layers to the logits."""
    sketch, marked, head = column.sketch, column.sketch.highlight, arch.head
    column.rise(6)
    norm = column.box("final_norm", f"Final {label(arch.final_norm)}", height=28.0, role="norm", path="final_norm", about=phrase(arch.final_norm))
    box = column.box("head", "Output layer", height=BOX, role="embedding", path="head", reads=("head.vocab",), about=phrase(head))
    if head.softcap is not None:
        cap = number(head.softcap)
        _pill(column, "head.softcap", f"{cap} · tanh(logits ÷ {cap})", "the logits are capped", 150)
    column.arrow_to(column.y - ARROW)
    column.rise(ARROW)
    sketch.text("logits", "logits", 0.0, column.y - 6, NOTE, ink="muted", anchor="middle")
    lines = [(note(f"{number(arch.width)} → {number(head.vocab)}", "vocab"), marked.touches("head.vocab"))]
    first = Anchor("head", "embedding", box.rect.right, box.rect.center[1], tuple(lines))
    last = anchored(norm, arch.final_norm, marked)
    return [first, last] if last.lines else [first]


def _pill(column: Column, path: str, text: str, about: str, width: float = 84.0) -> None:
    column.box(path, text, height=21, width=width, role="plain", shape="pill", size=SMALL, path=path, about=about)


def _ladder(arch: s.Decoder, shown: Sequence[Kind], right: float, beside_it: Rect, marked: Highlight) -> Part:
    """All layers from the first, at the bottom, to the last, each in the colour of its kind."""
    total = len(arch.layers)
    step, left = beside_it.height / total, right - LADDER
    gap = min(1.5, step / 4)
    parts = []
    for number_of_kind, kind in enumerate([*shown, *kinds(arch)[len(shown) :]]):
        cells = tuple(Rect(left, beside_it.bottom - (i + 1) * step, LADDER, step - gap) for i in kind.indices)
        color = f"kind-{number_of_kind}" if number_of_kind < len(shown) else "kind-other"
        about = f"{kind.name}: layers {_ranges(kind.indices)}"
        box = Rect(left, cells[-1].y, LADDER, cells[0].bottom - cells[-1].y)
        parts.append(Part(f"ladder.{number_of_kind}", box, "cells", f"layers.{kind.indices[0]}", color, about, cells=cells))
    sketch = Sketch("ladder", marked)
    sketch.parts += parts
    differs = marked.exactly("layers")
    sketch.text("count", counted(total, "layer"), right, beside_it.y - 9, SMALL, ink="muted", anchor="end", path="layers", differs=differs)
    if total > 1:
        sketch.text("first", "0", left - 6, beside_it.bottom - 2, SMALL, ink="muted", anchor="end")
        sketch.text("last", str(total - 1), left - 6, beside_it.y + 10, SMALL, ink="muted", anchor="end")
    return sketch.done("layers")
