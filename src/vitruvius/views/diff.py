"""What differs between two architectures: the nouns, then the numbers, then the costs.

Layers are not paired. Each property is read off all layers of either side and given as a pattern ("5 × window 1,024,
1 × full attention, …"), so that models of different depth compare, and equal layers make no noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from ..cost import Cost, cost
from ..cost.formats import Format
from ..cost.quantity import number
from ..spec import Decoder, Layer, Spec
from .aspects import aspects
from .description import Aspect, shown
from .layer_periods import grouped
from .nouns import facts, phrase, title
from .table import costs_rows, costs_table, html_table, table

T = TypeVar("T", bound=Spec)
FIRST = ("layers", "width", "context", "vocabulary")  # of the numbers


@dataclass(frozen=True)
class Change:
    """One property and its value on both sides: a number, or words."""

    what: str
    a: str | float
    b: str | float


@dataclass(frozen=True, repr=False)
class Difference:
    """What `compare` found. `print` shows a table, and so does a notebook.

    `paths_a` and `paths_b` are the places that differ, as canonical paths ("layers.0.mixer.body.kv.heads"), for a
    drawing to highlight.
    """

    a: str
    b: str
    nouns: tuple[Change, ...]
    numbers: tuple[Change, ...]
    costs: tuple[Cost, Cost]
    paths_a: frozenset[str] = field(repr=False)
    paths_b: frozenset[str] = field(repr=False)

    @property
    def same(self) -> bool:
        """Whether the architectures are equal, whatever they are called."""
        return not (self.nouns or self.numbers)

    @property
    def paths(self) -> frozenset[str]:
        """The places of either tree that differ."""
        return self.paths_a | self.paths_b

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "same": self.same,
            "nouns": [asdict(change) for change in self.nouns],
            "numbers": [asdict(change) for change in self.numbers],
            "costs": [c.to_dict() for c in self.costs],
        }

    def changes(self) -> str:
        """What differs, as a table without the costs."""
        if self.same:
            return f"{self.a} and {self.b} are the same architecture"
        gap = [()] if self.nouns and self.numbers else []
        nouns, numbers = ([(x.what, *_texts(x)) for x in some] for some in (self.nouns, self.numbers))
        return table([("", self.a, self.b), *nouns, *gap, *numbers])

    def __repr__(self) -> str:
        found = f"{len(self.nouns)} parts and {len(self.numbers)} numbers differ" if not self.same else "the same"
        return f"<Difference of {self.a} and {self.b}: {found}>"

    def _repr_html_(self) -> str:
        rows = [(x.what, *_texts(x)) for x in (*self.nouns, *self.numbers)]
        return html_table([("", self.a, self.b), *rows]) + html_table(costs_rows(self.costs), left=1)

    def __str__(self) -> str:
        return f"{self.changes()}\n\n{costs_table(self.costs)}"


def compare(
    a: Decoder,
    b: Decoder,
    context: int | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    weights: tuple[str | Format | None, str | Format | None] = (None, None),
) -> Difference:
    """What differs between `a` and `b`.

    Costs are for sequences of `context` tokens, by default the longest that both models are made for; `weights` are the
    formats of either's, by default `dtype`.
    """
    context = min(a.context, b.context) if context is None else context
    seen = list(_decoders(a, b))
    nouns, numbers = _sorted(seen)
    return Difference(
        a=a.name,
        b=b.name,
        nouns=nouns,
        numbers=numbers,
        costs=(
            cost(a, context, batch, dtype, weights=weights[0]),
            cost(b, context, batch, dtype, weights=weights[1]),
        ),
        paths_a=frozenset(path for pair in seen for path in pair.paths_a),
        paths_b=frozenset(path for pair in seen for path in pair.paths_b),
    )


def changes(a: Decoder, b: Decoder) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """What differs between `a` and `b`, as `compare` has it: the nouns and the numbers, without costs."""
    return _sorted(_decoders(a, b))


def _sorted(seen: Iterable[Pair]) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    found = [(pair.numeric, change) for pair, change in _named(seen)]
    numbers = [change for numeric, change in found if numeric]
    numbers.sort(key=lambda change: FIRST.index(change.what) if change.what in FIRST else len(FIRST))
    return tuple(change for numeric, change in found if not numeric), tuple(numbers)


@dataclass(frozen=True)
class Property:
    """One property of an architecture: what it is called and, where several parts have it, whose it is ("query"); its
    value over all layers; and the places that hold it."""

    label: str
    role: str
    value: str | float
    paths: tuple[str, ...]


def properties(arch: Decoder) -> list[Property]:
    """Every property that `compare` looks at, in its order and words. Two architectures that hold all in common differ
    in nothing that a comparison would show."""
    found: dict[tuple[str, str, str | float], list[str]] = {}
    for pair in _decoders(arch, arch):
        if pair.label and pair.a != "none":
            found.setdefault((pair.label, pair.role, pair.a), []).extend(pair.places)
    return [Property(*key, tuple(dict.fromkeys(paths))) for key, paths in found.items()]


@dataclass(frozen=True)
class Occurrence:
    """An aspect where it stands: the path of the part that has it."""

    path: str
    aspect: Aspect

    @property
    def fields(self) -> tuple[str, ...]:
        """The aspect's fields as paths from the root."""
        return tuple(f"{self.path}.{name}" if self.path else name for name in self.aspect.fields)


