"""The inside of feed-forward layers, plain and gated, and of mixtures of experts."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from ... import spec as s
from ...cost.quantity import number
from ..description import describe, factor, phrase
from .card import BETWEEN, PILL, ROW, TALL, Card, Inside, Letters
from .scene import Rect, Region, Text, group
from .sketch import ARROW, INNER, LABEL, RADIUS, SMALL, SUB, Column, Highlight, around, widest


def feed_forward(inside: Inside[s.MLP], width: int, letters: Letters, highlight: Highlight) -> Region:
    """Up, activation, down. Those that differ in size only share a card."""
    return _feed_forward(inside, width, highlight, gated=False)


def gated_feed_forward(inside: Inside[s.GatedMLP], width: int, letters: Letters, highlight: Highlight) -> Region:
    """Gate and up side by side, the activation on the gate, their product, down."""
    return _feed_forward(inside, width, highlight, gated=True, gate_scale=inside.spec.gate_scale)


def _feed_forward(
    inside: Inside[s.MLP | s.GatedMLP], width: int, highlight: Highlight, gated: bool, gate_scale: float = 1.0
) -> Region:
    spec, card = inside.spec, Card(inside, "feed-forward", highlight)
    act, on_up = describe(spec).picture.steps  # what happens to the gate, and to what it multiplies
    hidden, bias = "h" if inside.lines else number(spec.dim), " + bias" if spec.bias else ""
    up, down = f"{number(width)} → {hidden}{bias}", f"{hidden} → {number(width)}{bias}"
    wide = max(104.0, widest([up, down], SUB) + 18, widest([act, on_up], INNER) + 14)
    side = (wide + BETWEEN) / 2 if gated else 0.0
    activated, straight = card.column(-side, wide, source=0.0), card.column(side, wide, source=0.0)
    card.input(0.0)
    name = "gate" if gated else "up"
    card.step(name, activated.next(TALL), name.capitalize(), up, fields=f"{name} dim bias", size=LABEL)
    if gate_scale != 1.0:
        text, rect = factor(gate_scale), activated.next(PILL, 72)
        card.step("gate_scale", rect, text, fields="gate_scale", role="plain", shape="pill", size=SMALL)
    card.step("act", activated.next(ROW), act, fields="act")
    result = activated
    if gated:
        card.step("up", straight.next(TALL), "Up", up, fields="up dim bias", size=LABEL)
        if on_up:
            card.step("act.up", straight.next(ROW), on_up, fields="act")
        times = around((0.0, activated.y - ARROW - RADIUS))
        card.sketch.join("product", "×", times)
        y = times.center[1]
        activated.turn((-side, y), (times.x, y))
        straight.turn((side, y), (times.right, y))
        result = card.column(0.0, wide, times.y)
    card.step("down", result.next(TALL), "Down", down, fields="down dim bias", size=LABEL)
    return card.done(result)


def experts(inside: Inside[s.MoE], width: int, letters: Letters, highlight: Highlight) -> Region:
    """The router and what it chooses from, a square for each expert."""
    spec, card = inside.spec, Card(inside, "feed-forward", highlight)
    router = spec.router
    rows = choice(router)
    cell = min(26.0, max(6.5, 176.0 / len(rows[0])))
    steps = _routing(router, width)
    wide = max(116.0, widest([text for _, *both, _ in steps for text in both], INNER) + 16)
    field = max(128.0, len(rows[0]) * cell + 28)
    source = wide / 2 + 24 + field / 2
    route, chosen = card.column(0.0, wide, source=source), card.column(source, field, source=source)
    card.input(source)
    if router.norm:
        card.norm(route, "router.norm", router.norm, "router")
    if spec.norm:
        card.norm(chosen, "norm", spec.norm, "norm")
    for name, text, sub, fields in steps:
        card.step(name, route.next(TALL if sub else ROW), text, sub, fields=fields)
    if spec.weigh == "input":
        chosen.to(route.y)
        times = card.sketch.join("product", "×", chosen.joint(), about="the inputs, by the router's weights").rect
        route.turn((0.0, times.center[1]), (times.x, times.center[1]), kind="control")
    if spec.latent:
        card.step("latent_down", chosen.next(TALL), "Down", f"{number(width)} → {number(spec.latent)}", fields="latent")
    height = max(len(rows) * cell + 62, chosen.y - ARROW - route.y)
    box = card.step("experts", chosen.next(height), "", fields="experts router.experts router.active")
    _squares(card, box, rows, cell, spec, letters)
    if spec.latent:
        card.step("latent_up", chosen.next(TALL), "Up", f"{number(spec.latent)} → {number(width)}", fields="latent")
    total = card.sketch.join("sum", "+", chosen.joint(), about="the chosen experts' sum").rect
    y = total.center[1]
    if spec.weigh == "output":
        route.turn((0.0, y), (total.x, y), kind="control")
    if spec.shared:
        side = card.column(source + field / 2 + BETWEEN + 46, 92.0, source=source)
        _shared(card, spec.shared, describe(spec).picture.inner[-1].spec, side, total, letters)
    if spec.scale != 1.0:
        card.step("scale", chosen.next(PILL, 64), factor(spec.scale), fields="scale", role="plain", shape="pill")
    return card.done(chosen)


def _shared(card: Card, spec: s.Spec, body: s.Spec, column: Column, total: Rect, letters: Letters) -> None:
    """The expert that every token passes through, `body` without the gate around it."""
    rect = column.next(TALL)
    size = number(describe(body).figures["hidden"])
    card.step("shared", rect, "Shared", size, fields="shared", about=phrase(spec))
    _mark(card, "shared.badge", rect, body, letters)
    if spec != body:
        card.step("shared.gate", column.next(ROW), "× gate", fields="shared", about=phrase(spec))
    column.turn((column.x, total.center[1]), (total.right, total.center[1]))


def _routing(router: s.Router, width: int) -> list[tuple[str, str, str, str]]:
    """(name, label, smaller label, fields) of the router's steps, in order."""
    groups, limited = router.groups, router.groups is not None and router.groups.count > 1
    best = f"best {router.active}" + (f" in {groups.active} of {groups.count} groups" if groups and limited else "")
    scale = "" if router.scale == 1.0 else f"× {number(router.scale)}"
    own = "× one of its own" if router.expert_scale else ""
    weigh = " ".join(filter(None, ("÷ their sum" if router.norm_topk_eps is not None else "", scale, own)))
    capped = f"capped at {number(router.softcap)}" if router.softcap is not None else ""
    size = f"{number(width)} → {number(router.experts)}{' + bias' if router.bias else ''}"
    chosen = (
        "best",
        best,
        "with a selection bias" if router.selection_bias else "",
        "router.active router.selection_bias router.groups",
    )
    steps = [
        ("router", "Router", size, "router.weight router.experts router.bias"),
        ("score", router.score, capped, "router.score router.softcap"),
        chosen,
    ]
    return steps + ([("weights", f"weights {weigh}", "", "router.norm_topk_eps router.scale")] if weigh else [])


