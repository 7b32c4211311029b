"""The pencil: boxes and lines put one after the other, upwards along a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .font import measure
from .scene import Anchor, Differs, Line, Point, Rect, Region, Text, group, middle

ARROW = 14.0  # from one box to the next
LABEL, INNER, SUB, NOTE, SMALL = 13.0, 12.0, 11.0, 12.0, 11.0  # text sizes
RADIUS = 9.0  # of ⊕, ⊗ and badges


@dataclass(frozen=True)
class Highlight:
    """The paths to highlight. Those in layer 7 are given in the layer that is drawn for it, see `highlighted`; in
    `own`, in the first of its kind, of which a panel may hold several."""

    paths: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    @property
    def of_kinds(self) -> Highlight:
        """What is said of single kinds of layers goes by these."""
        return Highlight(self.own)

    def part(self, path: str) -> Differs:
        """How a part differs: as a whole, if it or what it belongs to is marked; in a detail, if something in it is."""
        steps = path.split(".")
        if any(".".join(steps[:end]) in self.paths - {"layers"} for end in range(1, len(steps) + 1)):
            return "whole"
        return self.fields(path)

    def fields(self, *paths: str) -> Differs:
        """Whether one of these fields is marked, or something in it."""
        marked = any(mark == path or mark.startswith(f"{path}.") for path in paths for mark in self.paths)
        return "detail" if marked else ""

    def marks(self, path: str) -> Differs:
        """Whether this very field is marked, not only something in it."""
        return "detail" if path in self.paths else ""


class Sketch:
    """Collects parts and lines. `name` is put before the names of its parts, which are unique within a figure."""

    def __init__(self, name: str, highlight: Highlight) -> None:
        self.name = name
        self.highlight = highlight
        self.parts: list[Region] = []
        self.lines: list[Line] = []

    def add(self, part: Region) -> Region:
        """A part that is drawn already."""
        self.parts.append(part)
        return part

    def box(
        self,
        name: str,
        rect: Rect,
        label: str,
        sub: str = "",
        *,
        role: str,
        path: str = "",
        differs: Differs = "",
        shape: Literal["box", "pill"] = "box",
        size: float = LABEL,
        about: str = "",
    ) -> Region:
        """A shape with a label, and a smaller line below for its numbers."""
        x, y = rect.center
        whole = differs == "whole"
        main = "difference" if whole else "ink"
        texts = [Text(label, x, middle(y - 7.5 if sub else y, size), size, whole, main, "middle")]
        if sub:
            minor = "difference" if differs else "muted"
            texts.append(Text(sub, x, middle(y + 8, SUB), SUB, bool(differs), minor, "middle"))
        return self.add(Region(self._named(name), rect, shape, path, role, about, differs, tuple(texts)))

    def text(
        self,
        name: str,
        string: str,
        x: float,
        y: float,
        *,
        size: float = SMALL,
        ink: str = "muted",
        anchor: Anchor = "middle",
        path: str = "",
        differs: Differs = "",
    ) -> Region:
        """One line of text with its baseline at `y`."""
        line = Text(string, x, y, size, bool(differs), "difference" if differs else ink, anchor)
        return self.add(Region(self._named(name), line.rect, path=path, differs=differs, texts=(line,)))

    def join(
        self, name: str, sign: Literal["+", "×"], rect: Rect, *, path: str = "", differs: Differs = "", about: str = ""
    ) -> Region:
        """⊕ or ⊗."""
        x, y = rect.center
        arm = RADIUS * (0.62 if sign == "+" else 0.44)
        strokes = ((arm, 0.0), (0.0, arm)) if sign == "+" else ((arm, arm), (arm, -arm))
        lines = tuple(Line(((x - dx, y - dy), (x + dx, y + dy)), "sign") for dx, dy in strokes)
        return self.add(Region(self._named(name), rect, "circle", path, "sum", about, differs, lines=lines))

    def badge(self, name: str, letter: str, center: Point, role: str) -> Region:
        """A letter in a circle: the same letter marks a part and the card that shows its inside."""
        text = Text(letter, center[0], middle(center[1], SMALL), SMALL, True, "paper", "middle")
        return self.add(Region(self._named(name), around(center), "circle", role=f"badge-{role}", texts=(text,)))

    def dot(self, name: str, x: float, y: float) -> Region:
        """Where a line forks."""
        return self.add(Region(self._named(name), Rect(x - 2, y - 2, 4, 4), "circle", role="dot"))

    def line(self, *points: Point, kind: str = "stream", arrow: bool = False) -> None:
        """A line through these points."""
        self.lines.append(Line(points, kind, arrow))

    def done(self, path: str = "") -> Region:
        """All of it as one part."""
        return group(self.name, tuple(self.parts), tuple(self.lines), path)

    def _named(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name


class Column:
    """Places on a stream that flows upwards at `x`, from the height `y`, where it arrives by way of `via`."""

    def __init__(self, sketch: Sketch, x: float, y: float, width: float, via: tuple[Point, ...] = ()) -> None:
        self.sketch, self.x, self.y, self.width = sketch, x, y, width
        self.trail: tuple[Point, ...] = (*via, (x, y))  # what the next arrow begins with

    def rise(self, height: float) -> None:
        """Leaves room on the stream."""
        self.y -= height

    def to(self, y: float) -> None:
        """Goes on from the height `y`, if the stream is not that high yet."""
        self.y = min(self.y, y)

    def next(self, height: float, width: float | None = None) -> Rect:
        """The next place, after an arrow to it."""
        bottom = self.y - ARROW
        self.arrow(bottom)
        width = width or self.width
        self.leave(bottom - height)
        return Rect(self.x - width / 2, bottom - height, width, height)

    def joint(self) -> Rect:
        """The next place, for ⊕ or ⊗."""
        return self.next(2 * RADIUS, 2 * RADIUS)

    def arrow(self, y: float) -> None:
        """An arrow up to the height `y`."""
        self.sketch.line(*self.trail, (self.x, y), arrow=True)

    def line(self, y: float) -> None:
        """A line up to the height `y`, where something begins that goes on by itself."""
        self.sketch.line(*self.trail, (self.x, y))

    def follow(self, other: Column) -> None:
        """Goes on from where another stream has come to, to the side of it."""
        start, low = other.trail[-1], other.y - ARROW
        self.trail = (start, (other.x, low), (self.x, low)) if self.x != other.x else (start,)
        self.y = low

    def turn(self, *points: Point, kind: str = "stream") -> None:
        """The stream leaves its column, with an arrow by way of `points`."""
        self.sketch.line(*self.trail, *points, kind=kind, arrow=True)

    def leave(self, y: float) -> None:
        """The stream comes out of something at the height `y`."""
        self.y = y
        self.trail = ((self.x, y),)


def around(center: Point) -> Rect:
    """The square around a circle of RADIUS."""
    return Rect(center[0] - RADIUS, center[1] - RADIUS, 2 * RADIUS, 2 * RADIUS)


def widest(texts: Iterable[str], size: float) -> float:
    """The width of the longest text, were it highlighted."""
    return max((measure(text, size, bold=True) for text in texts), default=0.0)
