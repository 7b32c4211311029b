"""A tree of parts as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import hypot
from xml.sax.saxutils import escape, quoteattr

from .font import font_face
from .scene import Line, Point, Rect, Region, Text
from .theme import Paint, Theme

CORNER = 7.0  # radius of a line's bends
HEAD = 5.5  # length of an arrow's head


IN_PAGE = "vitruvius-drawing"  # the class of a drawing that a page's style sheet paints


def document(root: Region, view: Rect, theme: Theme | None, title: str, description: str, name: str) -> str:
    """The SVG of what `view` shows of `root`. `name` is its id, and put before the ids of its parts. Without a theme
    it has no style of its own and is painted by `stylesheet` in the page around it."""
    left, top, width, height = (num(value) for value in (view.x, view.y, view.width, view.height))
    texts = [text for part, _ in root.walk() for text in part.texts]
    size = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    role = 'role="img"' if theme else f'class="{IN_PAGE}" role="group"'
    labelled = f'{role} aria-labelledby="{name}-title {name}-desc"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id={quoteattr(name)} {size} {labelled}>',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description)}</desc>',
        *([f"<style>{style(theme, name, texts)}</style>"] if theme else []),
        f'<rect class="paper" x="{left}" y="{top}" width="{width}" height="{height}"/>',
        *_part(root, name),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def stylesheet(theme: Theme, within: str = "") -> str:
    """The rules for a page that holds drawings without a style; `within` is a selector of what they stand in."""
    return _scoped(_rules(theme), f"{within} .{IN_PAGE}".strip())


def num(value: float) -> str:
    """At most two decimals, without zeros at the end."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def style(theme: Theme, name: str, texts: list[Text]) -> str:
    """The style sheet; every rule names the drawing, so that several can stand in one page."""
    faces = []
    for bold in (False, True):
        if used := {c for text in texts if text.bold is bold for c in text.string}:
            faces.append(font_face(used, bold))
    return "\n".join([*faces, _scoped(_rules(theme), f"#{name}")])


def _scoped(rules: Mapping[str, str], within: str) -> str:
    return "\n".join(
        ",".join(f"{within} {one}" for one in rule.split(",")) + f"{{{body}}}" for rule, body in rules.items()
    )


def _rules(theme: Theme) -> dict[str, str]:
    """selector -> declarations."""
    stroke, experts = "stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round", theme.roles["feed-forward"][1]
    rules = {
        "text": 'font-family:"Inter",system-ui,sans-serif;font-kerning:none;font-variant-ligatures:none',
        "text.b": "font-weight:600",
        ".paper": f"fill:{theme.paper}",
        ".ink": f"fill:{theme.ink}",
        ".muted": f"fill:{theme.muted}",
        "text.paper": f"fill:{theme.paper}",
        "text.difference": f"fill:{theme.difference[1]}",
        ".panel": paint(theme.panel) + ";stroke-width:1.25",
        ".sum": paint((theme.paper, theme.line)) + ";stroke-width:1.5",
        ".dot": f"fill:{theme.line}",
        ".stream,.skip,.control,.sign": f"fill:none;stroke:{theme.line};{stroke}",
        ".control": "stroke-dasharray:4 3.5",
        ".head": f"fill:{theme.line}",
        ".bracket": f"fill:none;stroke:{theme.leader};stroke-width:1.5;stroke-linecap:round",
        ".leader": f"fill:none;stroke:{theme.leader};stroke-width:0.9",
        ".rule-plain": f"stroke:{theme.leader};stroke-width:2",
        ".divider": f"stroke:{theme.leader};stroke-width:1",
        ".kind-other": f"fill:{theme.leader}",
        ".expert-idle": f"fill:{theme.paper};stroke:{experts};stroke-width:0.6;stroke-opacity:0.55",
        ".expert-active": f"fill:{experts}",
    }
    for role, colors in theme.roles.items():
        edge = colors[1]
        rules[f".{role}"] = paint(colors) + ";stroke-width:1.25"
        rules[f".badge-{role}"] = f"fill:{edge}"
        rules[f".rule-{role}"] = f"fill:none;stroke:{edge};stroke-width:2"
        rules[f".card-{role}"] = f"fill:{theme.paper};stroke:{edge};stroke-width:1.25"
    rules[".cache"] += ";stroke-dasharray:3 2.5"
    for i, color in enumerate(theme.kinds):
        rules[f".kind-{i}"] = f"fill:{color}"
    fill, edge = theme.difference
    rules[".whole"] = f"fill:{fill};stroke:{edge};stroke-width:2.25"
    rules[".detail"] = f"stroke:{edge};stroke-width:2.25"
    rules |= {f".card-{role}.whole": f"fill:{theme.paper}" for role in theme.roles}
    rules[".rule-difference"] = f"fill:none;stroke:{edge};stroke-width:2"
    return rules


