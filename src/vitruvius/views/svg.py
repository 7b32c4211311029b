"""The SVG drawing of an architecture, and of two side by side with their differences highlighted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..spec import Decoder
from .drawing.cards import arranged
from .drawing.document import document
from .drawing.figure import ModelFigure, figure, full_name
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


@dataclass(frozen=True, repr=False)
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
        """Writes the drawing to an .svg, .png or .pdf file. Raises InputError for a name that ends otherwise, a missing
        folder, or where what makes the last two is not installed."""
        target = Path(fspath(path))
        kind = target.suffix.lower()
        if kind not in (".svg", ".png", ".pdf"):
            raise InputError(f"a drawing is written as SVG, PNG or PDF: give {str(target)!r} one of these endings")
        if not target.parent.is_dir():
            raise InputError(f"the folder {str(target.parent)!r} does not exist: make it first")
        content = self.svg.encode() if kind == ".svg" else self._converted(kind)
        beside = target.with_name(f"{target.name}.part")
        beside.write_bytes(content)
        beside.replace(target)

    def _converted(self, kind: str) -> bytes:
        try:
            import vl_convert
        except ImportError:
            raise InputError(
                f"{kind} needs the package vl-convert-python: pip install 'vitruvius[plot]', or write an .svg"
            ) from None
        made: bytes = vl_convert.svg_to_png(self.svg, scale=2) if kind == ".png" else vl_convert.svg_to_pdf(self.svg)
        return made

    def __repr__(self) -> str:
        return f"<Drawing of {self.rect.width:.0f} × {self.rect.height:.0f}; .save(path) writes it>"

    def _repr_svg_(self) -> str:
        return self.svg


def draw(
    arch: Decoder, highlight: Iterable[str] = frozenset(), theme: Theme | None = PAPER, insides: bool = True
) -> Drawing:
    """The drawing of an architecture.

    From bottom to top: token ids, the embedding, a panel for each distinct kind of layer with its branches, norms and
    residual sums, the final norm, the output layer. Cards show the insides; a letter marks what they belong to.

    Args:
        highlight: canonical paths ("layers.0.mixer.body.mask"): what they name and what holds it gets another colour.
        theme: the colours; None leaves them to the style sheet of the page that the drawing stands in.
        insides: whether the cards are there that show the insides.
    """
    drawn = figure(arch, highlighted(arch, highlight))
    content = _titled(drawn.header, arranged(drawn.body, drawn.cards if insides else ()))
    return _drawing(content, theme, f"The architecture of {full_name(arch)}", drawn.words, _id(arch.name))


def draw_side_by_side(
    archs: Sequence[Decoder], differences: Sequence[ChangedPaths] | None = None, theme: Theme = PAPER
) -> Drawing:
    """Architectures side by side, with what differs between the first and each of the others highlighted.

    Args:
        differences: the comparisons of the first with each of the others, made here if None; where there are none,
            nothing is highlighted.
    """
    first, *others = archs
    if differences is None:
        from .diff import compare

        differences = [compare(first, other) for other in others]
    none: frozenset[str] = frozenset()
    paths = [none.union(*(each.paths_a for each in differences))]
    paths += [each.paths_b for each in differences] or [none] * len(others)
    marked = [(arch, highlighted(arch, own)) for arch, own in zip(archs, paths, strict=True)]
    figures = [figure(arch, highlight) for arch, highlight in marked]
    names = [*map(full_name, archs)]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    title = f"The architectures of {listed}" + (", their differences highlighted" if differences else "")
    words = " ".join(f"{name}: {drawn.words}." for name, drawn in zip(names, figures, strict=True))
    return _drawing(_row(figures, bool(differences)), theme, title, words, _id("-".join(names)))


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


def _row(figures: list[ModelFigure], highlighted: bool) -> Region:
    """Figures whose titles stand on one height, the token ids too, and so do their cards."""
    header = max(drawn.header.rect.bottom for drawn in figures)
    body = max(drawn.body.rect.height for drawn in figures)
    parts: list[Region] = []
    x = 0.0
    for i, drawn in enumerate(figures):
        side = chr(ord("a") + i)
        lowered = drawn.body.moved(
            -drawn.body.rect.x, header + UNDER_TITLE + body - drawn.body.rect.height - drawn.body.rect.y
        )
        content = arranged(lowered, drawn.cards, most_beside=0)
        whole = group(side, (drawn.header, *content.parts))
        parts.append(whole.under(f"{side}.").moved(x, 0.0))
        x = parts[-1].rect.right + APART
    height = max(part.rect.bottom for part in parts)
    middles = [part.rect.right + APART / 2 for part in parts[:-1]]
    dividers = tuple(Line(((middle, 0.0), (middle, height)), "divider") for middle in middles)
    return group("", (*parts, *([_legend(height + 30)] if highlighted else [])), dividers)


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
