"""Seeing sixty layers at once: which kinds there are, and in which order they repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def stretches(stack: Decoder | Encoder) -> tuple[Stretch, ...]:
    """The layers as repetitions of the shortest period, and what is left over."""
    names = {index: kind.name for kind in kinds(stack) for index in kind.indices}
    return grouped([names[index] for index in range(len(stack.layers))])


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
    columns = list(dict.fromkeys(key for row in table for key in row))
    chosen: list[str] = []
    for column in columns:
        before, after = (len({_row(row, keys) for row in table}) for keys in (chosen, [*chosen, column]))
        if after > before:
            chosen.append(column)
    words = [[mark for mark in _row(row, chosen) if mark] or list(row.values())[: len(chosen)] for row in table]
    names = [" + ".join(some) or "layer" for some in words]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def _row(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in columns)
