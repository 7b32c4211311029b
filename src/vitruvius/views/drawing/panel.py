"""One kind of layer: its branches on the residual stream, norms and sums where they are, and the notes beside it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...cost.quantity import number
from ...spec import Branch, Layer, Spec
from ..description import Callout
from ..nouns import callouts, describe, label, phrase
from .font import wrap
from .scene import Differs, Line, Rect, Region, Text, group
from .sketch import ARROW, LABEL, NOTE, RADIUS, SMALL, Column, Highlight, Sketch, around, widest

NORM_HEIGHT, BODY_HEIGHT = 28.0, 44.0
PADDING = 38.0  # between a box and the edge of its panel: the residual line goes there
LANE = 18.0  # from a box to the residual line
APART = 26.0  # branches side by side
NOTE_PITCH, NOTE_GAP, NOTE_WIDTH, INDENT = 16.5, 11.0, 218.0, 9.0
NOTE_DISTANCE = 30.0  # from the panel to its notes


@dataclass(frozen=True)
class Anchor:
    """A part that has something to say: the middle of its right edge, and the lines to write, each with its ink."""

    path: str
    role: str
    x: float
    y: float
    lines: tuple[tuple[str, str], ...]

    def moved(self, dx: float, dy: float) -> Anchor:
        """The same elsewhere."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def muted(self, known: Container[str]) -> Anchor:
        """Lines that have been said elsewhere step back."""
        lines = tuple((text, "muted" if ink == "ink" and text in known else ink) for text, ink in self.lines)
        return replace(self, lines=lines)

    def without(self, known: Container[str]) -> Anchor:
        """Lines that have been said elsewhere are left out, unless they differ."""
        return replace(self, lines=tuple((text, ink) for text, ink in self.lines if ink != "ink" or text not in known))


def anchored(part: Region, notes: Iterable[tuple[Callout, Differs]], gap: float = 0.0) -> list[Anchor]:
    """The part with its callouts, each with how it differs; one that is quiet only if so. Nothing, if none is left.
    The line to them begins `gap` beside the part."""
    lines = tuple(
        (each.text, "difference" if differs else "ink") for each, differs in notes if differs or not each.quiet
    )
    role = "difference" if part.differs == "whole" else part.role or "plain"
    return [Anchor(part.path, role, part.rect.right + gap, part.rect.center[1], lines)] if lines else []


def noted(part: Region, spec: Spec, highlight: Highlight) -> list[Anchor]:
    """The part with all that there is to say about its spec."""
    return anchored(part, ((each, highlight.fields(*each.paths(part.path))) for each in callouts(spec)))


@dataclass(frozen=True)
class Panel:
    """A drawn layer: the stream enters at the bottom, (0, 0), and leaves at the top."""

    part: Region
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True)
class Widths:
    """Of a box on the stream, and of as many as stand side by side in a layer; the same in all panels of a figure."""

    box: float
    stream: float

    @staticmethod
    def of(layers: Sequence[Layer]) -> Widths:
        """So wide that the longest label fits."""
        bodies = [branch.body for layer in layers for branch in layer.branches]
        beside = [describe(body).picture.side_by_side for body in bodies]
        inner = [branch.body for branches in beside for branch in branches]
        around = [layer.around for layer in layers if layer.around]
        labels = map(label, (*bodies, *inner, *around))
        box = max(188.0, 2 * (RADIUS + 8) + widest(labels, LABEL))
        most = max(len(branches) or 1 for branches in beside)
        return Widths(box, most * (box + APART) - APART)


def layer_panel(
    layer: Layer, path: str, widths: Widths, letters: Mapping[Spec, str], highlight: Highlight, spread: float = 0.0
) -> Panel:
    """The panel of one kind of layer; `spread` is added to every branch."""
    sketch = Sketch("", highlight)
    column = Column(sketch, 0.0, 0.0, widths.box)
    anchors: list[Anchor] = []
    column.rise(10 + spread / 2)
    for branch in layer.branches:
        anchors += _branch(column, branch, f"{path}.{branch.name}", widths, letters)
        column.rise(spread)
    column.rise(-spread)
    if layer.around:
        anchors += _around(column, layer.around, f"{path}.around")
    top = column.y - spread / 2 - 22
    column.line(top)
    half = widths.stream / 2 + PADDING
    frame = Region(path, Rect(-half, top, 2 * half, -top), "box", path, "panel", phrase(layer))
    return Panel(replace(frame, parts=tuple(sketch.parts), lines=tuple(sketch.lines)), tuple(anchors))


