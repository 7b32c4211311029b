"""One kind of layer: its branches on the residual stream, with the norms and sums where they are, and the notes beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...cost.quantity import number
from ...spec import Branch, Layer, Spec
from ..words import equation, phrase
from .font import wrap
from .notes import Note, label, notes
from .scene import Line, Part, Rect, Text, group
from .sketch import NOTE, SMALL, Column, Highlight, Sketch, widest

NORM_HEIGHT, BODY_HEIGHT = 28.0, 44.0
PADDING = 38.0  # between a box and the edge of its panel: the residual line goes there
LANE = 18.0  # from a box to the residual line
NOTE_PITCH, NOTE_GAP, NOTE_WIDTH = 16.5, 11.0, 206.0
NOTE_DISTANCE = 30.0  # from the panel to its notes
BADGE = 9.0  # radius


@dataclass(frozen=True)
class Anchor:
    """Where a part stands that has something to say: its middle and right edge, and what it says."""

    path: str
    role: str
    x: float
    y: float
    lines: tuple[tuple[Note, bool], ...]  # each with whether it differs

    def moved(self, dx: float, dy: float) -> Anchor:
        return replace(self, x=self.x + dx, y=self.y + dy)

    def saying(self, lines: Iterable[tuple[Note, bool]]) -> Anchor:
        """The same with these notes; what is quiet only where it differs."""
        return replace(self, lines=tuple((n, differs) for n, differs in lines if differs or not n.quiet))


def anchored(part: Part, spec: Spec, highlight: Highlight) -> Anchor:
    """What there is to say about a part that is drawn; what is quiet only where it differs."""
    anchor = Anchor(part.path, part.role, part.rect.right, part.rect.center[1], ())
    return anchor.saying((n, highlight.touches(*(f"{part.path}.{name}" for name in n.fields))) for n in notes(spec))


@dataclass(frozen=True)
class Panel:
    """A drawn layer: the stream enters at the bottom (0, 0) and leaves at the top."""

    part: Part
    anchors: tuple[Anchor, ...]

    @property
    def rect(self) -> Rect:
        return self.part.rect


def box_width(layers: Sequence[Layer]) -> float:
    """One width for all boxes on the stream, so that the longest label fits."""
    bodies = [branch.body for layer in layers for branch in layer.branches]
    return max(188.0, 2 * (BADGE + 8) + widest((label(body) for body in bodies), bold=True))


def layer_panel(
    layer: Layer, path: str, width: float, letters: Mapping[Spec, str], highlight: Highlight, spread: float = 0.0
) -> Panel:
    """The panel of one kind of layer, the stream at x = 0 and the bottom at y = 0; `spread` is added at every branch."""
    sketch = Sketch("", highlight)
    column = Column(sketch, 0.0, 0.0, width)
    anchors: list[Anchor] = []
    column.rise(10 + spread / 2)
    for branch in layer.branches:
        anchors += _branch(column, branch, f"{path}.{branch.name}", letters)
        column.rise(spread)
    top = column.y + spread / 2 - 22
    sketch.line((0.0, column.start), (0.0, top))
    half = width / 2 + PADDING
    frame = Part(path, Rect(-half, top, 2 * half, -top), "box", path, "panel", phrase(layer))
    frame = replace(frame, parts=tuple(sketch.parts), lines=tuple(sketch.lines))
    return Panel(frame, tuple(anchors))


def _branch(column: Column, branch: Branch, path: str, letters: Mapping[Spec, str]) -> list[Anchor]:
    sketch, highlight = column.sketch, column.sketch.highlight
    column.rise(6)
    fork = column.y
    sketch.dot(f"{path}.fork", column.x, fork)
    anchors = []
    if branch.pre:
        pre = column.box(f"{path}.pre", label(branch.pre), height=NORM_HEIGHT, role="norm", path=f"{path}.pre", about=phrase(branch.pre))
        anchors.append(anchored(pre, branch.pre, highlight))
    body = column.box(f"{path}.body", label(branch.body), height=BODY_HEIGHT, role=_role(branch.body), path=f"{path}.body", about=phrase(branch.body))
    anchors.append(anchored(body, branch.body, highlight))
    if letter := letters.get(branch.body):
        badge(sketch, f"{path}.badge", letter, body.rect.right, body.rect.y, body.role)
    if branch.post:
        post = column.box(f"{path}.post", label(branch.post), height=NORM_HEIGHT, role="norm", path=f"{path}.post", about=phrase(branch.post))
        anchors.append(anchored(post, branch.post, highlight))
    if branch.scale != 1.0:
        column.box(f"{path}.scale", f"× {number(branch.scale)}", height=20, width=64, role="plain", shape="pill", size=11, path=f"{path}.scale")
    plus = column.join(f"{path}.sum", "+", path=path, reads=(f"{path}.scale", f"{path}.skip"), about=equation(branch))
    lane = column.x - column.width / 2 - LANE
    y = plus.rect.center[1]
    around = ((column.x, fork), (lane, fork), (lane, y))
    if branch.skip == 1.0:
        sketch.line(*around, (plus.rect.x, y), kind="skip", arrow=True)
    else:
        pill = Rect(column.x - column.width / 2 + 6, y - 10, 58, 20)
        sketch.line(*around, (pill.x, y), kind="skip")
        sketch.line((pill.right, y), (plus.rect.x, y), kind="skip", arrow=True)
        sketch.box(f"{path}.skip", pill, f"× {number(branch.skip)}", role="plain", shape="pill", size=SMALL, path=f"{path}.skip")
    return [anchor for anchor in anchors if anchor.lines]


def _role(body: Spec) -> str:
    return {"experts": "feed-forward"}.get(body.part or "", body.part or "plain")


def badge(sketch: Sketch, name: str, letter: str, x: float, y: float, role: str) -> Part:
    """A letter in a circle: the same letter marks the card that shows the inside."""
    text = Text(letter, x, y + 4, 10.5, True, "paper", "middle")
    return sketch.add(Part(sketch.named(name), Rect(x - BADGE, y - BADGE, 2 * BADGE, 2 * BADGE), "circle", role=f"badge-{role}", texts=(text,)))


@dataclass(frozen=True)
class Heading:
    """What stands above the notes of a panel: the kind's name, in its colour, and where its layers are."""

    title: str
    lines: tuple[str, ...]
    color: int | None = None


