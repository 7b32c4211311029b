"""Seeing sixty layers at once: which kinds there are, and in which order they repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..spec import Decoder, Encoder, Layer
from .nouns import marks


@dataclass(frozen=True)
class LayerKind:
    """Layers that are equal: their short name, what they are, and where they stand."""

    name: str
    layer: Layer
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Stretch:
    """Consecutive layers: `unit`, `times` over. The unit is runs of (how many, of what)."""

    first: int
    unit: tuple[tuple[int, str], ...]
    times: int = 1

    @property
    def period(self) -> int:
        """Layers in the unit."""
        return sum(count for count, _ in self.unit)

    @property
    def last(self) -> int:
        """The last layer of the stretch."""
        return self.first + self.period * self.times - 1

    def __str__(self) -> str:
        """`10 × (5 × window 1,024, 1 × full)`."""
        inside = ", ".join(f"{count} × {name}" for count, name in self.unit)
        return inside if self.times == 1 else f"{self.times} × ({inside})"


def kinds(stack: Decoder | Encoder) -> tuple[LayerKind, ...]:
    """The distinct layers in order of appearance, each named by as little as tells it from the others ("dense")."""
    places: dict[Layer, list[int]] = {}
    for index, layer in enumerate(stack.layers):
        places.setdefault(layer, []).append(index)
    names = _names(list(places))
    return tuple(
        LayerKind(name, layer, tuple(indices)) for name, (layer, indices) in zip(names, places.items(), strict=True)
    )


def grouped(sequence: Sequence[str]) -> tuple[Stretch, ...]:
    """A sequence of names, cut greedily into the longest repetitions; of equally long ones, the shortest period."""
    found: list[Stretch] = []
    start = 0
    while start < len(sequence):
        period, times = _repetition(sequence, start)
        unit = tuple((len(list(run)), name) for name, run in groupby(sequence[start : start + period]))
        found.append(Stretch(start, ((times, unit[0][1]),)) if period == 1 else Stretch(start, unit, times))
        start = found[-1].last + 1
    return tuple(found)


def pattern(sequence: Sequence[str]) -> str:
    """A sequence of names as people tell it, each unit ending on what is rarest: "10 × (5 window 1,024, 1 full), then
    2 window 1,024". Where two names take turns, their ratio comes first: "5 : 1, 10 × (…"."""
    turns = _turns(sequence)
    unit = max(Counter(turns).items(), key=lambda each: each[1] * len(each[0]))[0]
    runs = [len(list(run)) for _, run in groupby(unit)]
    ratio = f"{runs[0]} : 1, " if len(runs) == 2 and runs[1] == 1 and runs[0] > 1 and turns.count(unit) > 1 else ""
    return ratio + ", then ".join(_told(turns))


def _turns(sequence: Sequence[str]) -> list[tuple[str, ...]]:
    """The sequence, cut after each of the rarest name; of equally rare ones, of the last that appears. Where each name
    has one place, it is cut there."""
    runs = [tuple(run) for _, run in groupby(sequence)]
    if len(runs) == len(set(sequence)):
        return runs
    count = Counter(sequence)
    rare = min(reversed(count), key=lambda name: count[name])
    cuts = [0, *(i + 1 for i, name in enumerate(sequence) if name == rare)]
    ends = [*cuts[1:], len(sequence)]
    return [tuple(sequence[a:b]) for a, b in zip(cuts, ends, strict=True) if a < b]


def _told(turns: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Equal turns in a row once, with their number."""
    for unit, run in groupby(turns):
        times = len(list(run))
        if len(set(unit)) == 1:
            yield f"{times * len(unit)} {unit[0]}"
            continue
        *before, last = unit
        inside = [*_told(_turns(before)), f"1 {last}"] if last not in before else list(_told(_turns(unit)))
        yield ", ".join(inside) if times == 1 else f"{times} × ({', '.join(inside)})"


def _repetition(sequence: Sequence[str], start: int) -> tuple[int, int]:
    """(period, times) of the repetition from `start` on that covers most."""
    best = (1, 1)
    for period in range(1, (len(sequence) - start) // 2 + 1):
        times = 1
        unit = sequence[start : start + period]
        while sequence[start + period * times : start + period * (times + 1)] == unit:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _names(layers: Sequence[Layer]) -> list[str]:
    """A name for each of the distinct layers: the fewest of their marks that differ, the most telling first."""
    if len(layers) == 1:
        return ["layer"]
    table = [marks(layer) for layer in layers]
    chosen = telling(table)
    words = [[mark for mark in _row(row, chosen) if mark] or list(row.values())[: len(chosen)] for row in table]
    names = [" + ".join(some) or "layer" for some in words]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def telling(table: Sequence[Mapping[str, str]]) -> list[str]:
    """The fewest marks that tell these rows of marks apart, the most telling first."""
    chosen: list[str] = []
    for column in dict.fromkeys(key for row in table for key in row):
        before, after = (len({_row(row, keys) for row in table}) for keys in (chosen, [*chosen, column]))
        if after > before:
            chosen.append(column)
    return chosen


def _row(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in columns)
