"""The figure of one model: its title, the stream from token ids to logits, and the cards beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ... import spec as s
from ...cost.counting import counted as weights
from ...cost.counting import parameters
from ...cost.quantity import count, number
from ..description import capital, counted
from ..layer_periods import LayerKind
from ..nouns import phrase
from .cards import cards, insides
from .font import wrap
from .kinds import highlighted_in, kinds, stretches
from .scene import Rect, Region, Text, group
from .sketch import NOTE, Highlight
from .stream import stream

SHOWN = 6  # kinds of layers that get a panel
BETWEEN = 80.0  # an encoder and its decoder
TITLE = 22.0


@dataclass(frozen=True)
class ModelFigure:
    """The parts of a figure before they are put in their places, and what it says in words."""

    header: Region
    body: Region
    cards: tuple[Region, ...]
    words: str
    panels: float  # their height


def figure(arch: s.Decoder, highlight: Highlight, height: float = 0.0) -> ModelFigure:
    """The figure of a model, its panels at least as high as `height`."""
    shown = kinds(arch)[:SHOWN]
    read = kinds(arch.encoder)[:SHOWN] if arch.encoder else ()
    inside = insides([*(("", kind) for kind in shown), *(("encoder.", kind) for kind in read)])
    letters = {spec: i.letter for i in inside for spec in i.specs}
    body, panels = stream(arch, arch, shown, letters, highlight, height)
    if arch.encoder:
        marked = highlighted_in(arch.encoder, highlight)
        encoder, _ = stream(arch, arch.encoder, read, letters, marked, panels)
        body = _behind(encoder.under("encoder.", "encoder."), body)
    summary = _summary(arch, shown)
    words = ". ".join([*summary, *(f"{capital(kind.name)}: {phrase(kind.layer)}" for kind in (*read, *shown))])
    header = _header(arch.name, summary, max(body.rect.width, 480.0))
    return ModelFigure(header, body, tuple(cards(arch, inside, highlight)), words, panels)


def _behind(encoder: Region, decoder: Region) -> Region:
    """The decoder to the right of the encoder that it reads, the token ids of both on one height."""
    x = encoder.rect.right + BETWEEN - decoder.rect.x
    return group("streams", (encoder, decoder.moved(x, 0.0)))


def _summary(arch: s.Decoder, shown: Sequence[LayerKind]) -> list[str]:
    sizes = parameters(weights(arch))
    active = f", {_short(sizes.active)} active" if sizes.active < sizes.total else ""
    facts = [
        f"{_short(sizes.total)} parameters{active}",
        counted(len(arch.layers), "layer"),
        *([f"encoder of {counted(len(arch.encoder.layers), 'layer')}"] if arch.encoder else []),
        f"width {number(arch.width)}",
        f"context {number(arch.context)}",
    ]
    summary = [" · ".join(facts)]
    if len(shown) > 1:
        summary.append(f"Layers, from the bottom: {', then '.join(map(str, stretches(kinds(arch))))}")
    if more := len(kinds(arch)) - len(shown):
        summary.append(f"{counted(more, 'more kind')} of layers without a panel")
    return summary


def _short(value: int) -> str:
    return count(value).replace(" ", "")


def _header(name: str, summary: Sequence[str], width: float) -> Region:
    texts = [Text(line, 0.0, 20.0 + 27 * i, TITLE, True) for i, line in enumerate(wrap(name, width, TITLE, True))]
    y = texts[-1].y + 6
    for line in (line for text in summary for line in wrap(text, width, NOTE)):
        y += 18
        texts.append(Text(line, 0.0, y, NOTE, ink="muted"))
    return Region("header", Rect(0.0, -2.0, max(text.rect.right for text in texts), y + 8), texts=tuple(texts))
