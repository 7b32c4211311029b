"""Which insides are shown, how they are lettered, and where their cards stand."""

from __future__ import annotations

from collections.abc import Sequence

from ... import spec as s
from ...cost.quantity import number
from ..pattern import Kind
from .insets import Inside, attention, experts, feed_forward, latent_attention, look_of, prediction
from .scene import Part, group
from .sketch import Highlight

BETWEEN = 26.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def insides(arch: s.Decoder, shown: Sequence[Kind]) -> list[Inside]:
    """The bodies of the layers in order of appearance; those that look alike, once. An expert is a feed-forward layer too."""
    found: dict[s.Spec, list[tuple[s.Spec, str, str]]] = {}
    for kind in shown:
        for branch in kind.layer.branches:
            body, path = branch.body, f"layers.{kind.indices[0]}.{branch.name}.body"
            found.setdefault(look_of(body), []).append((body, path, f"{kind.name} layers"))
            if isinstance(body, s.MoE):
                for part, slot, word in ((body.expert, "experts", "each expert"), (body.shared, "shared", "shared expert")):
                    if part:
                        found.setdefault(look_of(part), []).append((part, f"{path}.{slot}", word))
    return [
        Inside(made[0][0], LETTERS[i % len(LETTERS)], tuple(path for _, path, _ in made), tuple(dict.fromkeys(spec for spec, _, _ in made)), _sizes(made))
        for i, made in enumerate(found.values())
    ]


def _sizes(made: Sequence[tuple[s.Spec, str, str]]) -> tuple[str, ...]:
    """What h is in feed-forward layers of several sizes."""
    words: dict[int, list[str]] = {}
    for spec, _, word in made:
        if isinstance(spec, (s.MLP, s.GatedMLP)):
            words.setdefault(spec.dim, []).append(word)
    if len(words) < 2:
        return ()
    return tuple(f"h = {number(dim)}: {', '.join(dict.fromkeys(said))}" for dim, said in words.items())


def card(inside: Inside, width: int, letters: dict[s.Spec, str], marked: Highlight) -> Part | None:
    match inside.spec:
        case s.Attention():
            return attention(inside, width, marked)
        case s.LatentAttention():
            return latent_attention(inside, width, marked)
        case s.MLP() | s.GatedMLP():
            return feed_forward(inside, width, marked)
        case s.MoE():
            return experts(inside, width, letters, marked)
    return None


def cards(arch: s.Decoder, inside: Sequence[Inside], marked: Highlight, height: float) -> Part | None:
    """All cards in columns of at most `height`, where one card is not higher already."""
    letters = {spec: i.letter for i in inside for spec in i.made_so}
    drawn = [part for i in inside if (part := card(i, arch.width, letters, marked))]
    if arch.mtp:
        drawn.append(prediction(arch, marked))
    columns: list[list[Part]] = []
    for part in drawn:
        free = height - sum(p.rect.height + BETWEEN for p in columns[-1]) if columns else 0.0
        if part.rect.height > free:
            columns.append([])
        columns[-1].append(part)
    placed, x = [], 0.0
    for column in columns:
        y, width = 0.0, max(part.rect.width for part in column)
        for part in column:
            placed.append(part.moved(x, y))
            y += part.rect.height + BETWEEN
        x += width + BETWEEN
    return group("cards", tuple(placed)) if placed else None
