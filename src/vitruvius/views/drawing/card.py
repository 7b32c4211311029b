"""A card that shows the inside of a part, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from ... import spec as s
from ..description import heading, phrase, title
from .font import wrap
from .scene import Differs, Point, Rect, Region, Text
from .sketch import ARROW, INNER, LABEL, RADIUS, SMALL, Column, Highlight, Sketch, widest

PADDING = 18.0
ROW, TALL, PILL = 27.0, 40.0, 20.0  # heights: one line of text, two, a small mark
BETWEEN = 14.0  # columns

S_co = TypeVar("S_co", bound=s.Spec, covariant=True)
Letters = Mapping[s.Spec, str]  # which card shows the inside of a part


@dataclass(frozen=True)
class Inside(Generic[S_co]):
    """Something whose inside is shown once.

    Args:
        spec: the first of those that look so.
        letter: what marks it, here and where it stands.
        paths: of all parts that look so.
        specs: the different specs among them.
        lines: what stands below the title.
    """

    spec: S_co
    letter: str
    paths: tuple[str, ...]
    specs: tuple[s.Spec, ...]
    lines: tuple[str, ...] = ()


class Card:
    """The sketch of one inside: its steps, highlighted where one of their fields differs in one of its places."""

    def __init__(self, inside: Inside[s.Spec], role: str, highlight: Highlight) -> None:
        self.inside, self.role = inside, role
        self.sketch = Sketch(f"inside.{inside.paths[0]}.steps", highlight)

    def column(self, x: float, width: float, y: float = 0.0, source: float | None = None) -> Column:
        """A stream; one with a `source` begins with the input."""
        via: tuple[Point, ...] = ()
        if source is not None:
            via = ((source, ARROW), (source, 0.0)) if x != source else ((source, ARROW),)
        return Column(self.sketch, x, y, width, via)

    def input(self, source: float) -> None:
        """The word under the line that all streams with this source begin with."""
        self.sketch.text("input", "input", source, ARROW + 12)

    def step(
        self,
        name: str,
        rect: Rect,
        text: str,
        sub: str = "",
        *,
        fields: str,
        role: str = "",
        shape: Literal["box", "pill"] = "box",
        size: float = INNER,
        about: str = "",
    ) -> Region:
        """A box that shows `fields`, names separated by spaces."""
        paths = [f"{path}.{field}" for path in self.inside.paths for field in fields.split()]
        differs = self.sketch.highlight.fields(*paths)
        path = f"{self.inside.paths[0]}.{fields.split(maxsplit=1)[0]}" if fields else self.inside.paths[0]
        look = role or self.role
        return self.sketch.box(
            name, rect, text, sub, role=look, path=path, differs=differs, shape=shape, size=size, about=about
        )

    def norm(self, column: Column, slot: str, spec: s.Spec, field: str) -> None:
        """The norm in `slot`, which `field` holds."""
        marked = self.sketch.highlight
        differs: Differs = "whole" if any(marked.marks(f"{path}.{field}") for path in self.inside.paths) else ""
        differs = differs or marked.fields(*(f"{path}.{field}.norm" for path in self.inside.paths))
        path = f"{self.inside.paths[0]}.{slot}"
        name, about = title(spec), phrase(spec)
        self.sketch.box(slot, column.next(ROW), name, role="norm", path=path, differs=differs, size=INNER, about=about)

    def done(self, output: Column) -> Region:
        """The card around what was sketched, its upper left corner at (0, 0)."""
        output.arrow(output.y - ARROW)
        self.sketch.text("output", "output", output.x, output.y - ARROW - 5)
        content, inside = self.sketch.done(), self.inside
        words, start = heading(inside.spec), PADDING + (26 if inside.letter else 0)
        width = max(content.rect.width + 2 * PADDING, start + widest([words], LABEL + 0.5) + PADDING, 190.0)
        lines = [line for text in inside.lines for line in wrap(text, width - 2 * PADDING, SMALL)]
        texts = [Text(words, start, 27.0, LABEL + 0.5, True)]
        texts += [Text(line, PADDING, 47.0 + 15 * i, SMALL, ink="muted") for i, line in enumerate(lines)]
        top = 44.0 + 15 * len(lines)
        content = content.moved((width - content.rect.width) / 2 - content.rect.x, top - content.rect.y)
        center = (PADDING + RADIUS, 22.5)
        badge = (self.sketch.badge("letter", inside.letter, center, self.role),) if inside.letter else ()
        return Region(
            name=f"inside.{inside.paths[0]}",
            rect=Rect(0, 0, width, content.rect.bottom + PADDING - 4),
            shape="box",
            path=inside.paths[0],
            role=f"card-{self.role}",
            about=phrase(inside.spec),
            differs="whole" if all(self.sketch.highlight.part(path) == "whole" for path in inside.paths) else "",
            texts=tuple(texts),
            parts=(content, *badge),
        )


def widened(card: Region, width: float) -> Region:
    """The same card with this width, what it shows in its middle."""
    content, *badge = card.parts
    moved = content.moved((width - card.rect.width) / 2, 0.0)
    return replace(card, rect=replace(card.rect, width=width), parts=(moved, *badge))
