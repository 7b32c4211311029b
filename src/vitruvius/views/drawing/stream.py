"""The stream of a decoder or an encoder, with a panel for each kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, isclose

from ... import spec as s
from ...cost.quantity import number
from ..description import callout, capital, counted, factor
from ..nouns import describe, label, phrase, title
from .kinds import LayerBlock, kinds, named, sections
from .panel import (
    NOTE_DISTANCE,
    Anchor,
    Heading,
    Note,
    Variant,
    Widths,
    anchored,
    beside,
    kind_color,
    layer_panel,
    noted,
    notes_height,
)
from .scene import Rect, Region
from .sketch import ARROW, INNER, LABEL, NOTE, SMALL, Column, Highlight, Sketch

BOX, NORM = 36.0, 28.0  # heights of the boxes below and above the layers
BETWEEN = 26.0  # blocks
LADDER, LADDER_DISTANCE = 15.0, 16.0
BRACKET, HOOK = 10.0, 5.0  # from what it stands beside, and the length of its ends
LANE = 16.0  # where the encoder's output comes along


def stream(
    arch: s.Decoder,
    stack: s.Decoder | s.Encoder,
    shown: Sequence[LayerBlock],
    letters: Mapping[s.Spec, str],
    highlight: Highlight,
) -> Region:
    """The decoder's or the encoder's stream."""
    layers = [kind.layer for block in shown for kind in block.kinds]
    sketch, widths = Sketch("stream", highlight), Widths.of(layers)
    column = Column(sketch, 0.0, 0.0, widths.box)
    entering = _entrance(arch, stack, column)
    column.rise(26)
    panels = _layers(stack, shown, column, widths, letters)
    leaving = _handed_over(arch.encoder, column) if arch.encoder and stack is arch.encoder else _exit(arch, column)
    bottom, top = panels[0].bottom, panels[-1].y
    x = panels[0].right + NOTE_DISTANCE
    sketch.add(beside("notes.entrance", x, bottom + 8, inf, None, entering))
    if leaving:
        sketch.add(beside("notes.exit", x, -inf, top - 8, None, leaving))
    left = _brackets(sketch, shown, panels) if len(stack.layers) > 1 else panels[0].x
    sketch.add(_ladder(stack, left, top, bottom, highlight))
    return sketch.done()


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
        text = f"× √{width}" if isclose(embedding.scale, arch.width**0.5) else factor(embedding.scale)
        _pill(column, "embedding.scale", text, 84.0)
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
    shown: Sequence[LayerBlock],
    column: Column,
    widths: Widths,
    letters: Mapping[s.Spec, str],
) -> list[Rect]:
    """The panels one above the other in the order of the network, with their notes; the panels' places."""
    sketch, placed = column.sketch, list[Rect]()
    told: dict[tuple[str, tuple[Note, ...]], str] = {}
    for block in shown:
        heading = _heading(stack, block, len(shown))
        layers = [
            Variant(number, f"layers.{kind.indices[0]}", kind.layer)
            for kind, number in zip(block.kinds, block.numbers, strict=True)
        ]
        tight = layer_panel(layers, widths, letters, sketch.highlight)
        anchors = [_not_repeated(anchor, told, _block_name(block)) for anchor in tight.anchors]
        height = max(tight.part.rect.height, notes_height(heading, anchors))
        spread = (height - tight.part.rect.height) / len(layers[0].spec.branches)
        drawn = layer_panel(layers, widths, letters, sketch.highlight, spread)
        bottom = column.y
        column.line(bottom)
        part = drawn.part.moved(column.x, bottom)
        places = {anchor.path: anchor.moved(column.x, bottom) for anchor in drawn.anchors}
        anchors = [replace(places[anchor.path], lines=anchor.lines) for anchor in anchors]
        x, top = part.rect.right + NOTE_DISTANCE, part.rect.y
        sketch.parts += [part, beside(f"notes.{part.name}", x, top, bottom, heading, anchors)]
        placed.append(part.rect)
        column.leave(top)
        column.rise(BETWEEN)
    column.rise(-BETWEEN)
    return placed


def _not_repeated(anchor: Anchor, told: dict[tuple[str, tuple[Note, ...]], str], block: str) -> Anchor:
    """The notes of a part; where another block has told the same about its own, they say so instead."""
    known = (anchor.path.split(".", 2)[2], anchor.lines)
    if any(note.colors or note.ink != "ink" for note in anchor.lines) or known not in told:
        told.setdefault(known, block)
        return anchor
    return replace(anchor, lines=(Note(f"as in the {told[known]}", "muted"),))


