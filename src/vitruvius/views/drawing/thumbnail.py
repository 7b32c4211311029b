"""A drawing so small that nothing in it can be read: shapes in their colours, and bars where there is text.

One path for each colour, on whole pixels: a few kilobytes, so that a page can show a hundred of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...spec import Decoder
from .document import paint
from .figure import figure
from .scene import Point, Rect, Region
from .sketch import Highlight
from .theme import NIGHT, PAPER, Theme

LINES = ("stream", "skip", "control")  # the others lead to notes
MARGIN = 12.0


def thumbnail(arch: Decoder) -> str:
    """The stream of an architecture as a small SVG with its own style, light or dark as the page around it is."""
    body = figure(arch, Highlight()).body
    paths: dict[str, str] = {}  # class -> path data, in the order of painting
    for name, data in sorted(_strokes(body), key=lambda stroke: stroke[0] != "panel"):
        paths[name] = paths.get(name, "") + data
    box = body.rect
    view = _numbers(box.x - MARGIN, box.y - MARGIN, box.width + 2 * MARGIN, box.height + 2 * MARGIN)
    drawn = "".join(f'<path class="{name}" d="{data}"/>' for name, data in paths.items())
    dark = f"@media(prefers-color-scheme:dark){{{_style(NIGHT, paths)}}}"
    style = f"path{{fill:none;stroke-width:2}}{_style(PAPER, paths)}{dark}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}"><style>{style}</style>{drawn}</svg>\n'


def _strokes(root: Region) -> Iterator[tuple[str, str]]:
    """(class, path data) of every shape, line and text."""
    for part, _ in root.walk():
        if part.shape == "cells":
            yield part.role, "".join(map(_rectangle, part.cells))
        elif part.shape == "circle":
            yield part.role, _circle(part.rect)
        elif part.shape != "group":
            yield part.role, _rectangle(part.rect)
        for line in part.lines:
            if line.kind in LINES:
                yield "line", _polyline(line.points)
        for text in part.texts:
            bold = "title" if text.bold else "text"
            yield bold, f"M{_numbers(text.rect.x, text.y - text.size / 3)}h{_numbers(text.rect.width)}"


def _rectangle(box: Rect) -> str:
    width, height = round(box.width), round(box.height)
    return f"M{_numbers(box.x, box.y)}h{width}v{height}h{-width}z"


def _circle(box: Rect) -> str:
    radius = _numbers(box.width / 2, box.width / 2)
    return f"M{_numbers(box.x, box.center[1])}" + "".join(
        f"a{radius} 0 1 0 {_numbers(way, 0)}" for way in (box.width, -box.width)
    )


def _polyline(points: tuple[Point, ...]) -> str:
    return "M" + "L".join(_numbers(*point) for point in points)


def _numbers(*values: float) -> str:
    return " ".join(str(round(value)) for value in values)


def _style(theme: Theme, used: Collection[str]) -> str:
    """The rules for the classes that are there."""
    rules = {
        "panel": paint(theme.panel),
        "line": f"stroke:{theme.line}",
        "sum": paint((theme.paper, theme.line)),
        "dot": f"fill:{theme.line}",
        "text": f"stroke:{theme.leader};stroke-width:5;stroke-opacity:.55",
        "title": f"stroke:{theme.muted};stroke-width:6",
        "kind-other": f"fill:{theme.leader}",
    }
    rules |= {role: paint(colors) for role, colors in theme.roles.items()}
    rules |= {f"badge-{role}": f"fill:{edge}" for role, (_, edge) in theme.roles.items()}
    rules |= {f"kind-{i}": f"fill:{color}" for i, color in enumerate(theme.kinds)}
    return "".join(f".{name}{{{rules[name]}}}" for name in used)
