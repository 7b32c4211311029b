"""The inside of an indexer: which earlier tokens a query may see."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import phrase
from .card import BETWEEN, PILL, ROW, TALL, Card, Inside, Letters
from .scene import Rect, Region
from .sketch import ARROW, LABEL, SMALL, SUB, Highlight, widest


def indexer(inside: Inside[s.Indexer], width: int, letters: Letters, highlight: Highlight) -> Region:
    """Queries of the attention's latent, one key for each token, a weight for each head, and the best scores."""
    spec, card = inside.spec, Card(inside, "attention", highlight)
    queries, keys = f"{spec.heads} × {spec.dim}", number(spec.dim)
    wide = max(84.0, widest([queries, f"from a latent of {number(spec.query_width)}"], SUB) + 14)
    step = wide + BETWEEN
    q, k, w = (card.column(x, wide, source=0.0) for x in (-step, 0.0, step))
    card.input(0.0)
    about = f"from the attention's latent queries, {number(spec.query_width)} wide"
    card.step("q", q.next(TALL), "Query", queries, fields="q heads dim query_width", size=LABEL, about=about)
    card.step("k", k.next(TALL), "Key", keys, fields="k dim", size=LABEL)
    card.step("head_weights", w.next(TALL), "Weight", number(spec.heads), fields="head_weights heads", size=LABEL)
    card.norm(k, "norm", spec.norm, "norm")
    if spec.positions:
        for name, column in (("q.rope", q), ("k.rope", k)):
            card.step(name, column.next(ROW), "RoPE", fields="positions", about=phrase(spec.positions))
    rect = k.next(PILL, 64)
    card.step("cached", rect, "cached", fields="k dim", role="cache", shape="pill", size=SMALL, about="for each token")
    bottom = min(q.y, k.y, w.y) - ARROW
    for column in (q, k, w):
        column.arrow(bottom)
    card.step(
        "scores",
        Rect(-1.5 * wide - BETWEEN, bottom - ROW, 3 * wide + 2 * BETWEEN, ROW),
        "Σ over heads  w · relu(q · k)",
        fields="heads",
    )
    out = card.column(0.0, wide + 40, bottom - ROW)
    card.step("topk", out.next(ROW), f"the best {number(spec.topk)} tokens", fields="topk")
    return card.done(out)