def beside(name: str, x: float, top: float, bottom: float, heading: Heading | None, anchors: Sequence[Anchor]) -> Part:
    """The notes at `x`, each as near to its part's height as the others leave room for, with a line to it."""
    blocks: list[tuple[float, float, Part, Anchor | None]] = []
    if heading:
        part = _heading(f"{name}.heading", heading)
        blocks.append((top, part.rect.height, part, None))
    for anchor in sorted(anchors, key=lambda a: a.y):
        part = _block(f"{name}.{anchor.path}", anchor)
        blocks.append((anchor.y - part.rect.height / 2, part.rect.height, part, anchor))
    places = apart([(y, height) for y, height, _, _ in blocks], top, bottom)
    parts, lines = [], []
    for y, (_, height, part, anchor) in zip(places, blocks, strict=True):
        parts.append(part.moved(x - part.rect.x, y - part.rect.y))
        if anchor:
            elbow = x - NOTE_DISTANCE + 8
            points = ((anchor.x, anchor.y), (elbow, anchor.y), (x, y + height / 2))
            lines.append(Line(points, "leader"))
    return group(name, tuple(parts), tuple(lines))


def notes_height(heading: Heading | None, anchors: Sequence[Anchor]) -> float:
    """The room that `beside` needs."""
    parts = [_heading("", heading)] if heading else []
    parts += [_block("", anchor) for anchor in anchors]
    return sum(part.rect.height + NOTE_GAP for part in parts) - NOTE_GAP


def apart(wanted: Sequence[tuple[float, float]], top: float, bottom: float) -> list[float]:
    """Upper ends for blocks of (wanted upper end, height), in order, none nearer than NOTE_GAP, within top and bottom."""
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


def _block(name: str, anchor: Anchor) -> Part:
    texts, y = [], 0.0
    for said, differs in anchor.lines:
        for line in wrap(said.text, NOTE_WIDTH - 8, NOTE, differs):
            y += NOTE_PITCH
            texts.append(Text(line, 8.0, y - 4.5, NOTE, differs, "difference" if differs else "ink"))
    rule = Line(((0.0, 0.0), (0.0, y)), f"rule-{anchor.role}")
    width = 8 + max(text.rect.width for text in texts)
    return Part(name, Rect(0.0, 0.0, width, y), path=anchor.path, texts=tuple(texts), lines=(rule,))


def _heading(name: str, heading: Heading) -> Part:
    left = 0.0 if heading.color is None else 18.0
    texts = [Text(heading.title, left, 12.0, 13.5, True)]
    y = 17.0
    for given in heading.lines:
        for line in wrap(given, NOTE_WIDTH, NOTE):
            y += NOTE_PITCH
            texts.append(Text(line, 0.0, y - 4.5, NOTE, ink="muted"))
    width = max(text.rect.right for text in texts)
    swatch = () if heading.color is None else (Part(f"{name}.swatch", Rect(0, 1.5, 11, 11), "box", role=f"kind-{heading.color}"),)
    return Part(name, Rect(0.0, -2.0, width, y + 2), texts=tuple(texts), parts=swatch)
