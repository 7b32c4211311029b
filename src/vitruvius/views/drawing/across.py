"""An encoder beside the decoder that reads it."""

from __future__ import annotations

from collections.abc import Sequence

from ..nouns import describe
from .kinds import LayerBlock
from .scene import Line, Region, group
from .stream import LANE

BETWEEN = 48.0
ABOVE = 26.0  # the line from the one to the other, above whichever is higher there


def behind(encoder: Region, decoder: Region, shown: Sequence[LayerBlock]) -> Region:
    """The decoder to the right of the encoder, the token ids of both on one height, and a line from the encoder's
    output to each attention that looks across."""
    decoder = decoder.moved(encoder.rect.right + BETWEEN - decoder.rect.x, 0.0)
    parts = {part.name: part for part, _ in decoder.walk()}
    output = next(part for part, _ in encoder.walk() if part.name == "encoder.stream.output")
    across = [
        f"layers.{block.kinds[0].indices[0]}.{branch.name}.body"
        for block in shown
        for branch in block.kinds[0].layer.branches
        if describe(branch.body).picture.looks_across
    ]
    panels = [parts[f"layers.{block.kinds[0].indices[0]}"].rect for block in shown]
    lane = panels[0].x - LANE + 2
    (x, _), above = output.rect.center, min(panel.y for panel in panels) - ABOVE
    start = (x, output.rect.y)
    lines = []
    for name in across:
        box = parts[name].rect
        middle = box.center[1]
        way = (start, (x, above), (lane, above), (lane, middle), (box.x, middle))
        lines.append(Line(way, "skip", True))
    return group("streams", (encoder, decoder, group("across", (), tuple(lines))))  # over the panels
