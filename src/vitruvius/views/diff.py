"""What differs between two architectures: the nouns, then the numbers, then the costs.

Layers are not paired. Each property is read off all layers of either side and told as a pattern ("5 × window 1,024, 1 × full
attention, …"), so that models of different depth compare, and equal layers make no noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cost import Cost, cost
from ..cost.quantity import number
from ..spec import Decoder, Spec
from .aspects import Aspect, aspects
from .pattern import grouped
from .table import costs_table, table
from .words import facts, phrase, title


@dataclass(frozen=True)
class Change:
    """One property and its value on both sides: a number, or words."""

    what: str
    a: str | float
    b: str | float


@dataclass(frozen=True)
class Difference:
    """What `compare` found. `str()` is a table, and so is `print`.

    `paths_a` and `paths_b` are the places that differ, as canonical paths ("layers.0.mixer.body.kv.heads"), for a drawing to
    highlight.
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

    def __str__(self) -> str:
        if self.same:
            return f"{self.a} and {self.b} are the same architecture.\n\n{costs_table(self.costs)}"
        rows: list[Sequence[str]] = [("", self.a, self.b)]
        rows += [(c.what, _text(c.a), _text(c.b)) for c in self.nouns]
        rows += [()] if self.nouns and self.numbers else []
        rows += [(c.what, _text(c.a), _text(c.b)) for c in self.numbers]
        return f"{table(rows)}\n\n{costs_table(self.costs)}"


def compare(a: Decoder, b: Decoder, context: int | None = None, batch: int = 1, dtype: str = "bf16") -> Difference:
    """What differs between `a` and `b`.

    Costs are for sequences of `context` tokens, by default the longest that both models are made for.
    """
    context = min(a.context, b.context) if context is None else context
    costs = cost(a, context, batch, dtype), cost(b, context, batch, dtype)
    seen = list(_decoders(a, b))
    nouns, numbers = [], []
    for change in _named(seen):
        numeric = isinstance(change.a, (int, float)) and isinstance(change.b, (int, float))
        (numbers if numeric else nouns).append(change)
    differing = [pair for pair in seen if pair.differs]
    return Difference(
        a=a.name,
        b=b.name,
        nouns=tuple(nouns),
        numbers=tuple(numbers),
        costs=costs,
        paths_a=frozenset(path for pair in differing for path in pair.paths_a),
        paths_b=frozenset(path for pair in differing for path in pair.paths_b),
    )


@dataclass(frozen=True)
class Place:
    """An aspect where it stands: the path of the part that has it."""

    path: str
    aspect: Aspect

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{name}" if self.path else name for name in self.aspect.fields)


@dataclass(frozen=True)
class Pair:
    """One aspect over all places of either side; `a` and `b` are what to say of it."""

    label: str
    role: str
    a: str | float
    b: str | float
    paths_a: tuple[str, ...] = ()
    paths_b: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.paths_a or self.paths_b)


def _decoders(a: Decoder, b: Decoder) -> Iterator[Pair]:
    yield from _parts([("", a)], [("", b)], "")
    places = [[(f"layers.{i}", layer) for i, layer in enumerate(arch.layers)] for arch in (a, b)]
    yield from _layers(*places)
    modules = [[(f"mtp.{i}", module) for i, module in enumerate(arch.mtp)] for arch in (a, b)]
    if all(modules):
        yield from _parts(modules[0], modules[1], "MTP")


def _layers(a: list[tuple[str, Any]], b: list[tuple[str, Any]]) -> Iterator[Pair]:
    if len(a) != len(b):
        yield Pair("layers", "", len(a), len(b), ("layers",), ("layers",))
    names = dict.fromkeys(branch.name for _, layer in (*a, *b) for branch in layer.branches)
    for name in names:
        columns = []
        for side in (a, b):
            found = [(path, {branch.name: branch for branch in layer.branches}.get(name)) for path, layer in side]
            columns.append([Place(path, Aspect(name, branch, (name,), name)) for path, branch in found])
        yield from _column(columns[0], columns[1])


def _parts(a: Iterable[tuple[str, Spec]], b: Iterable[tuple[str, Spec]], role: str) -> Iterator[Pair]:
    """The aspects of parts of one class, each over all of them."""
    columns: dict[tuple[str, str], tuple[list[Place], list[Place]]] = {}
    for side, parts in enumerate((a, b)):
        for path, part in parts:
            for aspect in aspects(part, role):
                columns.setdefault((aspect.label, aspect.role), ([], []))[side].append(Place(path, aspect))
    for mine, theirs in columns.values():
        yield from _column(mine, theirs)