def _branch(column: Column, branch: Branch, path: str, widths: Widths, letters: Mapping[Spec, str]) -> list[Anchor]:
    """x ← skip · x + scale · post(body(pre(x))), and what there is to say about it."""
    sketch = column.sketch
    column.rise(6)
    fork = column.y
    sketch.dot(f"{path}.fork", column.x, fork)
    anchors = _inside(column, branch, path, letters)
    plus = sketch.join(f"{path}.sum", "+", column.joint(), path=path, about=describe(branch).equation or "").rect
    y, left = plus.center[1], column.x - widths.stream / 2
    way = ((column.x, fork), (left - LANE, fork), (left - LANE, y))
    if branch.skip == 1.0:
        sketch.line(*way, (plus.x, y), kind="skip", arrow=True)
    else:
        pill = Rect(left + 6, y - 10, 58, 20)
        sketch.line(*way, (pill.x, y), kind="skip")
        sketch.line((pill.right, y), (plus.x, y), kind="skip", arrow=True)
        _factor(sketch, f"{path}.skip", pill, branch.skip)
    return anchors


def _inside(column: Column, branch: Branch, path: str, letters: Mapping[Spec, str]) -> list[Anchor]:
    """scale · post(body(pre(x)))."""
    sketch, body = column.sketch, branch.body
    if branch.pre:
        _norm(column, branch.pre, f"{path}.pre")
    if branches := describe(body).picture.side_by_side:
        anchors = _side_by_side(column, branches, f"{path}.body", letters)
    else:
        here, role, rect = f"{path}.body", role_of(body), column.next(BODY_HEIGHT)
        differs = sketch.highlight.part(here)
        part = sketch.box(here, rect, label(body), role=role, path=here, differs=differs, about=phrase(body))
        if body in letters:
            sketch.badge(f"{path}.badge", letters[body], (rect.right, rect.y), role)
        anchors = noted(part, body, sketch.highlight)
    if branch.post:
        _norm(column, branch.post, f"{path}.post")
    if branch.scale != 1.0:
        _factor(sketch, f"{path}.scale", column.next(20, 64), branch.scale)
    return anchors


def _norm(column: Column, norm: Spec, path: str) -> None:
    sketch, differs = column.sketch, column.sketch.highlight.part(path)
    rect = column.next(NORM_HEIGHT)
    sketch.box(path, rect, label(norm), role="norm", path=path, differs=differs, about=phrase(norm))


def _side_by_side(column: Column, branches: Sequence[Branch], path: str, letters: Mapping[Spec, str]) -> list[Anchor]:
    """Branches side by side, and their sum; what there is to say about all of them stands together."""
    sketch, bottom, low = column.sketch, column.trail[-1], column.y - ARROW
    step = column.width + APART
    left = column.x - step * (len(branches) - 1) / 2
    columns, anchors = [], []
    for i, branch in enumerate(branches):
        x = left + i * step
        inner = Column(sketch, x, low, column.width, via=(bottom,) if x == column.x else (bottom, (column.x, low)))
        columns.append(inner)
        anchors += _inside(inner, branch, f"{path}.{branch.name}", letters)
    y = min(inner.y for inner in columns) - ARROW - RADIUS
    plus = sketch.join(f"{path}.sum", "+", around((column.x, y)), path=path).rect
    for inner in columns:
        side = plus.x if inner.x < column.x else plus.right
        inner.arrow(plus.bottom) if inner.x == column.x else inner.turn((inner.x, y), (side, y))
    column.leave(plus.y)
    names = dict(zip((f"{path}.{branch.name}.body" for branch in branches), branches, strict=True))
    lines = [line for a in anchors for line in ((f"{label(names[a.path].body)}:", "ink"), *a.lines)]
    return [replace(anchors[-1], role=anchors[0].role, lines=tuple(lines))] if anchors else []


def _around(column: Column, spec: Spec, path: str) -> list[Anchor]:
    """What acts on the layer as a whole; it ends at the end of the layer."""
    differs = column.sketch.highlight.part(path)
    rect = column.next(NORM_HEIGHT)
    part = column.sketch.box(path, rect, label(spec), role="plain", path=path, differs=differs, about=phrase(spec))
    return noted(part, spec, column.sketch.highlight)


