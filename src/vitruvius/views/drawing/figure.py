"""The figure of one model: the stream from token ids to logits, with a panel for each kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf

from ... import spec as s
from ...cost import cost
from ...cost.quantity import count, number
from ..pattern import Kind, kinds, stretches
from ..words import phrase, root
from .cards import cards, insides
from .font import wrap
from .notes import capital, counted, label, note
from .panel import (
    NOTE_DISTANCE,
    Anchor,
    Heading,
    anchored,
    beside,
    box_width,
    layer_panel,
    noted,
    notes_height,
)
from .scene import Part, Rect, Text
from .sketch import ARROW, INNER, NOTE, SMALL, Column, Highlight, Sketch

SHOWN = 4  # kinds of layers that get a panel
BOX, NORM = 36.0, 28.0  # heights of the boxes below and above the layers
RAIL = 20.0  # between the panels and the line to them, where they are several
LADDER, LADDER_DISTANCE = 15.0, 24.0
BESIDE = 40.0  # between the notes of a panel and the next panel
TITLE = 22.0


@dataclass(frozen=True)
class Figure:
    """The parts of a figure before they are put in their places, and what it says in words."""

    header: Part
    body: Part
    cards: tuple[Part, ...]
    words: str


def figure(arch: s.Decoder, highlight: Highlight) -> Figure:
    shown = kinds(arch)[:SHOWN]
    inside = insides(shown)
    body = _body(arch, shown, {spec: i.letter for i in inside for spec in i.made_so}, highlight)
    said = _summary(arch, shown)
    words = ". ".join([*said, *(f"{capital(kind.name)}: {phrase(kind.layer)}" for kind in shown)])
    header = _header(arch.name, said, max(body.rect.width, 480.0))
    return Figure(header, body, tuple(cards(arch, inside, highlight)), words)


# The title


def _summary(arch: s.Decoder, shown: Sequence[Kind]) -> list[str]:
    parameters = cost(arch).parameters
    active = f", {_short(parameters.active)} active" if parameters.active < parameters.total else ""
    facts = [
        f"{_short(parameters.total)} parameters{active}",
        counted(len(arch.layers), "layer"),
        f"width {number(arch.width)}",
        f"context {number(arch.context)}",
    ]
    said = [" · ".join(facts)]
    if len(shown) > 1:
        said.append(f"Layers, from the bottom: {', then '.join(map(str, stretches(arch)))}")
    if more := len(kinds(arch)) - len(shown):
        said.append(f"{counted(more, 'more kind')} of layers without a panel")
    return said


def _short(value: int) -> str:
    return count(value).replace(" ", "")


def _header(name: str, said: Sequence[str], width: float) -> Part:
    texts = [Text(line, 0.0, 20.0 + 27 * i, TITLE, True) for i, line in enumerate(wrap(name, width, TITLE, True))]
    y = texts[-1].y + 6
    for line in (line for text in said for line in wrap(text, width, NOTE)):
        y += 18
        texts.append(Text(line, 0.0, y, NOTE, ink="muted"))
    return Part("header", Rect(0.0, -2.0, max(text.rect.right for text in texts), y + 8), texts=tuple(texts))


# The stream


def _body(arch: s.Decoder, shown: Sequence[Kind], letters: Mapping[s.Spec, str], highlight: Highlight) -> Part:
    sketch = Sketch("stream", highlight)
    column = Column(sketch, 0.0, 0.0, box_width([kind.layer for kind in shown]))
    rail = RAIL if len(shown) > 1 else 0.0
    entering = _entrance(arch, column)
    start = column.y
    column.rise(26 + rail)
    bottom, top = column.y, _layers(arch, shown, column, letters)
    sketch.line((0.0, start), (0.0, bottom))
    column.leave(top)
    column.rise(rail)
    leaving = _exit(arch, column)
    x = column.width / 2 + _PANEL_PADDING + NOTE_DISTANCE
    sketch.add(beside("notes.entrance", x, bottom + rail + 8, inf, None, entering))
    sketch.add(beside("notes.exit", x, -inf, top - rail - 8, None, leaving))
    return sketch.done()