@dataclass(frozen=True)
class Pair:
    """One aspect over all places of either side; `a` and `b` are what to say of it, `places` where `a` has it, and
    `paths_a` and `paths_b` where it differs."""

    label: str
    role: str
    a: str | float
    b: str | float
    numeric: bool
    places: tuple[str, ...]
    paths_a: tuple[str, ...] = ()
    paths_b: tuple[str, ...] = ()


def _decoders(a: Decoder, b: Decoder) -> Iterator[Pair]:
    main = [*_layers(_paths("layers", a.layers), _paths("layers", b.layers)), *_parts([("", a)], [("", b)])]
    yield from main
    if a.encoder and b.encoder:
        sides = (_paths("encoder.layers", arch.encoder.layers) for arch in (a, b) if arch.encoder)
        yield from (replace(pair, label=pair.label and f"encoder {pair.label}") for pair in _layers(*sides))
    if a.mtp and b.mtp:
        known = {(pair.label, pair.a, pair.b) for pair in main}
        extra = _parts(_paths("mtp", a.mtp), _paths("mtp", b.mtp))
        new = (pair for pair in extra if pair.a != pair.b and (pair.label, pair.a, pair.b) not in known)
        yield from (replace(pair, label=pair.label and f"MTP {pair.label}") for pair in new)


def _paths(name: str, parts: Sequence[T]) -> list[tuple[str, T]]:
    return [(f"{name}.{i}", part) for i, part in enumerate(parts)]


def _layers(a: list[tuple[str, Layer]], b: list[tuple[str, Layer]]) -> Iterator[Pair]:
    """Each branch by its name over all layers, None where a layer has none of this name."""
    sides = [[(path, {x.fields: x for x in aspects(layer)}) for path, layer in side] for side in (a, b)]
    for place in dict.fromkeys(place for side in sides for _, found in side for place in found):
        none = Aspect("", None, place)
        yield from _column(*([Occurrence(path, found.get(place, none)) for path, found in side] for side in sides))


def _parts(
    a: Sequence[tuple[str, Spec]], b: Sequence[tuple[str, Spec]], role: str = "", done: frozenset[str] = frozenset()
) -> Iterator[Pair]:
    """The aspects of parts of one class, each over all of them, but for the fields that are `done` by their owner's."""
    columns: dict[tuple[str, tuple[str, ...]], tuple[list[Occurrence], list[Occurrence]]] = {}
    for side, parts in enumerate((a, b)):
        for path, part in parts:
            for aspect in aspects(part, role):
                if not done.intersection(aspect.fields):
                    columns.setdefault((aspect.label, aspect.fields), ([], []))[side].append(Occurrence(path, aspect))
    for mine, theirs in columns.values():
        if (mine and theirs) or not (mine or theirs)[0].aspect.mutual:
            yield from _column(mine, theirs)


def _column(a: list[Occurrence], b: list[Occurrence]) -> Iterator[Pair]:
    """One aspect, and where it holds parts, the aspects of those whose class is on both sides."""
    yield _pair(a, b)
    for cls in dict.fromkeys(type(p.aspect.value) for p in (*a, *b) if isinstance(p.aspect.value, Spec)):
        mine, theirs = ([p for p in side if type(p.aspect.value) is cls] for side in (a, b))
        if mine and theirs:
            aspect = mine[0].aspect
            parts_a, parts_b = ([(p.fields[0], p.aspect.value) for p in side] for side in (mine, theirs))
            yield from _parts(parts_a, parts_b, aspect.role, aspect.done)


