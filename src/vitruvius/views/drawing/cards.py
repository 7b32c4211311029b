"""Which insides are shown, how they are lettered, and where their cards stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from string import ascii_uppercase

from ... import spec as s
from ...cost.quantity import number
from ..description import describe, heading, look
from ..layer_periods import LayerKind
from .card import Inside, widened
from .kinds import named
from .mtp import prediction
from .scene import Region, group
from .sketch import Highlight

BETWEEN = 26.0  # cards
ASIDE = 40.0  # between the stream and the cards
WIDEST = 1028.0  # of a figure whose stream leaves room: what the explorer shows without a scroll bar

Body = tuple[s.Spec, str, str]  # a part, its path, and where it is in words


def insides(shown: Iterable[tuple[str, LayerKind]]) -> list[Inside[s.Spec]]:
    """The bodies of layers in order of appearance, those that look alike once. Each kind of layer is given with the
    path of its stack, "" or "encoder."."""
    found: dict[s.Spec, list[Body]] = {}
    for stack, kind in shown:
        word = "the encoder" if stack else named(kind.name)
        for body in _bodies(kind.layer.branches, f"{stack}layers.{kind.indices[0]}", word):
            found.setdefault(look(body[0]), []).append(body)
    drawn = [bodies for bodies in found.values() if describe(bodies[0][0]).picture.inset]
    titles = [heading(bodies[0][0]) for bodies in drawn]
    return [
        Inside(
            spec=bodies[0][0],
            letter=letter,
            paths=tuple(path for _, path, _ in bodies),
            specs=tuple(dict.fromkeys(spec for spec, _, _ in bodies)),
            lines=_sizes(bodies) or (_words(bodies) if titles.count(title) > 1 else ()),
        )
        for letter, title, bodies in zip(ascii_uppercase, titles, drawn, strict=False)
    ]


def _bodies(branches: Sequence[s.Branch], path: str, word: str) -> Iterator[Body]:
    """The bodies of branches, and of those within. An expert is a feed-forward layer too."""
    for branch in branches:
        here, picture = f"{path}.{branch.name}.body", describe(branch.body).picture
        if picture.side_by_side:
            yield from _bodies(picture.side_by_side, here, word)
            continue
        yield branch.body, here, word
        for inner in picture.inner:
            yield inner.spec, f"{here}.{inner.slot}", inner.words


def _words(bodies: Sequence[Body]) -> tuple[str, ...]:
    """Where parts are found whose cards have the same title."""
    return (f"in {', '.join(dict.fromkeys(word for _, _, word in bodies))}",)


def _sizes(bodies: Sequence[Body]) -> tuple[str, ...]:
    """What h is, for feed-forward layers of several sizes."""
    words: dict[int, list[str]] = {}
    for spec, _, word in bodies:
        if hidden := describe(spec).figures.get("hidden"):
            words.setdefault(hidden, []).append(word)
    if len(words) < 2:
        return ()
    return tuple(f"h = {number(dim)}: {', '.join(dict.fromkeys(where))}" for dim, where in words.items())


def cards(arch: s.Decoder, inside: Sequence[Inside[s.Spec]], highlight: Highlight) -> list[Region]:
    """A card for each inside, and one for multi-token prediction."""
    letters = {spec: i.letter for i in inside for spec in i.specs}
    drawn = [inset(i, arch.width, letters, highlight) for i in inside if (inset := describe(i.spec).picture.inset)]
    return [*drawn, prediction(arch, highlight)] if arch.mtp else drawn


def beside(body: Region, drawn: Sequence[Region], columns: int) -> Region:
    """The cards in columns to the right of `body`, equally wide within a column."""
    parts, x = [body], body.rect.right + ASIDE
    for column in _split(drawn, columns, lambda card: card.rect.height):
        width, y = max(card.rect.width for card in column), body.rect.y
        for card in column:
            parts.append(widened(card, width).moved(x, y))
            y += card.rect.height + BETWEEN
        x += width + BETWEEN
    return group("", tuple(parts))


def below(body: Region, drawn: Sequence[Region], rows: int) -> Region:
    """The cards in rows under `body`, or under it and the cards that stand beside it already."""
    parts, y = list(body.parts if body.name == "" else (body,)), body.rect.bottom + ASIDE
    for row in _split(drawn, rows, lambda card: card.rect.width):
        x = body.rect.x
        for card in row:
            parts.append(card.moved(x, y))
            x += card.rect.width + BETWEEN
        y += max(card.rect.height for card in row) + BETWEEN
    return group("", tuple(parts))


def _split(drawn: Sequence[Region], lines: int, size: Callable[[Region], float]) -> list[Sequence[Region]]:
    """The cards in order, in at most `lines` lines of which the longest is as short as can be."""
    cuts = combinations(range(1, len(drawn)), min(lines, len(drawn)) - 1)
    ways = ([drawn[a:b] for a, b in pairwise((0, *cut, len(drawn)))] for cut in cuts)
    return min(ways, key=lambda way: max(sum(size(card) + BETWEEN for card in line) for line in way))


def arranged(body: Region, drawn: Sequence[Region], most_beside: int | None = None) -> Region:
    """`body` and its cards, some beside it and the others below, with little empty room and no wider than WIDEST or the
    stream. `most_beside` is how many may stand beside it, any number if None."""
    if not drawn:
        return body
    widest = max(WIDEST, body.rect.width, *(card.rect.width for card in drawn))
    room = widest - body.rect.width - ASIDE
    fitting = [i for i, card in enumerate(drawn) if card.rect.width <= room][:most_beside]

    def ways() -> Iterator[Region]:
        for first in range(len(fitting) + 1):
            side, rest = fitting[:first], [card for i, card in enumerate(drawn) if i not in fitting[:first]]
            for columns in range(1, max(1, first) + 1):
                upper = beside(body, [drawn[i] for i in side], columns) if side else body
                yield from (below(upper, rest, rows) for rows in range(1, len(rest) + 1)) if rest else (upper,)

    return min(ways(), key=lambda way: (way.rect.width > widest, way.rect.height * max(way.rect.width, 0.75 * widest)))
