"""The pencil: boxes and lines put one after the other, upwards along a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ...spec import Decoder
from .font import measure
from .scene import Anchor, Line, Part, Point, Rect, Text, group, middle

ARROW = 14.0  # from one box to the next
LABEL, SUB, NOTE, SMALL = 13.0, 11.0, 12.0, 11.0  # text sizes
CIRCLE = 9.0  # radius of ⊕


@dataclass(frozen=True)
class Highlight:
    """The paths to highlight. A path below layer 7 counts for the first layer that is equal to layer 7, which is drawn for it."""

    paths: frozenset[str] = frozenset()

    @staticmethod
    def of(arch: Decoder, paths: Iterable[str]) -> Highlight:
        first = {layer: i for i, layer in reversed(list(enumerate(arch.layers)))}

        def drawn(path: str) -> str:
            step, _, rest = path.partition(".")
            number, _, below = rest.partition(".")
            if step != "layers" or not number.isdecimal() or int(number) >= len(arch.layers):
                return path
            return ".".join(filter(None, (step, str(first[arch.layers[int(number)]]), below)))

        return Highlight(frozenset(map(drawn, paths)))

    def touches(self, *paths: str) -> bool:
        """Whether one of these parts differs: itself, something in it, or the part of a layer that it belongs to."""
        return any(
            mark == path or mark.startswith(f"{path}.") or (mark not in ("", "layers") and path.startswith(f"{mark}."))
            for path in paths
            for mark in self.paths
        )


    def exactly(self, path: str) -> bool:
        """Whether this very field differs."""
        return path in self.paths


class Sketch:
    """Collects parts and lines. Names are unique within the drawing: `name` is put before those of its parts."""

    def __init__(self, name: str, highlight: Highlight) -> None:
        self.name = name
        self.highlight = highlight
        self.parts: list[Part] = []
        self.lines: list[Line] = []

    def named(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def box(
        self,
        name: str,
        rect: Rect,
        label: str,
        sub: str = "",
        *,
        role: str,
        path: str = "",
        reads: Iterable[str] = (),
        shape: Literal["box", "pill", "circle"] = "box",
        size: float = LABEL,
        about: str = "",
    ) -> Part:
        """A shape with a label, and a smaller line below. It is highlighted if `path` or what it `reads` differs."""
        reads = tuple(reads) or ((path,) if path else ())
        differs = self.highlight.touches(*reads)
        x, y = rect.center
        ink = "difference" if differs else "ink"
        if sub:
            texts: tuple[Text, ...] = (
                Text(label, x, middle(y - 7.5, size), size, differs, ink, "middle"),
                Text(sub, x, middle(y + 8, SUB), SUB, differs, ink if differs else "muted", "middle"),
            )
        else:
            texts = (Text(label, x, middle(y, size), size, differs, ink, "middle"),)
        return self.add(Part(self.named(name), rect, shape, path, role, about, differs, texts))

    def text(
        self,
        name: str,
        string: str,
        x: float,
        y: float,
        size: float = NOTE,
        *,
        bold: bool = False,
        ink: str = "ink",
        anchor: Anchor = "start",
        path: str = "",
        differs: bool = False,
    ) -> Part:
        """One line of text with its baseline at `y`."""
        line = Text(string, x, y, size, bold or differs, "difference" if differs else ink, anchor)
        return self.add(Part(self.named(name), line.rect, path=path, differs=differs, texts=(line,)))

    def add(self, part: Part) -> Part:
        self.parts.append(part)
        return part

    def join(self, name: str, sign: Literal["+", "×"], x: float, y: float, path: str = "", reads: Iterable[str] = (), about: str = "") -> Part:
        """⊕ or ⊗ around a point."""
        arm = CIRCLE * (0.62 if sign == "+" else 0.44)
        strokes = ((arm, 0.0), (0.0, arm)) if sign == "+" else ((arm, arm), (arm, -arm))
        lines = tuple(Line(((x - dx, y - dy), (x + dx, y + dy)), "sign") for dx, dy in strokes)
        rect = Rect(x - CIRCLE, y - CIRCLE, 2 * CIRCLE, 2 * CIRCLE)
        differs = self.highlight.touches(*reads)
        return self.add(Part(self.named(name), rect, "circle", path, "sum", about, differs, lines=lines))

    def line(self, *points: Point, kind: str = "stream", arrow: bool = False) -> None:
        self.lines.append(Line(points, kind, arrow))

    def dot(self, name: str, x: float, y: float) -> None:
        self.add(Part(self.named(name), Rect(x - 2, y - 2, 4, 4), "circle", role="dot"))

    def done(self, path: str = "") -> Part:
        return group(self.name, tuple(self.parts), tuple(self.lines), path)


class Column:
    """Boxes on a stream that flows upwards at `x`. `y` is the upper end of what stands already."""

    def __init__(self, sketch: Sketch, x: float, y: float, width: float) -> None:
        self.sketch, self.x, self.y, self.width = sketch, x, y, width
        self.start = y  # where the line to the next box begins

    def rise(self, height: float) -> None:
        """Leaves room."""
        self.y -= height

    def to(self, y: float) -> None:
        """Goes on at the height `y`, if that is higher."""
        self.y = min(self.y, y)

    def box(self, name: str, label: str, sub: str = "", *, height: float, width: float | None = None, **look: object) -> Part:
        """The next box, after an arrow."""
        width = width or self.width
        bottom = self.y - ARROW
        self.arrow_to(bottom)
        rect = Rect(self.x - width / 2, bottom - height, width, height)
        self.y = self.start = rect.y
        return self.sketch.box(name, rect, label, sub, **look)  # type: ignore[arg-type]

    def join(self, name: str, sign: Literal["+", "×"], **look: object) -> Part:
        """⊕ or ⊗, after an arrow."""
        bottom = self.y - ARROW
        self.arrow_to(bottom)
        self.y = self.start = bottom - 2 * CIRCLE
        return self.sketch.join(name, sign, self.x, bottom - CIRCLE, **look)  # type: ignore[arg-type]

    def arrow_to(self, y: float) -> None:
        self.sketch.line((self.x, self.start), (self.x, y), arrow=True)
        self.start = y


def widest(texts: Iterable[str], size: float = LABEL, bold: bool = False) -> float:
    return max((measure(text, size, bold) for text in texts), default=0.0)