def _column(a: list[Place], b: list[Place]) -> Iterator[Pair]:
    """One aspect, and where it holds parts, the aspects of those whose class is on both sides."""
    values = [place.aspect.value for place in (*a, *b)]
    classes = dict.fromkeys(type(value) for value in values if isinstance(value, Spec))
    yield _pair(a, b)
    for cls in classes:
        parts = [
            [(place.fields[0], place.aspect.value) for place in side if type(place.aspect.value) is cls]
            for side in (a, b)
        ]
        if all(parts):
            role = next(place.aspect.role for place in (*a, *b) if type(place.aspect.value) is cls)
            yield from _parts(parts[0], parts[1], role)


def _pair(a: list[Place], b: list[Place]) -> Pair:
    aspect = (a or b)[0].aspect
    keys_a, keys_b = [_key(p.aspect.value) for p in a], [_key(p.aspect.value) for p in b]
    words = _words(a, b)
    told_a, told_b = _arrangement([words[k] for k in keys_a]), _arrangement([words[k] for k in keys_b])
    if told_a == told_b:
        return Pair(aspect.label, aspect.role, told_a, told_b)
    if set(keys_a) == set(keys_b):
        return Pair(aspect.label, aspect.role, told_a, told_b, ("layers",), ("layers",))
    return Pair(
        aspect.label,
        aspect.role,
        _plain(a, told_a),
        _plain(b, told_b),
        tuple(path for place, key in zip(a, keys_a, strict=True) if {key} != set(keys_b) for path in place.fields),
        tuple(path for place, key in zip(b, keys_b, strict=True) if {key} != set(keys_a) for path in place.fields),
    )


def _key(value: Any) -> Any:
    """What makes two values the same here: of a part only what it is, since its own aspects are compared one by one."""
    return (type(value), title(value)) if isinstance(value, Spec) else value


def _words(a: list[Place], b: list[Place]) -> dict[Any, str]:
    """Each distinct value in words; a part that is on one side only with all there is to say about it."""
    sides = [{_key(place.aspect.value) for place in side} for side in (a, b)]
    words = {}
    for place in (*a, *b):
        value, key = place.aspect.value, _key(place.aspect.value)
        if isinstance(value, Spec):
            classes = [{k[0] for k in side if isinstance(k, tuple)} for side in sides]
            words[key] = title(value) if all(type(value) in c for c in classes) else _described(value)
        else:
            words[key] = place.aspect.show(value)
    if len(set(words.values())) < len(words):
        words |= {key: repr(key) for key in words if not isinstance(key, tuple)}
    return words


def _described(part: Spec) -> str:
    said = facts(part)
    return phrase(part) if len(said) < 3 else f"{title(part)}: {'; '.join(said)}"


def _arrangement(words: list[str]) -> str:
    """The words over all layers: "5 × window 1,024, 1 × full attention, …", "3 × gated MLP, then mixture of experts"."""
    if not words:
        return "none"
    if len(set(words)) == 1:
        return words[0]
    first, *rest = grouped(words)
    if first.times > 1 and all(word == words[i % first.period] for i, word in enumerate(words)):
        return f"{', '.join(f'{count} × {word}' for count, word in first.unit)}, …"
    told = [str(stretch) for stretch in (first, *rest)]
    if len(grouped(words)[-1].unit) == 1:
        told[-1] = words[-1]
    return ", then ".join(told)


def _plain(places: list[Place], told: str) -> str | float:
    """The number itself where all places hold the same."""
    values = {place.aspect.value for place in places}
    value = next(iter(values), None)
    return value if len(values) == 1 and type(value) in (int, float) else told


def _named(pairs: Iterable[Pair]) -> Iterator[Change]:
    """The changes, those of one label that are alike in one line: "norm eps", or "query and key norm" if others stay."""
    by_label: dict[str, dict[tuple[str | float, str | float], list[str]]] = {}
    for pair in pairs:
        by_label.setdefault(pair.label, {}).setdefault((pair.a, pair.b), []).append(pair.role)
    for label, told in by_label.items():
        for (a, b), roles in told.items():
            if a != b:
                whose = " and ".join(dict.fromkeys(roles)) if len(told) > 1 else ""
                yield Change(f"{whose} {label}".strip(), a, b)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)