def _heading(stack: s.Decoder | s.Encoder, block: LayerBlock, of: int) -> Heading:
    several = len(block.kinds) > 1
    kinds = [
        Note(f"{number(len(kind.indices))} × {kind.name}: {_ranges(kind.indices)}", "muted", (color,))
        for kind, color in zip(block.kinds, block.numbers, strict=True)
    ]
    if of == 1:
        all_of_them = f"Each of {counted(len(stack.layers), 'layer')}" if len(stack.layers) > 1 else "The only layer"
        return Heading(all_of_them, kinds=tuple(kinds) if several else ())
    where = f"{len(block.indices)} of {counted(len(stack.layers), 'layer')}"
    title = capital(_block_name(block))
    if several:
        return Heading(title, where, tuple(kinds))
    return Heading(title, kinds=(Note(f"{where}: {_ranges(block.indices)}", "muted", block.numbers),))


def _block_name(block: LayerBlock) -> str:
    """What the layers of a block are called: by what they do, where the names of its kinds have nothing in common."""
    bodies = [branch.body for branch in block.kinds[0].layer.branches]
    shorts = (describe(body).short or title(body) for body in bodies)
    return named(block.name) if block.name else f"layers with {' and '.join(shorts)}"


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> "0–2, 5"; only the first few of many."""
    cuts = [(a, b) for a, b in pairwise(indices) if b != a + 1]
    starts, ends = [indices[0], *(b for _, b in cuts)], [*(a for a, _ in cuts), indices[-1]]
    runs = [f"{a}–{b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(runs if len(runs) <= 4 else [*runs[:3], "…"])


def _brackets(sketch: Sketch, shown: Sequence[LayerBlock], panels: Sequence[Rect]) -> float:
    """How often each block is repeated, and those that take turns together; the left end of all brackets."""
    places = dict(zip(shown, panels, strict=True))
    found = sections(shown)
    edge = panels[0].x - (LANE if any(looks_across(block) for block in shown) else 0.0)
    inner = []
    for section in found:
        counts = section.counts or [len(block.indices) for block in section.blocks]
        for block, count in zip(section.blocks, counts, strict=True):
            text = f"× {number(count)}" if section.counts else counted(count, "layer")
            inner.append(_bracket(sketch, f"repeat.{block.indices[0]}", edge, [places[block]], text))
    left = min(inner)
    together = [section for section in found if len(section.blocks) > 1]
    outer = []
    for section in together:
        text = f"× {number(section.times)}" if section.counts else "in turn"
        rects = [places[block] for block in section.blocks]
        outer.append(_bracket(sketch, f"turns.{section.blocks[0].indices[0]}", left, rects, text))
    return min([left, *outer])


def _bracket(sketch: Sketch, name: str, right: float, panels: Sequence[Rect], text: str) -> float:
    """A bracket to the left of `right` around panels, with a word in its middle; where it ends on the left."""
    top, bottom = min(rect.y for rect in panels) + 4, max(rect.bottom for rect in panels) - 4
    x = right - BRACKET
    sketch.line((x + HOOK, top), (x, top), (x, bottom), (x + HOOK, bottom), kind="bracket")
    said = sketch.text(name, text, x - 6, (top + bottom) / 2 + 4, size=LABEL, ink="ink", anchor="end")
    return said.rect.x


def looks_across(block: LayerBlock) -> bool:
    """Whether its layers read what the encoder has made."""
    return any(describe(branch.body).picture.looks_across for branch in block.kinds[0].layer.branches)


def _ladder(stack: s.Decoder | s.Encoder, edge: float, top: float, bottom: float, highlight: Highlight) -> Region:
    """All layers from the first, at the bottom, to the last, each in the colour of its kind."""
    total, right = len(stack.layers), edge - LADDER_DISTANCE
    step, left = (bottom - top) / total, right - LADDER
    gap = min(1.5, step / 4)
    sketch = Sketch("ladder", highlight)
    for i, kind in enumerate(kinds(stack)):
        cells = tuple(Rect(left, bottom - (j + 1) * step, LADDER, step - gap) for j in kind.indices)
        rect = Rect(left, cells[-1].y, LADDER, cells[0].bottom - cells[-1].y)
        about = f"{kind.name}: {_ranges(kind.indices)}"
        sketch.add(Region(f"ladder.{i}", rect, "cells", f"layers.{kind.indices[0]}", kind_color(i), about, cells=cells))
    differs = highlight.marks("layers")
    sketch.text("count", counted(total, "layer"), right, top - 9, anchor="end", path="layers", differs=differs)
    if total > 1:
        sketch.text("first", "0", left - 6, bottom - 2, anchor="end")
        sketch.text("last", str(total - 1), left - 6, top + 10, anchor="end")
    return sketch.done("layers")
