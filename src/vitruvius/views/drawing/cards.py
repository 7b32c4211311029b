"""Which insides are shown, how they are lettered, and where their cards stand."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from string import ascii_uppercase

from ... import spec as s
from ...cost.quantity import number
from ..pattern import Kind
from .insets import Inside, attention, experts, feed_forward, latent_attention, look_of, prediction
from .scene import Part, group
from .sketch import Highlight

BETWEEN = 26.0  # cards
ASIDE = 40.0  # between the stream and the cards


def insides(shown: Sequence[Kind]) -> list[Inside]:
    """The bodies of the layers in order of appearance, those that look alike once. An expert is a feed-forward layer too."""
    found: dict[s.Spec, list[tuple[s.Spec, str, str]]] = {}
    for kind in shown:
        for branch in kind.layer.branches:
            body, path = branch.body, f"layers.{kind.indices[0]}.{branch.name}.body"
            made = [(body, path, f"{kind.name} layers")]
            if isinstance(body, s.MoE):
                made.append((body.expert, f"{path}.experts", "each expert"))
                made += [(body.shared, f"{path}.shared", "shared expert")] if body.shared else []
            for spec, where, word in made:
                found.setdefault(look_of(spec), []).append((spec, where, word))
    drawn = [made for look, made in found.items() if type(look) in CARDS]
    return [
        Inside(
            spec=made[0][0],
            letter=letter,
            paths=tuple(path for _, path, _ in made),
            made_so=tuple(dict.fromkeys(spec for spec, _, _ in made)),
            lines=_sizes(made),
        )
        for letter, made in zip(ascii_uppercase, drawn, strict=False)
    ]


def _sizes(made: Sequence[tuple[s.Spec, str, str]]) -> tuple[str, ...]:
    """What h is, for feed-forward layers of several sizes."""
    words: dict[int, list[str]] = {}
    for spec, _, word in made:
        if isinstance(spec, (s.MLP, s.GatedMLP)):
            words.setdefault(spec.dim, []).append(word)
    if len(words) < 2:
        return ()
    return tuple(f"h = {number(dim)}: {', '.join(dict.fromkeys(said))}" for dim, said in words.items())


CARDS = {
    s.Attention: attention,
    s.LatentAttention: latent_attention,
    s.MLP: feed_forward,
    s.GatedMLP: feed_forward,
    s.MoE: experts,
}


def cards(arch: s.Decoder, inside: Sequence[Inside], highlight: Highlight) -> list[Part]:
    """A card for each inside, and one for multi-token prediction."""
    letters = {spec: i.letter for i in inside for spec in i.made_so}
    drawn = [CARDS[type(i.spec)](i, arch.width, letters, highlight) for i in inside]
    return [*drawn, prediction(arch, highlight)] if arch.mtp else drawn


def beside(body: Part, drawn: Sequence[Part], height: float) -> Part:
    """The cards to the right of `body`, in columns of at most `height` where a single card is not higher."""
    parts, x, y, wide = [body], body.rect.right + ASIDE, body.rect.y, 0.0
    for card in drawn:
        if y > body.rect.y and y + card.rect.height > body.rect.y + height:
            x, y, wide = x + wide + BETWEEN, body.rect.y, 0.0
        parts.append(card.moved(x, y))
        y, wide = y + card.rect.height + BETWEEN, max(wide, card.rect.width)
    return group("", tuple(parts))


def below(body: Part, drawn: Sequence[Part], width: float) -> Part:
    """The cards under `body`, in rows of at most `width` where a single card is not wider."""
    parts, x, y, high = [body], body.rect.x, body.rect.bottom + ASIDE, 0.0
    for card in drawn:
        if x > body.rect.x and x + card.rect.width > body.rect.x + width:
            x, y, high = body.rect.x, y + high + BETWEEN, 0.0
        parts.append(card.moved(x, y))
        x, high = x + card.rect.width + BETWEEN, max(high, card.rect.height)
    return group("", tuple(parts))


def arranged(body: Part, drawn: Sequence[Part], ratio: float = 1.6) -> Part:
    """`body` and its cards, with little empty room, and about `ratio` times as wide as high."""
    used = sum(part.rect.width * part.rect.height for part in (body, *drawn))
    ways = [beside(body, drawn, body.rect.height * k) for k in (1.0, 1.25, 1.5, 1.75, 2.0)]
    ways += [below(body, drawn, body.rect.width * k) for k in (1.0, 1.25, 1.5)]

    def cost(way: Part) -> float:
        wide, high = way.rect.width, way.rect.height
        return abs(log(wide / high / ratio)) + log(wide * high / used)

    return min(ways, key=cost)