def choice(router: s.Router) -> list[list[bool]]:
    """An example: rows of experts, true where chosen for a token. Within groups, a row is a group."""
    groups, experts = router.groups, router.experts
    if groups and groups.count > 1 and experts // groups.count <= 40:
        columns = experts // groups.count
        usable = [i * groups.count // groups.active for i in range(groups.active)]
    else:
        columns = next((c for c in (4, 8, 16, 24, 32, 48) if experts <= c * c), 64)
        usable = list(range(ceil(experts / columns)))
    rows = [range(start, min(start + columns, experts)) for start in range(0, experts, columns)]
    seats = [seat for row in usable for seat in rows[row]]
    stride = len(seats) / router.active
    uneven = 0.37 if stride >= 3 else 0.0  # spread evenly, but not as if with a ruler
    chosen = {seats[int((i + uneven * (i + 1) % 1) * stride)] for i in range(router.active)}
    return [[seat in chosen for seat in row] for row in rows]


def _squares(card: Card, box: Region, rows: list[list[bool]], cell: float, spec: s.MoE, letters: Letters) -> None:
    """Fills the box of the experts: their count, and a square for each."""
    x, y = box.rect.center[0], box.rect.y
    left, top = x - len(rows[0]) * cell / 2, y + 44 + (box.rect.height - 54 - len(rows) * cell) / 2
    gap = min(3.0, cell / 5)
    squares: dict[bool, list[Rect]] = {False: [], True: []}
    for i, row in enumerate(rows):
        for j, chosen in enumerate(row):
            squares[chosen].append(Rect(left + j * cell + gap / 2, top + i * cell + gap / 2, cell - gap, cell - gap))
    parts = []
    for chosen, cells in squares.items():
        if cells:
            name = "active" if chosen else "idle"
            rect = group("", tuple(Region("", c) for c in cells)).rect
            parts.append(Region(f"{box.name}.{name}", rect, "cells", box.path, f"expert-{name}", cells=tuple(cells)))
    minor = "difference" if box.differs else "muted"
    texts = (
        Text(f"{number(spec.router.experts)} experts", x, y + 19, INNER, anchor="middle"),
        Text(f"{spec.router.active} for each token", x, y + 35, SUB, bool(box.differs), minor, "middle"),
    )
    card.sketch.parts[card.sketch.parts.index(box)] = replace(box, texts=texts, parts=tuple(parts))
    _mark(card, "experts.badge", box.rect, spec.expert, letters)


def _mark(card: Card, name: str, rect: Rect, spec: s.Spec, letters: Letters) -> None:
    if spec in letters:
        card.sketch.badge(name, letters[spec], (rect.right, rect.y), card.role)