def paint(colors: Paint) -> str:
    """Fill and edge as declarations."""
    return f"fill:{colors[0]};stroke:{colors[1]}"


def _part(part: Region, name: str) -> Iterator[str]:
    path = f" data-path={quoteattr(part.path)}" if part.path else ""
    yield f"<g id={quoteattr(f'{name}.{part.name}')}{path}>"
    if part.about:
        yield f"<title>{escape(part.about)}</title>"
    yield from _shape(part)
    for line in part.lines:
        yield from _line(line)
    for child in part.parts:
        yield from _part(child, name)
    for text in part.texts:
        yield _text(text)
    yield "</g>"


def _shape(part: Region) -> Iterator[str]:
    box, look = part.rect, f'class="{f"{part.role} {part.differs}".strip()}"'
    if part.shape == "circle":
        x, y = box.center
        yield f'<circle {look} cx="{num(x)}" cy="{num(y)}" r="{num(box.width / 2)}"/>'
    elif part.shape == "cells":
        yield f'<path {look} d="{_cells(part.cells)}"/>'
    elif part.shape != "group":
        place = f'x="{num(box.x)}" y="{num(box.y)}" width="{num(box.width)}" height="{num(box.height)}"'
        yield f'<rect {look} {place} rx="{num(_corner(part))}"/>'


def _corner(part: Region) -> float:
    """The radius of a rectangle's corners."""
    if part.shape == "pill":
        return part.rect.height / 2
    large = part.role == "panel" or part.role.startswith("card")
    return 14.0 if large else min(7.0, part.rect.height / 4)


def _cells(cells: Iterable[Rect]) -> str:
    """One path for all, each cell told from the place of the one before."""
    data, x, y = "", 0.0, 0.0
    for cell in cells:
        data += f"m{num(cell.x - x)} {num(cell.y - y)}h{num(cell.width)}v{num(cell.height)}h{num(-cell.width)}z"
        x, y = x + round(cell.x - x, 2), y + round(cell.y - y, 2)
    return data


def _text(text: Text) -> str:
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    look = f"{text.ink} b" if text.bold else text.ink
    # textLength keeps the measured width where a viewer ignores the embedded font.
    width = num(text.rect.width)
    return (
        f'<text class="{look}" x="{num(text.x)}" y="{num(text.y)}" font-size="{num(text.size)}"{anchor} '
        f'textLength="{width}">{escape(text.string)}</text>'
    )


def _line(line: Line) -> Iterator[str]:
    points = list(line.points)
    if line.arrow:
        tip, base = points[-1], _towards(points[-1], points[-2], HEAD)
        points[-1] = _towards(points[-1], points[-2], HEAD - 1)
    yield f'<path class="{line.kind}" d="{_bent(points)}"/>'
    if line.arrow:
        (x, y), (bx, by) = tip, base
        nx, ny = (y - by) * 0.55, (bx - x) * 0.55
        corners = (tip, (bx + nx, by + ny), (bx - nx, by - ny))
        yield f'<path class="head" d="M{"L".join(f"{num(a)} {num(b)}" for a, b in corners)}z"/>'


def _bent(points: list[Point]) -> str:
    """A path through the points, rounded at right angles and straight between."""
    data = f"M{num(points[0][0])} {num(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(CORNER, _distance(before, corner) / 2, _distance(corner, after) / 2)
        a, b = _towards(corner, before, radius), _towards(corner, after, radius)
        data += f"L{num(a[0])} {num(a[1])}Q{num(corner[0])} {num(corner[1])} {num(b[0])} {num(b[1])}"
    return data + f"L{num(points[-1][0])} {num(points[-1][1])}"


def _distance(a: Point, b: Point) -> float:
    return hypot(a[0] - b[0], a[1] - b[1])


def _towards(start: Point, end: Point, by: float) -> Point:
    length = _distance(start, end)
    if not length:
        return start
    return start[0] + (end[0] - start[0]) * by / length, start[1] + (end[1] - start[1]) * by / length
