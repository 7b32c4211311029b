"""Which insides are shown, how they are lettered, and where their cards stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from math import log
from string import ascii_uppercase

from ... import spec as s
from ...cost.quantity import number
from ..pattern import Kind
from .attention import attention, latent_attention
from .card import Inside, look_of, widened
from .feedforward import experts, feed_forward
from .mtp import prediction
from .notes import label, named, shared_body
from .scene import Part, group
from .sketch import Highlight

BETWEEN = 26.0  # cards
ASIDE = 40.0  # between the stream and the cards

Way = Callable[[Part, Sequence[Part], int], Part]


Found = tuple[s.Spec, str, str]  # a part, its path, and where it is in words


def insides(shown: Iterable[tuple[str, Kind]]) -> list[Inside]:
    """The bodies of layers in order of appearance, those that look alike once. Each kind of layer is given with the
    path of its stack, "" or "encoder."."""
    found: dict[s.Spec, list[Found]] = {}
    for stack, kind in shown:
        word = "the encoder" if stack else named(kind.name)
        for made in _bodies(kind.layer.branches, f"{stack}layers.{kind.indices[0]}", word):
            found.setdefault(look_of(made[0]), []).append(made)
    drawn = [made for look, made in found.items() if type(look) in CARDS]
    titles = [label(made[0][0]) for made in drawn]
    return [
        Inside(
            spec=made[0][0],
            letter=letter,
            paths=tuple(path for _, path, _ in made),
            made_so=tuple(dict.fromkeys(spec for spec, _, _ in made)),
            lines=_sizes(made) or (_words(made) if titles.count(title) > 1 else ()),
        )
        for letter, title, made in zip(ascii_uppercase, titles, drawn, strict=False)
    ]


def _bodies(branches: Sequence[s.Branch], path: str, word: str) -> Iterator[Found]:
    """The bodies of branches, and of those within. An expert is a feed-forward layer too."""
    for branch in branches:
        body, here = branch.body, f"{path}.{branch.name}.body"
        if isinstance(body, s.Parallel):
            yield from _bodies(body.branches, here, word)
            continue
        yield body, here, word
        if isinstance(body, s.MoE):
            yield body.expert, f"{here}.experts", "each expert"
            if body.shared:
                yield shared_body(body.shared), f"{here}.shared", "shared expert"


def _words(made: Sequence[Found]) -> tuple[str, ...]:
    """Where parts are found whose cards have the same title."""
    return (f"in {', '.join(dict.fromkeys(word for _, _, word in made))}",)


def _sizes(made: Sequence[Found]) -> tuple[str, ...]:
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


def beside(body: Part, drawn: Sequence[Part], columns: int) -> Part:
    """The cards in columns to the right of `body`, equally wide within a column."""
    parts, x = [body], body.rect.right + ASIDE
    for column in _split(drawn, columns, lambda card: card.rect.height):
        width, y = max(card.rect.width for card in column), body.rect.y
        for card in column:
            parts.append(widened(card, width).moved(x, y))
            y += card.rect.height + BETWEEN
        x += width + BETWEEN
    return group("", tuple(parts))


def below(body: Part, drawn: Sequence[Part], rows: int) -> Part:
    """The cards in rows under `body`."""
    parts, y = [body], body.rect.bottom + ASIDE
    for row in _split(drawn, rows, lambda card: card.rect.width):
        x = body.rect.x
        for card in row:
            parts.append(card.moved(x, y))
            x += card.rect.width + BETWEEN
        y += max(card.rect.height for card in row) + BETWEEN
    return group("", tuple(parts))


def _split(drawn: Sequence[Part], lines: int, size: Callable[[Part], float]) -> list[Sequence[Part]]:
    """The cards in order, in at most `lines` lines of which the longest is as short as can be."""
    cuts = combinations(range(1, len(drawn)), min(lines, len(drawn)) - 1)
    ways = ([drawn[a:b] for a, b in pairwise((0, *cut, len(drawn)))] for cut in cuts)
    return min(ways, key=lambda way: max(sum(size(card) + BETWEEN for card in line) for line in way))


def arranged(body: Part, drawn: Sequence[Part], ratio: float = 1.5, ways: Sequence[Way] = (beside, below)) -> Part:
    """`body` and its cards, with little empty room, and about `ratio` times as wide as high."""
    if not drawn:
        return body
    used = sum(part.rect.width * part.rect.height for part in (body, *drawn))

    def cost(whole: Part) -> float:
        width, height = whole.rect.width, whole.rect.height
        return abs(log(width / height / ratio)) + 1.5 * log(width * height / used)

    return min((way(body, drawn, lines) for way in ways for lines in range(1, len(drawn) + 1)), key=cost)
