"""The inside of multi-token prediction."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import phrase
from .card import BETWEEN, ROW, TALL, Card, Inside
from .scene import Rect, Region
from .sketch import ARROW, INNER, LABEL, Highlight


def prediction(arch: s.Decoder, highlight: Highlight) -> Region:
    """One more layer that predicts the token after the next."""
    spec = arch.mtp[0]
    inside = Inside(spec, "", tuple(f"mtp.{i}" for i in range(len(arch.mtp))), (spec,))
    card, wide = Card(inside, "embedding", highlight), 124.0
    side = (wide + BETWEEN) / 2
    sources = (
        ("hidden_norm", -side, ("output of", "the last layer")),
        ("embedding_norm", side, ("embedding of", "the next token")),
    )
    for name, x, words in sources:
        for i, word in enumerate(words):
            card.sketch.text(f"{name}.from-{i}", word, x, 14.0 * (i + 1))
        column = card.column(x, wide)
        card.norm(column, name, spec.norm, "norm")
        column.arrow(column.y - ARROW)
    both = Rect(-wide - BETWEEN / 2, column.y - ARROW - TALL, 2 * wide + BETWEEN, TALL)
    size = f"{number(2 * arch.width)} → {number(arch.width)}"
    card.step("join", both, "Join", size, fields="join", size=LABEL)
    stream = card.column(0.0, both.width, both.y)
    like = next((f", like layer {i}" for i, layer in enumerate(arch.layers) if layer == spec.layer), "")
    card.step(
        "layer",
        stream.next(TALL),
        f"One layer{like}",
        fields="layer",
        role="feed-forward",
        size=LABEL,
        about=phrase(spec.layer),
    )
    card.norm(stream, "final_norm", spec.norm, "norm")
    card.sketch.box("mtp.head", stream.next(ROW), "Output layer of the model", role="embedding", size=INNER)
    return card.done(stream)
