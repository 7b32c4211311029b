"""The figure of one model: its title, the stream from token ids to logits, and the cards beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ... import catalog
from ... import spec as s
from ...cost.counting import counted as weights
from ...cost.counting import parameters
from ...cost.quantity import count, number
from ..description import capital, counted
from ..nouns import phrase
from .across import behind
from .cards import cards, insides
from .font import wrap
from .kinds import blocks, highlighted_in, patterns
from .scene import Rect, Region, Text
from .sketch import NOTE, Highlight
from .stream import stream

SHOWN = 4  # blocks of layers that get a panel
TITLE = 22.0


@dataclass(frozen=True)
class ModelFigure:
    """The parts of a figure before they are put in their places, and what it says in words."""

    header: Region
    body: Region
    cards: tuple[Region, ...]
    words: str


def figure(arch: s.Decoder, highlight: Highlight) -> ModelFigure:
    """The figure of a model."""
    shown = blocks(arch)[:SHOWN]
    read = blocks(arch.encoder)[:SHOWN] if arch.encoder else ()
    stacks = (("", shown), ("encoder.", read))
    inside = insides([(stack, kind) for stack, found in stacks for block in found for kind in block.kinds])
    letters = {spec: i.letter for i in inside for spec in i.specs}
    body = stream(arch, arch, shown, letters, highlight)
    if arch.encoder:
        marked = highlighted_in(arch.encoder, highlight)
        encoder = stream(arch, arch.encoder, read, letters, marked)
        body = behind(encoder.under("encoder.", "encoder."), body, shown)
    summary = _summary(arch, len(shown))
    kinds = [kind for block in (*read, *shown) for kind in block.kinds]
    words = ". ".join([*summary, *(f"{capital(kind.name)}: {phrase(kind.layer)}" for kind in kinds)])
    header = _header(full_name(arch), summary, max(body.rect.width, 480.0))
    return ModelFigure(header, body, tuple(cards(arch, inside, highlight)), words)


def full_name(arch: s.Decoder) -> str:
    """The name that its makers gave to a model of the catalog; of others, what they are called here."""
    return catalog.entry(arch.name).name if arch.name in catalog.names() else arch.name


def _summary(arch: s.Decoder, shown: int) -> list[str]:
    sizes = parameters(weights(arch))
    active = f", {_short(sizes.active)} active" if sizes.active < sizes.total else ""
    facts = [
        f"{_short(sizes.total)} parameters{active}",
        counted(len(arch.layers), "layer"),
        *([f"encoder of {counted(len(arch.encoder.layers), 'layer')}"] if arch.encoder else []),
        f"width {number(arch.width)}",
        f"context {number(arch.context)}",
    ]
    summary = [" · ".join(facts), *_left_out(arch, sizes.total)]
    summary += [f"{capital(what)}, from the first layer: {text}" for what, text in patterns(arch).items()]
    if more := len(blocks(arch)) - shown:
        summary.append(f"{counted(more, 'more kind')} of layers without a panel")
    return summary


def _left_out(arch: s.Decoder, total: int) -> list[str]:
    """What belongs to a model of the catalog and is not of its text model."""
    if arch.name not in catalog.names():
        return []
    entry = catalog.entry(arch.name)
    if whole := entry.exact["with_vision"]:
        return [f"The text model; a vision tower of {_short(whole - total)} parameters is not drawn"]
    towers = [name for name in ("vision", "audio") if f"{name}_config" in entry.config]
    return [f"The text model; its {' and '.join(towers)} tower is not drawn"] if towers else []


def _short(value: int) -> str:
    return count(value).replace(" ", "")


def _header(name: str, summary: Sequence[str], width: float) -> Region:
    texts = [Text(line, 0.0, 20.0 + 27 * i, TITLE, True) for i, line in enumerate(wrap(name, width, TITLE, True))]
    y = texts[-1].y + 6
    for line in (line for text in summary for line in wrap(text, width, NOTE)):
        y += 18
        texts.append(Text(line, 0.0, y, NOTE, ink="muted"))
    return Region("header", Rect(0.0, -2.0, max(text.rect.right for text in texts), y + 8), texts=tuple(texts))
