"""The stream of a decoder or an encoder, with a panel for each kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf

from ... import spec as s
from ...cost.quantity import number
from ..description import callout, capital, counted, root
from ..layer_periods import LayerKind
from ..nouns import describe, label, phrase
from .kinds import kinds, named
from .panel import (
    NOTE_DISTANCE,
    Anchor,
    Heading,
    Panel,
    Widths,
    anchored,
    beside,
    layer_panel,
    noted,
    notes_height,
)
from .scene import Rect, Region
from .sketch import ARROW, INNER, NOTE, SMALL, Column, Highlight, Sketch

MANY = 2  # with more kinds of layers, what has been shown_before beside the first is not repeated
BOX, NORM = 36.0, 28.0  # heights of the boxes below and above the layers
RAIL = 20.0  # between the panels and the line to them, where they are several
LADDER, LADDER_DISTANCE = 15.0, 24.0
BESIDE = 40.0  # between the notes of a panel and the next panel


def stream(
    arch: s.Decoder,
    stack: s.Decoder | s.Encoder,
    shown: Sequence[LayerKind],
    letters: Mapping[s.Spec, str],
    highlight: Highlight,
    height: float,
) -> tuple[Region, float]:
    """The decoder's or the encoder's stream, and the height of its panels."""
    sketch, widths = Sketch("stream", highlight), Widths.of([kind.layer for kind in shown])
    column = Column(sketch, 0.0, 0.0, widths.box)
    entering = _entrance(arch, stack, column)
    rail = RAIL if len(shown) > 1 else 0.0
    column.rise(26 + rail)
    first = _layers(stack, shown, column, widths, letters, height)
    column.leave(first.y)
    column.rise(rail)
    leaving = _handed_over(arch.encoder, column) if arch.encoder and stack is arch.encoder else _exit(arch, column)
    x = first.right + NOTE_DISTANCE
    sketch.add(beside("notes.entrance", x, first.bottom + rail + 8, inf, None, entering))
    if leaving:
        sketch.add(beside("notes.exit", x, -inf, first.y - rail - 8, None, leaving))
    sketch.add(_ladder(stack, shown, first, highlight))
    return sketch.done(), first.height


def _entrance(arch: s.Decoder, stack: s.Decoder | s.Encoder, column: Column) -> list[Anchor]:
    """From the token ids to the layers."""
    sketch, highlight, embedding, width = column.sketch, column.sketch.highlight, stack.embedding, number(arch.width)
    ids = sketch.text("context", "token ids", 0.0, -5.0, size=NOTE, path="context")
    column.leave(-18.0)
    differs = highlight.marks("width") or highlight.fields("embedding.vocab", "embedding.tied")
    box = sketch.box(
        "embedding",
        column.next(BOX),
        label(embedding),
        role="embedding",
        path="embedding",
        differs=differs,
        about=phrase(embedding),
    )
    if embedding.scale != 1.0:
        _pill(column, "embedding.scale", f"× {root(embedding.scale)}", 84.0)
    if arch.positions and stack is arch:
        plus = sketch.join(
            "positions.sum", "+", column.joint(), path="positions", about="added to the token's embedding"
        ).rect
        rect = Rect(plus.right + ARROW + 2, plus.center[1] - 20, 120, 40)
        size = f"{number(arch.positions.count)} × {width}"
        sketch.box(
            "positions",
            rect,
            "Learned positions",
            size,
            role="embedding",
            path="positions",
            differs=highlight.part("positions"),
            size=INNER,
            about=phrase(arch.positions),
        )
        sketch.line((rect.x, rect.center[1]), (plus.right, rect.center[1]), arrow=True)
    tied = "shares its table with the output" if embedding.tied else "a table of its own"
    beside_box = [
        (callout(f"vocabulary of {number(embedding.vocab)}", "vocab"), highlight.fields("embedding.vocab")),
        (callout(f"embedding width {width}", "width"), highlight.marks("width")),
        (callout(tied, "tied", quiet=not embedding.tied), highlight.fields("embedding.tied")),
    ]
    if extra := embedding.per_layer:
        beside_box.append((callout(phrase(extra), "per_layer"), highlight.fields("embedding.per_layer")))
    if stack is arch.encoder:
        return anchored(box, beside_box)
    context = callout(f"context of {number(arch.context)} tokens", "context")
    return [*anchored(box, beside_box), *anchored(ids, [(context, highlight.marks("context"))], gap=6)]


def _exit(arch: s.Decoder, column: Column) -> list[Anchor]:
    """From the layers to what the head makes of them."""
    sketch, highlight, head, norm = column.sketch, column.sketch.highlight, arch.head, arch.final_norm
    last = _final_norm(norm, column)
    if head is None:
        column.arrow(column.y - ARROW)
        sketch.text("output", "hidden states", 0.0, column.y - ARROW - 6, size=NOTE)
        return noted(last, norm, highlight)
    differs = highlight.marks("width") or highlight.fields("head.vocab", "head.labels", "embedding.tied")
    box = sketch.box(
        "head", column.next(BOX), label(head), role="embedding", path="head", differs=differs, about=phrase(head)
    )
    result, pills = describe(head).picture.steps
    for name, text, width in pills:
        _pill(column, f"head.{name}", text, width)
    column.arrow(column.y - ARROW)
    sketch.text("logits", result, 0.0, column.y - ARROW - 6, size=NOTE)
    size = callout(f"{number(arch.width)} → {number(head.outputs)}", "vocab")
    return [
        *anchored(box, [(size, highlight.fields("head.vocab", "head.labels") or highlight.marks("width"))]),
        *noted(last, norm, highlight),
    ]


def _handed_over(encoder: s.Encoder, column: Column) -> list[Anchor]:
    """From the layers to what cross-attention reads."""
    last = _final_norm(encoder.final_norm, column)
    column.arrow(column.y - ARROW)
    column.sketch.text("output", "output of the encoder", 0.0, column.y - ARROW - 6, size=NOTE)
    return noted(last, encoder.final_norm, column.sketch.highlight)


def _final_norm(norm: s.Spec, column: Column) -> Region:
    column.rise(6)
    differs = column.sketch.highlight.part("final_norm")
    return column.sketch.box(
        "final_norm",
        column.next(NORM),
        f"Final {label(norm)}",
        role="norm",
        path="final_norm",
        differs=differs,
        about=phrase(norm),
    )


def _pill(column: Column, path: str, text: str, width: float) -> None:
    differs = column.sketch.highlight.part(path)
    rect = column.next(21, width)
    column.sketch.box(path, rect, text, role="plain", shape="pill", size=SMALL, path=path, differs=differs)


# The layers


def _layers(
    stack: s.Decoder | s.Encoder,
    shown: Sequence[LayerKind],
    column: Column,
    widths: Widths,
    letters: Mapping[s.Spec, str],
    height: float,
) -> Rect:
    """The panels side by side, all as high as the one that needs most room, with their notes; the first one's place."""
    sketch, bottom, x = column.sketch, column.y, column.x
    headings = [_heading(stack, kind, i, len(shown)) for i, kind in enumerate(shown)]

    def panel(kind: LayerKind, spread: float = 0.0) -> Panel:
        path = f"layers.{kind.indices[0]}"
        return layer_panel(kind.layer, path, widths, letters, sketch.highlight, spread)

    tight = [panel(kind) for kind in shown]
    needed = [max(p.part.rect.height, notes_height(h, p.anchors)) for p, h in zip(tight, headings, strict=True)]
    height = max(height, *needed)
    column.line(bottom)
    placed: list[Rect] = []
    shown_before: list[set[str]] = []
    for kind, heading, narrow in zip(shown, headings, tight, strict=True):
        drawn = panel(kind, (height - narrow.part.rect.height) / len(kind.layer.branches))
        part = drawn.part.moved(x, bottom)
        anchors = _not_repeated([anchor.moved(x, bottom) for anchor in drawn.anchors], shown_before, len(shown) > MANY)
        shown_before.append({text for anchor in drawn.anchors for text, _ in anchor.lines})
        notes = beside(f"notes.{part.name}", part.rect.right + NOTE_DISTANCE, part.rect.y, bottom, heading, anchors)
        sketch.parts += [part, notes]
        placed.append(part.rect)
        x = notes.rect.right + BESIDE + part.rect.width / 2
    if len(placed) > 1:
        _rails(sketch, placed)
    return placed[0]