def _factor(sketch: Sketch, path: str, rect: Rect, value: float) -> None:
    differs = sketch.highlight.part(path)
    sketch.box(path, rect, f"× {number(value)}", role="plain", shape="pill", size=SMALL, path=path, differs=differs)


def role_of(body: Spec) -> str:
    """The colour of a body: experts are feed-forward layers, and whatever lets tokens meet is a kind of attention."""
    if body.part in ("experts", "feed-forward"):
        return "feed-forward"
    return "attention" if body.mixes else "plain"


@dataclass(frozen=True)
class Heading:
    """What stands above the notes of a panel: a name, where its layers are, and the number of the kind's colour."""

    title: str
    line: str = ""
    color: int | None = None


def beside(
    name: str, x: float, top: float, bottom: float, heading: Heading | None, anchors: Sequence[Anchor]
) -> Region:
    """The notes at `x`, each as near to its part's height as the others leave room for, with a line to it."""
    ordered = sorted(anchors, key=lambda anchor: anchor.y)
    blocks = [_block(f"{name}.{anchor.path}", anchor) for anchor in ordered]
    wanted = [(a.y - b.rect.height / 2, b.rect.height) for a, b in zip(ordered, blocks, strict=True)]
    if heading:
        blocks.insert(0, _heading(f"{name}.heading", heading))
        wanted.insert(0, (top, blocks[0].rect.height))
    places = apart(wanted, top, bottom)
    parts = [block.moved(x, y) for block, y in zip(blocks, places, strict=True)]
    elbow = x - NOTE_DISTANCE + 9
    ends = [(x, part.rect.center[1]) for part in parts[len(parts) - len(ordered) :]]
    lines = [Line(((a.x, a.y), (elbow, a.y), end), "leader") for a, end in zip(ordered, ends, strict=True)]
    return group(name, tuple(parts), tuple(lines))


def notes_height(heading: Heading | None, anchors: Sequence[Anchor]) -> float:
    """The room that `beside` needs."""
    blocks = [_block("", anchor) for anchor in anchors] + ([_heading("", heading)] if heading else [])
    return sum(block.rect.height + NOTE_GAP for block in blocks) - NOTE_GAP


def apart(wanted: Sequence[tuple[float, float]], top: float, bottom: float) -> list[float]:
    """Upper ends for blocks of (wanted upper end, height), in order, at least NOTE_GAP apart, from top to bottom."""
    places: list[float] = []
    free = top
    for y, height in wanted:
        places.append(max(y, free))
        free = places[-1] + height + NOTE_GAP
    limit = bottom
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit - wanted[i][1])
        limit = places[i] - NOTE_GAP
    return places


def _block(name: str, anchor: Anchor) -> Region:
    """Notes under each other with a rule in their part's colour to the left."""
    texts: list[Text] = []
    for string, ink in anchor.lines:
        bold = ink == "difference"
        for line in wrap(string, NOTE_WIDTH - INDENT, NOTE, bold):
            texts.append(Text(line, INDENT, NOTE_PITCH * (len(texts) + 1) - 4.5, NOTE, bold, ink))
    height = NOTE_PITCH * len(texts)
    width = max(text.rect.right for text in texts)
    rule = Line(((0.0, 0.0), (0.0, height)), f"rule-{anchor.role}")
    return Region(name, Rect(0.0, 0.0, width, height), path=anchor.path, texts=tuple(texts), lines=(rule,))


def _heading(name: str, heading: Heading) -> Region:
    left = 0.0 if heading.color is None else 18.0
    texts: list[Text] = []
    for line in wrap(heading.title, NOTE_WIDTH - left, 13.5, bold=True):
        texts.append(Text(line, left, 14.0 + NOTE_PITCH * len(texts), 13.5, True))
    for line in wrap(heading.line, NOTE_WIDTH, NOTE) if heading.line else ():
        texts.append(Text(line, 0.0, 14.5 + NOTE_PITCH * len(texts), NOTE, ink="muted"))
    rect = Rect(0.0, 0.0, max(text.rect.right for text in texts), texts[-1].rect.bottom)
    swatch = Region(f"{name}.color", Rect(0, 3.5, 11, 11), "box", role=f"kind-{heading.color}")
    return Region(name, rect, texts=tuple(texts), parts=() if heading.color is None else (swatch,))
