"""What a drawing is made of: a tree of parts, each a shape with its texts, lines and inner parts. Units are CSS pixels,
y points down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from .font import ASCENT, CAP_HEIGHT, DESCENT, measure

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
Differs = Literal[
    "", "detail", "whole"
]  # not at all; in something that the part holds; by being there or being what it is


@dataclass(frozen=True)
class Rect:
    """A rectangle by its upper left corner and size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of the lower edge."""
        return self.y + self.height

    @property
    def center(self) -> Point:
        """The point in the middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def moved(self, dx: float, dy: float) -> Rect:
        """The same elsewhere."""
        return Rect(self.x + dx, self.y + dy, self.width, self.height)

    def union(self, other: Rect) -> Rect:
        """The smallest rectangle that holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Rect(x, y, max(self.right, other.right) - x, max(self.bottom, other.bottom) - y)


@dataclass(frozen=True)
class Text:
    """One line of text; `x` is where its anchor is, `y` its baseline."""

    string: str
    x: float
    y: float
    size: float = 12.0
    bold: bool = False
    ink: str = "ink"
    anchor: Anchor = "start"

    @property
    def rect(self) -> Rect:
        """As wide as the text, as high as any letter."""
        width = measure(self.string, self.size, self.bold)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return Rect(left, self.y - ASCENT * self.size, width, (ASCENT + DESCENT) * self.size)

    def moved(self, dx: float, dy: float) -> Text:
        """The same elsewhere."""
        return replace(self, x=self.x + dx, y=self.y + dy)


def middle(center: float, size: float) -> float:
    """The baseline that puts capitals of `size` around the height `center`."""
    return center + CAP_HEIGHT / 2 * size


@dataclass(frozen=True)
class Line:
    """A polyline with rounded corners; `kind` is its CSS class, and `arrow` puts a head on its end."""

    points: tuple[Point, ...]
    kind: str = "stream"
    arrow: bool = False

    def moved(self, dx: float, dy: float) -> Line:
        """The same elsewhere."""
        return replace(self, points=tuple((x + dx, y + dy) for x, y in self.points))


@dataclass(frozen=True)
class Region:
    """A shape and what is in it.

    Args:
        name: unique in the drawing, and its id.
        rect: where it is. A `group` draws nothing itself.
        path: the canonical path of the part of the architecture that it shows.
        role: its colour's meaning.
        about: what a pointer that rests on it is told.
        differs: how it is highlighted.
    """

    name: str
    rect: Rect
    shape: Literal["box", "pill", "circle", "cells", "group"] = "group"
    path: str = ""
    role: str = ""
    about: str = ""
    differs: Differs = ""
    texts: tuple[Text, ...] = ()
    lines: tuple[Line, ...] = ()
    parts: tuple[Region, ...] = ()
    cells: tuple[Rect, ...] = field(default=(), repr=False)  # of the shape "cells": small rectangles in one colour

    def moved(self, dx: float, dy: float) -> Region:
        """The same elsewhere, with all that is in it."""
        return replace(
            self,
            rect=self.rect.moved(dx, dy),
            texts=tuple(text.moved(dx, dy) for text in self.texts),
            lines=tuple(line.moved(dx, dy) for line in self.lines),
            parts=tuple(part.moved(dx, dy) for part in self.parts),
            cells=tuple(cell.moved(dx, dy) for cell in self.cells),
        )

    def under(self, name: str, path: str = "") -> Region:
        """The same with `name` before all names, and `path` before all paths."""
        return replace(
            self,
            name=name + self.name,
            path=self.path and path + self.path,
            parts=tuple(part.under(name, path) for part in self.parts),
        )

    def walk(self, parent: str = "") -> Iterator[tuple[Region, str]]:
        """This part and all within, each with its parent's name."""
        yield self, parent
        for part in self.parts:
            yield from part.walk(self.name)


def group(name: str, parts: tuple[Region, ...], lines: tuple[Line, ...] = (), path: str = "") -> Region:
    """Parts and lines that belong together, in the smallest rectangle that holds them."""
    rect = None
    for part in parts:
        rect = part.rect if rect is None else rect.union(part.rect)
    for line in lines:
        for x, y in line.points:
            rect = Rect(x, y, 0, 0) if rect is None else rect.union(Rect(x, y, 0, 0))
    assert rect is not None, f"the group {name} is empty"
    return Region(name, rect, path=path, lines=lines, parts=parts)
