"""One kind of layer: its branches on the residual stream, norms and sums where they are, and the notes beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ...spec import Branch, Layer, Spec
from ..description import Callout, factor
from ..nouns import callouts, describe, label, phrase
from .font import wrap
from .scene import Differs, Line, Rect, Region, Text, group
from .sketch import ARROW, LABEL, NOTE, RADIUS, SMALL, Column, Highlight, Sketch, around, widest
from .theme import PAPER

NORM_HEIGHT, BODY_HEIGHT = 28.0, 44.0
PADDING = 38.0  # between a box and the edge of its panel: the residual line goes there
LANE = 18.0  # from a box to the residual line
APART = 26.0  # branches side by side
NOTE_PITCH, NOTE_GAP, NOTE_WIDTH, INDENT = 16.5, 11.0, 218.0, 9.0
NOTE_DISTANCE = 30.0  # from the panel to its notes
SQUARE, SQUARE_STEP = 9.0, 13.0  # in the colour of a kind of layers
KIND_COLORS = len(PAPER.kinds)

S_co = TypeVar("S_co", bound=Spec, covariant=True)


@dataclass(frozen=True)
class Note:
    """A line beside a part. One that is not true of all kinds of layers in a panel has the numbers of their colours."""

    text: str
    ink: str = "ink"
    colors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Anchor:
    """A part that has something to say: the middle of its right edge, and the lines to write."""

    path: str
    role: str
    x: float
    y: float
    lines: tuple[Note, ...]

    def moved(self, dx: float, dy: float) -> Anchor:
        """The same elsewhere."""
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True)
class Variant(Generic[S_co]):
    """What one kind of layers has at a place of its panel: the number of the kind's colour, a path, and what is there.
    Of the places in a panel the first is drawn."""

    color: int
    path: str
    spec: S_co


Variants = Sequence[Variant[S_co]]


def anchored(part: Region, notes: Iterable[tuple[Callout, Differs]], gap: float = 0.0) -> list[Anchor]:
    """The part with its callouts, each with how it differs; one that is quiet only if so. Nothing, if none is left.
    The line to them begins `gap` beside the part."""
    lines = tuple(
        Note(each.text, "difference" if differs else "ink") for each, differs in notes if differs or not each.quiet
    )
    return _anchor(part, lines, gap)


def _anchor(part: Region, lines: tuple[Note, ...], gap: float = 0.0) -> list[Anchor]:
    role = "difference" if part.differs == "whole" else part.role or "plain"
    return [Anchor(part.path, role, part.rect.right + gap, part.rect.center[1], lines)] if lines else []


def noted(part: Region, spec: Spec, highlight: Highlight) -> list[Anchor]:
    """The part with all that there is to say about its spec."""
    return anchored(part, ((each, highlight.fields(*each.paths(part.path))) for each in callouts(spec)))


def noted_in_all(part: Region, places: Variants[Spec], highlight: Highlight) -> list[Anchor]:
    """The part with what there is to say about it in all kinds of layers, and then in single ones."""
    names = {label(place.spec) for place in places}
    colors: dict[str, dict[int, Differs]] = {}
    for place in places:
        said = [*([Callout(label(place.spec))] if len(names) > 1 else []), *callouts(place.spec)]
        for each in said:
            if (differs := highlight.of_kinds.fields(*each.paths(place.path))) or not each.quiet:
                colors.setdefault(each.text, {})[place.color] = differs
    notes = [
        Note(text, "difference" if any(kinds.values()) else "ink", () if len(kinds) == len(places) else tuple(kinds))
        for text, kinds in colors.items()
    ]
    return _anchor(part, tuple(sorted(notes, key=lambda note: note.colors)))


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
    layers: Variants[Layer], widths: Widths, letters: Mapping[Spec, str], highlight: Highlight, spread: float = 0.0
) -> Panel:
    """The panel of kinds of layers that differ in little; `spread` is added to every branch."""
    first, sketch = layers[0], Sketch("", highlight)
    column = Column(sketch, 0.0, 0.0, widths.box)
    anchors: list[Anchor] = []
    column.rise(10 + spread / 2)
    for branches in _branches(layers, "", [each.spec.branches for each in layers]):
        anchors += _branch(column, branches, widths, letters)
        column.rise(spread)
    column.rise(-spread)
    if first.spec.around:
        anchors += _around(column, first.spec.around, f"{first.path}.around")
    top = column.y - spread / 2 - 22
    column.line(top)
    half = widths.stream / 2 + PADDING
    frame = Region(first.path, Rect(-half, top, 2 * half, -top), "box", first.path, "panel", phrase(first.spec))
    return Panel(replace(frame, parts=tuple(sketch.parts), lines=tuple(sketch.lines)), tuple(anchors))


def _branches(owners: Variants[Spec], slot: str, of: Sequence[Sequence[Branch]]) -> Iterator[list[Variant[Branch]]]:
    """The branches of all owners, those that stand at one place together."""
    for alike in zip(*of, strict=True):
        yield [Variant(o.color, f"{o.path}{slot}.{b.name}", b) for o, b in zip(owners, alike, strict=True)]


def _branch(column: Column, places: Variants[Branch], widths: Widths, letters: Mapping[Spec, str]) -> list[Anchor]:
    """x ← skip · x + scale · post(body(pre(x))), and what there is to say about it."""
    sketch, branch, path = column.sketch, places[0].spec, places[0].path
    column.rise(6)
    fork = column.y
    sketch.dot(f"{path}.fork", column.x, fork)
    anchors = _inside(column, places, letters)
    plus = sketch.join(f"{path}.sum", "+", column.joint(), path=path, about=describe(branch).equation or "").rect
    y, left = plus.center[1], column.x - widths.stream / 2
    way = ((column.x, fork), (left - LANE, fork), (left - LANE, y))
    if branch.skip == 1.0:
        sketch.line(*way, (plus.x, y), kind="skip", arrow=True)
    else:
        pill = Rect(left + 2, y - 10, 64, 20)
        sketch.line(*way, (pill.x, y), kind="skip")
        sketch.line((pill.right, y), (plus.x, y), kind="skip", arrow=True)
        _factor(sketch, f"{path}.skip", pill, branch.skip)
    return anchors


def _inside(column: Column, places: Variants[Branch], letters: Mapping[Spec, str]) -> list[Anchor]:
    """scale · post(body(pre(x)))."""
    sketch, branch, path = column.sketch, places[0].spec, places[0].path
    bodies = [Variant(place.color, f"{place.path}.body", place.spec.body) for place in places]
    body, here = bodies[0].spec, bodies[0].path
    if branch.pre:
        _norm(column, branch.pre, f"{path}.pre")
    side_by_side = [describe(each.spec).picture.side_by_side for each in bodies]
    if side_by_side[0]:
        anchors = _side_by_side(column, list(_branches(bodies, "", side_by_side)), here, letters)
    else:
        role, rect = role_of(body), column.next(BODY_HEIGHT)
        differs = sketch.highlight.part(here)
        part = sketch.box(here, rect, label(body), role=role, path=here, differs=differs, about=phrase(body))
        for i, letter in enumerate(dict.fromkeys(letters[each.spec] for each in bodies if each.spec in letters)):
            center = (rect.right - i * (2 * RADIUS + 3), rect.y)
            sketch.badge(f"{path}.badge{i or ''}", letter, center, role)
        anchors = noted_in_all(part, bodies, sketch.highlight)
    if branch.post:
        _norm(column, branch.post, f"{path}.post")
    if branch.scale != 1.0:
        _factor(sketch, f"{path}.scale", column.next(20, 72), branch.scale)
    return anchors


def _norm(column: Column, norm: Spec, path: str) -> None:
    sketch, differs = column.sketch, column.sketch.highlight.part(path)
    if describe(norm).picture.pill:
        rect = column.next(20, 72)
        sketch.box(path, rect, label(norm), role="plain", shape="pill", size=SMALL, path=path, differs=differs)
        return
    rect = column.next(NORM_HEIGHT)
    sketch.box(path, rect, label(norm), role="norm", path=path, differs=differs, about=phrase(norm))


def _side_by_side(
    column: Column, branches: Sequence[Variants[Branch]], path: str, letters: Mapping[Spec, str]
) -> list[Anchor]:
    """Branches side by side, and their sum; what there is to say about all of them stands together."""
    sketch, bottom, low = column.sketch, column.trail[-1], column.y - ARROW
    step = column.width + APART
    left = column.x - step * (len(branches) - 1) / 2
    columns, anchors = [], []
    for i, places in enumerate(branches):
        x = left + i * step
        inner = Column(sketch, x, low, column.width, via=(bottom,) if x == column.x else (bottom, (column.x, low)))
        columns.append(inner)
        anchors += _inside(inner, places, letters)
    y = min(inner.y for inner in columns) - ARROW - RADIUS
    plus = sketch.join(f"{path}.sum", "+", around((column.x, y)), path=path).rect
    for inner in columns:
        side = plus.x if inner.x < column.x else plus.right
        inner.arrow(plus.bottom) if inner.x == column.x else inner.turn((inner.x, y), (side, y))
    column.leave(plus.y)
    names = {f"{places[0].path}.body": label(places[0].spec.body) for places in branches}
    lines = [line for a in anchors for line in (Note(f"{names[a.path]}:"), *a.lines)]
    return [replace(anchors[-1], role=anchors[0].role, lines=tuple(lines))] if anchors else []


def _around(column: Column, spec: Spec, path: str) -> list[Anchor]:
    """What acts on the layer as a whole; it ends at the end of the layer."""
    differs = column.sketch.highlight.part(path)
    rect = column.next(NORM_HEIGHT)
    part = column.sketch.box(path, rect, label(spec), role="plain", path=path, differs=differs, about=phrase(spec))
    return noted(part, spec, column.sketch.highlight)


def _factor(sketch: Sketch, path: str, rect: Rect, value: float) -> None:
    differs = sketch.highlight.part(path)
    sketch.box(path, rect, factor(value), role="plain", shape="pill", size=SMALL, path=path, differs=differs)


def role_of(body: Spec) -> str:
    """The colour of a body: experts are feed-forward layers, and whatever lets tokens meet is a kind of attention."""
    if body.part in ("experts", "feed-forward"):
        return "feed-forward"
    return "attention" if body.mixes else "plain"


@dataclass(frozen=True)
class Heading:
    """What stands above the notes of a panel: a name, where its layers are, and its kinds, each with the number of
    its colour."""

    title: str
    line: str = ""
    kinds: tuple[Note, ...] = ()


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
    content = _lines(name, anchor.lines, INDENT)
    height = content.rect.height
    rule = Line(((0.0, 0.0), (0.0, height)), f"rule-{anchor.role}")
    return replace(content, rect=Rect(0.0, 0.0, content.rect.right, height), path=anchor.path, lines=(rule,))


def _lines(name: str, notes: Sequence[Note], left: float, top: float = 0.0) -> Region:
    """Notes under each other, those of single kinds of layers behind squares in their colours."""
    texts: list[Text] = []
    squares: list[Region] = []
    y = top
    for i, note in enumerate(notes):
        bold, x = note.ink == "difference", left + SQUARE_STEP * len(note.colors)
        for j, color in enumerate(note.colors):
            rect = Rect(left + j * SQUARE_STEP, y + 3.5, SQUARE, SQUARE)
            squares.append(Region(f"{name}.color-{i}-{j}", rect, "box", role=kind_color(color)))
        for line in wrap(note.text, NOTE_WIDTH - x, NOTE, bold):
            texts.append(Text(line, x, y + NOTE_PITCH - 4.5, NOTE, bold, note.ink))
            y += NOTE_PITCH
    rect = Rect(left, top, max(text.rect.right for text in texts) - left, y - top)
    return Region(name, rect, texts=tuple(texts), parts=tuple(squares))


def kind_color(number: int) -> str:
    """The role of what is painted in the colour of a kind of layers."""
    return f"kind-{number if number < KIND_COLORS else 'other'}"


def _heading(name: str, heading: Heading) -> Region:
    title = wrap(heading.title, NOTE_WIDTH, 13.5, bold=True)
    texts = [Text(line, 0.0, 14.0 + NOTE_PITCH * i, 13.5, True) for i, line in enumerate(title)]
    for line in wrap(heading.line, NOTE_WIDTH, NOTE) if heading.line else ():
        texts.append(Text(line, 0.0, 14.5 + NOTE_PITCH * len(texts), NOTE, ink="muted"))
    rect = Rect(0.0, 0.0, max(text.rect.right for text in texts), texts[-1].rect.bottom)
    whole = Region(name, rect, texts=tuple(texts))
    if not heading.kinds:
        return whole
    kinds = _lines(f"{name}.kinds", heading.kinds, 0.0, rect.bottom)
    return replace(whole, rect=rect.union(kinds.rect), parts=(kinds,))
