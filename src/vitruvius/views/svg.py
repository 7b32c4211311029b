"""The SVG drawing of an architecture, and of two side by side with their differences highlighted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..spec import Decoder
from .drawing.cards import arranged, below
from .drawing.document import document
from .drawing.figure import ModelFigure, figure
from .drawing.kinds import highlighted
from .drawing.scene import Differs, Line, Rect, Region, Text, group
from .drawing.sketch import NOTE
from .drawing.theme import NIGHT, PAPER, Theme

__all__ = ["NIGHT", "PAPER", "Box", "Drawing", "Theme", "draw", "draw_side_by_side"]

APART = 56.0  # two figures
UNDER_TITLE = 22.0


class ChangedPaths(Protocol):
    """What `draw_side_by_side` needs of a comparison: the canonical paths of what differs, in either tree."""

    @property
    def paths_a(self) -> frozenset[str]: ...

    @property
    def paths_b(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Box:
    """A shape or a line of text of a drawing, and the name of the part that it must lie in ("": the drawing itself)."""

    name: str
    rect: Rect
    parent: str
    text: str | None = None
    path: str = ""
    differs: bool = False


@dataclass(frozen=True)
class Drawing:
    """A drawing; a notebook shows it by itself."""

    svg: str = field(repr=False)
    rect: Rect  # the viewBox
    root: Region = field(repr=False)

    @property
    def boxes(self) -> list[Box]:
        """Every shape and every line of text."""
        return list(_boxes(self.root, ""))

    @property
    def lines(self) -> list[Line]:
        """Every line and arrow."""
        return [line for part, _ in self.root.walk() for line in part.lines]

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the drawing to an .svg file. Raises InputError for a name that ends otherwise or a missing folder."""
        target = Path(fspath(path))
        if target.suffix.lower() != ".svg":
            raise InputError(f"a drawing is written as SVG: give {str(target)!r} the ending .svg")
        if not target.parent.is_dir():
            raise InputError(f"the folder {str(target.parent)!r} does not exist: make it first")
        beside = target.with_name(f"{target.name}.part")
        beside.write_text(self.svg, "utf-8")
        beside.replace(target)

    def _repr_svg_(self) -> str:
        return self.svg


def draw(arch: Decoder, highlight: Iterable[str] = frozenset(), theme: Theme | None = PAPER) -> Drawing:
    """The drawing of an architecture.

    From bottom to top: token ids, the embedding, a panel for each distinct kind of layer with its branches, norms and
    residual sums, the final norm, the output layer. Cards show the insides; a letter marks what they belong to.

    Args:
        highlight: canonical paths ("layers.0.mixer.body.mask"): what they name and what holds it gets another colour.
        theme: the colours; None leaves them to the style sheet of the page that the drawing stands in.
    """
    drawn = figure(arch, highlighted(arch, highlight))
    content = _titled(drawn.header, arranged(drawn.body, drawn.cards))
    return _drawing(content, theme, f"The architecture of {arch.name}", drawn.words, _id(arch.name))


def draw_side_by_side(a: Decoder, b: Decoder, difference: ChangedPaths | None = None, theme: Theme = PAPER) -> Drawing:
    """Two architectures side by side, with what differs highlighted; `difference` is by default their comparison."""
    if difference is None:
        from .diff import compare

        difference = compare(a, b)
    marked = ((a, highlighted(a, difference.paths_a)), (b, highlighted(b, difference.paths_b)))
    height = max(figure(arch, highlight).panels for arch, highlight in marked)
    figures = [figure(arch, highlight, height) for arch, highlight in marked]
    content = _pair(figures)
    title = f"The architectures of {a.name} and {b.name}, their differences highlighted"
    words = " ".join(f"{arch.name}: {drawn.words}." for arch, drawn in zip((a, b), figures, strict=True))
    return _drawing(content, theme, title, words, _id(f"{a.name}-{b.name}"))


def _boxes(part: Region, parent: str) -> Iterator[Box]:
    if part.shape != "group":
        yield Box(part.name, part.rect, parent, None, part.path, bool(part.differs))
        parent = part.name
    for i, text in enumerate(part.texts):
        differs = text.ink == "difference"
        yield Box(f"{part.name}:{i}", text.rect, parent, text.string, part.path, differs)
    for inner in part.parts:
        yield from _boxes(inner, parent)


def _titled(header: Region, content: Region) -> Region:
    """`content` under its title, their left edges at x = 0."""
    below_it = content.moved(-content.rect.x, header.rect.bottom + UNDER_TITLE - content.rect.y)
    return group("", (header, *below_it.parts), below_it.lines)


def _pair(figures: list[ModelFigure]) -> Region:
    """Two figures whose titles stand on one height, the token ids too, and so do their cards."""
    header = max(drawn.header.rect.bottom for drawn in figures)
    body = max(drawn.body.rect.height for drawn in figures)
    parts: list[Region] = []
    x = 0.0
    for side, drawn in zip("ab", figures, strict=True):
        lowered = drawn.body.moved(
            -drawn.body.rect.x, header + UNDER_TITLE + body - drawn.body.rect.height - drawn.body.rect.y
        )
        content = arranged(lowered, drawn.cards, 0.8, (below,))
        whole = group(side, (drawn.header, *content.parts))
        parts.append(whole.under(f"{side}.").moved(x, 0.0))
        x = parts[-1].rect.right + APART
    height = max(part.rect.bottom for part in parts)
    middle = parts[0].rect.right + APART / 2
    divider = Line(((middle, 0.0), (middle, height)), "divider")
    return group("", (*parts, _legend(height + 30)), (divider,))


def _legend(y: float) -> Region:
    parts: list[Region] = []
    x = 0.0
    meanings: tuple[tuple[Differs, str], ...] = (
        ("detail", "differs in a detail"),
        ("whole", "is not in the other, or is something else there"),
    )
    for name, words in meanings:
        color = Region(f"legend.{name}.color", Rect(x, y, 26.0, 15.0), "box", role="plain", differs=name)
        text = Text(words, x + 34.0, y + 12, NOTE, ink="muted")
        parts.append(Region(f"legend.{name}", color.rect.union(text.rect), texts=(text,), parts=(color,)))
        x = text.rect.right + 30
    return group("legend", tuple(parts))


def _drawing(content: Region, theme: Theme | None, title: str, words: str, name: str) -> Drawing:
    margin = 28.0
    box = content.rect
    view = Rect(box.x - margin, box.y - margin, box.width + 2 * margin, box.height + 2 * margin)
    return Drawing(document(content, view, theme, title, words, name), view, content)


def _id(name: str) -> str:
    """A name as an XML id that does not clash with those of a page around the drawing."""
    return "vitruvius-" + re.sub(r"[^A-Za-z0-9_-]+", "-", name)