def _not_repeated(anchors: Sequence[Anchor], shown_before: Sequence[set[str]], many: bool) -> list[Anchor]:
    """The notes of a panel: what the panels before show steps back, and with many panels, what the first shows is left
    out."""
    if shown_before and many:
        anchors = [left for anchor in anchors if (left := anchor.without(shown_before[0])).lines]
    return [anchor.muted(set().union(*shown_before)) for anchor in anchors]


def _rails(sketch: Sketch, panels: Sequence[Rect]) -> None:
    """The ways round the first panel: each layer is one of them."""
    first, *others = panels
    trunk, low, high = first.center[0], first.bottom + RAIL, first.y - RAIL
    for panel in others:
        x = panel.center[0]
        sketch.line((trunk, low), (x, low), (x, panel.bottom))
        sketch.line((x, panel.y), (x, high), (trunk + 2, high), arrow=True)
    sketch.dot("rail.fork", trunk, low)
    sketch.dot("rail.merge", trunk, high)


def _heading(stack: s.Decoder | s.Encoder, kind: LayerKind, index: int, of: int) -> Heading:
    if of == 1:
        return Heading(f"Each of {counted(len(stack.layers), 'layer')}" if len(stack.layers) > 1 else "The only layer")
    where = f"{len(kind.indices)} of {counted(len(stack.layers), 'layer')}: {_ranges(kind.indices)}"
    return Heading(capital(named(kind.name)), where, index)


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> "0–2, 5"; only the first few of many."""
    cuts = [(a, b) for a, b in pairwise(indices) if b != a + 1]
    starts, ends = [indices[0], *(b for _, b in cuts)], [*(a for a, _ in cuts), indices[-1]]
    runs = [f"{a}–{b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(runs if len(runs) <= 4 else [*runs[:3], "…"])


def _ladder(stack: s.Decoder | s.Encoder, shown: Sequence[LayerKind], panel: Rect, highlight: Highlight) -> Region:
    """All layers from the first, at the bottom, to the last, each in the colour of its kind."""
    total, right = len(stack.layers), panel.x - LADDER_DISTANCE
    step, left = panel.height / total, right - LADDER
    gap = min(1.5, step / 4)
    sketch = Sketch("ladder", highlight)
    for i, kind in enumerate(kinds(stack)):
        cells = tuple(Rect(left, panel.bottom - (j + 1) * step, LADDER, step - gap) for j in kind.indices)
        rect = Rect(left, cells[-1].y, LADDER, cells[0].bottom - cells[-1].y)
        color = f"kind-{i if i < len(shown) else 'other'}"
        about = f"{kind.name}: {_ranges(kind.indices)}"
        sketch.add(Region(f"ladder.{i}", rect, "cells", f"layers.{kind.indices[0]}", color, about, cells=cells))
    differs = highlight.marks("layers")
    sketch.text("count", counted(total, "layer"), right, panel.y - 9, anchor="end", path="layers", differs=differs)
    if total > 1:
        sketch.text("first", "0", left - 6, panel.bottom - 2, anchor="end")
        sketch.text("last", str(total - 1), left - 6, panel.y + 10, anchor="end")
    return sketch.done("layers")