def _pair(a: list[Occurrence], b: list[Occurrence]) -> Pair:
    aspect = (a or b)[0].aspect
    words = _words(a, b)
    sides = [[(place, _key(place.aspect.value)) for place in side] for side in (a, b)]
    text_a, text_b = (_arrangement([words[key] for _, key in side]) for side in sides)
    keys_a, keys_b = ({key for _, key in side} for side in sides)
    numeric = all(type(key) in (int, float) for key in keys_a | keys_b)
    places = tuple(path for place in a for path in place.fields)
    if text_a == text_b:
        return Pair(aspect.label, aspect.role, text_a, text_b, numeric, places)
    text_a += _details(a, b)
    text_b += _details(b, a)
    if keys_a == keys_b:
        return Pair(aspect.label, aspect.role, text_a, text_b, numeric, places, ("layers",), ("layers",))
    paths_a, paths_b = (
        tuple(path for place, key in side if {key} != others for path in place.fields)
        for side, others in zip(sides, (keys_b, keys_a), strict=True)
    )
    return Pair(aspect.label, aspect.role, _plain(a, text_a), _plain(b, text_b), numeric, places, paths_a, paths_b)


def _key(value: Any) -> Any:
    """What makes two values the same here: of a part only what it is, since its own aspects are compared one by one."""
    return (type(value), title(value)) if isinstance(value, Spec) else value


def _words(a: list[Occurrence], b: list[Occurrence]) -> dict[Any, str]:
    """Each distinct value in words; a part of a class that the other side lacks with its facts, where they are few."""
    words = {}
    for side, other in ((a, b), (b, a)):
        for place in side:
            value = place.aspect.value
            if not isinstance(value, Spec):
                words[_key(value)] = place.aspect.show(value)
            else:
                inline = _is_new(value, other) and not _is_long(value)
                words[_key(value)] = _short(value, place.aspect.label) if inline else title(value)
    if len(set(words.values())) < len(words):
        words |= {key: repr(key) for key in words if isinstance(key, (int, float))}
    return words


def _is_new(part: Spec, other: list[Occurrence]) -> bool:
    return all(type(place.aspect.value) is not type(part) for place in other)


def _is_long(part: Spec) -> bool:
    return any(", " in fact for fact in facts(part)) or len(facts(part)) > 3


def _short(part: Spec, label: str) -> str:
    """A part in one line, without its title where that is the question."""
    return ", ".join(facts(part)) if title(part) == label else phrase(part)


def _details(side: list[Occurrence], other: list[Occurrence]) -> str:
    """The facts of parts that the other side lacks, where they are too many to stand inside the pattern."""
    found = {}
    for place in side:
        value = place.aspect.value
        if isinstance(value, Spec) and _is_long(value) and _is_new(value, other):
            found[title(value)] = "; ".join(facts(value))
    if len(found) == 1 and len({_key(place.aspect.value) for place in side}) == 1:
        return f": {next(iter(found.values()))}"
    return "".join(f"\n{name}: {details}" for name, details in found.items())


def _arrangement(words: list[str]) -> str:
    """The words over all layers: "5 × window 1,024, 1 × full attention, …", "3 × gated MLP, then experts"."""
    if not words:
        return "none"
    if len(set(words)) == 1:
        return words[0]
    first, *rest = grouped(words)
    if first.times > 1 and all(word == words[i % first.period] for i, word in enumerate(words)):
        return f"{', '.join(f'{count} × {word}' for count, word in first.unit)}, …"
    parts = [str(stretch) for stretch in (first, *rest)]
    if len(grouped(words)[-1].unit) == 1:
        parts[-1] = words[-1]
    return ", then ".join(parts)


def _plain(places: list[Occurrence], text: str) -> str | float:
    """The number itself where all places hold the same, and no words are better."""
    values = {place.aspect.value for place in places}
    value = values.pop() if len(values) == 1 else None
    return value if type(value) in (int, float) and places[0].aspect.show is shown else text  # type: ignore[return-value]


def _named(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Change]]:
    """The changes, those of one label that are alike in one line: "norm eps", or "query and key norm" if others
    stay."""
    by_label: dict[str, dict[tuple[str | float, str | float], list[Pair]]] = {}
    for pair in pairs:
        if pair.label and (pair.a, pair.b) != ("none", "none"):
            by_label.setdefault(pair.label, {}).setdefault((pair.a, pair.b), []).append(pair)
    for label, by_sides in by_label.items():
        for (a, b), alike in by_sides.items():
            if a != b:
                roles = list(dict.fromkeys(pair.role for pair in alike)) if len(by_sides) > 1 else []
                whose = " and ".join(filter(None, (", ".join(roles[:-1]), *roles[-1:])))
                yield alike[0], Change(f"{whose} {label}".strip(), a, b)


def _texts(change: Change) -> tuple[str, str]:
    a, b = (value if isinstance(value, str) else number(value) for value in (change.a, change.b))
    return (a, b) if a != b else (str(change.a), str(change.b))
