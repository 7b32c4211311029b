"""The flat plan of a model: buffers, matrices, vectors, states, and a list of operations over them.

The operations and their fields are those of cpp/plan.h; the library tells them as text, and records are written by the
names of their fields, so there is no second list.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .library import Op

Floats = NDArray[np.float32]
PANEL = 16  # rows of a matrix that are packed together, and floats of a cache line
ARENA = 32 * 2**20  # bytes of all buffers: they should stay in the cache
MOST_ROWS = 256
FEWEST_ROWS = 8


@dataclass(frozen=True)
class Buffer:
    """Columns of the memory that holds `width` floats for each row of a step.

    Args:
        base: where its memory begins, in floats of one row; `stride` floats of a row are there.
        start: the first column.
        lasting: whether the memory is kept to the end of the step.
    """

    base: int
    start: int
    width: int
    stride: int
    lasting: bool = False

    def columns(self, start: int, width: int) -> Buffer:
        """Some of the columns."""
        assert start + width <= self.width, "columns lie within a buffer"
        return replace(self, start=self.start + start, width=width)

    def cut(self, *widths: int) -> tuple[Buffer, ...]:
        """The columns side by side."""
        starts = [sum(widths[:i]) for i in range(len(widths))]
        return tuple(self.columns(start, width) for start, width in zip(starts, widths, strict=True))


OUTPUT = -1  # the `base` of what the caller gets


@dataclass(frozen=True)
class Target:
    """Where a result goes: y ← skip · y + scale · result."""

    y: Buffer
    skip: float = 0.0
    scale: float = 1.0

    def times(self, factor: float) -> Target:
        """The same for a result that is still to be multiplied."""
        return replace(self, scale=self.scale * factor)


@dataclass(frozen=True)
class RowBlock:
    """A weight of the model as rows of a matrix.

    Args:
        name: the weight's canonical name.
        row: the first row that it takes, a multiple of 16 where `step` is not 1.
        rows: how many rows, of each copy.
        step: 2 where each panel of 16 rows is followed by one of another weight (gate and up).
        change: makes rows (copies, rows, cols) of the weight's values, where these are not the rows themselves.
    """

    name: str
    row: int
    rows: int
    step: int = 1
    change: Callable[[Floats], Floats] | None = None


@dataclass(frozen=True)
class Matrix:
    """`copies` matrices (rows, cols) in a packed format, made of pieces."""

    format: str
    rows: int
    cols: int
    copies: int
    pieces: tuple[RowBlock, ...]


@dataclass(frozen=True)
class Vector:
    """`size` floats, made of some weights' values."""

    size: int
    names: tuple[str, ...]
    make: Callable[..., Floats]


@dataclass(frozen=True)
class StateLayout:
    """What a sequence keeps: see StateSpec in cpp/plan.h."""

    heads: int = 0
    k_dim: int = 0
    v_dim: int = 0
    shared: int = 0
    window: int = 0
    fixed: int = 0


@dataclass(frozen=True)
class Plan:
    """All that an engine needs to know but the weights' bytes.

    Args:
        max_rows: tokens that go through the operations together.
        arena: floats of all buffers.
        output: the number of the caller's buffer, (wanted rows, output_width).
        buffers: (offset, width, stride) of each, int32.
        states: the fields of each, int32.
        words: the records, int32.
    """

    max_rows: int
    arena: int
    output: int
    output_width: int
    buffers: NDArray[np.int32]
    states: NDArray[np.int32]
    words: NDArray[np.int32]
    matrices: tuple[Matrix, ...]
    vectors: tuple[Vector, ...]


class OperationTable(Protocol):
    """What the library says of its operations (`library.Library`)."""

    @property
    def ops(self) -> Mapping[str, Op]:
        """The operations by name."""
        ...

    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each choice's numbers."""
        ...


@dataclass
class Builder:
    """Collects a plan while the parts of an architecture are lowered.

    Args:
        vocabulary: the library's operations.
        format_of: (canonical name, whether it is looked up or ranks experts) -> the packed format of a weight.
    """

    vocabulary: OperationTable
    format_of: Callable[[str, str], str]
    matrices: list[Matrix] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    states: list[StateLayout] = field(default_factory=list)
    shared: dict[Any, Any] = field(default_factory=dict)  # what parts share: states by layer, rotary tables, selections
    _records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _buffers: dict[Buffer, int] = field(default_factory=dict)
    _top: int = 0
    _peak: int = 0
    _lasting: int = 0
    _numbers: dict[Any, int] = field(default_factory=dict)

    # ---------------------------------------------------------------- memory

    def buffer(self, width: int) -> Buffer:
        """Memory until the end of the scope."""
        stride = _up(width)
        made = Buffer(self._top, 0, width, stride)
        self._top += stride
        self._peak = max(self._peak, self._top)
        return made

    def flat(self, width: int) -> Buffer:
        """The same, at least so wide and without gaps between rows, for operations that see all rows as one."""
        return self.buffer(_up(width))

    def lasting(self, width: int) -> Buffer:
        """Memory until the end of the step."""
        stride = _up(width)
        self._lasting += stride
        return Buffer(self._lasting - stride, 0, width, stride, lasting=True)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Buffers made within it give their memory back at its end."""
        top = self._top
        yield
        self._top = top

    def output(self, width: int) -> Buffer:
        """What the caller gets of each wanted row."""
        return Buffer(OUTPUT, 0, width, width)

    # ---------------------------------------------------------------- weights

    def matrix(self, pieces: Sequence[RowBlock], rows: int, cols: int, copies: int = 1, role: str = "matmul") -> int:
        """The number of a matrix; the same pieces are one matrix."""
        return self._numbered(
            self.matrices, Matrix(self.format_of(pieces[0].name, role), rows, cols, copies, tuple(pieces))
        )

    def vector(
        self, size: int, names: str | tuple[str, ...], make: Callable[..., Floats] = np.ravel, key: object = None
    ) -> int:
        """The number of a vector that `make` gives of the values of these weights; `key` tells what `make` depends
        on."""
        names = (names,) if isinstance(names, str) else names
        number = self._numbers.setdefault((names, size, make if key is None else key), len(self.vectors))
        if number == len(self.vectors):
            self.vectors.append(Vector(size, names, make))
        return number

    def state(self, state: StateLayout) -> int:
        """The number of a new state."""
        self.states.append(state)
        return len(self.states) - 1

    def _numbered(self, items: list[Any], item: Any) -> int:
        number = self._numbers.setdefault(item, len(items))
        if number == len(items):
            items.append(item)
        return number

    # ---------------------------------------------------------------- operations

    def op(self, name: str, **given: Any) -> None:
        """One more operation. A field that is not given is absent, 0, or the first choice."""
        self._records.append((name, given))
        for value in given.values():
            if isinstance(value, Buffer):
                self._buffers.setdefault(value, len(self._buffers))

    def into(self, name: str, to: Target, **given: Any) -> None:
        """One more operation, with a target."""
        self.op(name, y=to.y, skip=to.skip, scale=to.scale, **given)

    def plan(self, output_width: int) -> Plan:
        """The plan, once all is lowered."""
        floats = self._peak + self._lasting
        fitting = ARENA // (4 * floats)
        max_rows = max(FEWEST_ROWS, min(MOST_ROWS, fitting - fitting % 8))
        words = [word for name, given in self._records for word in self._record(name, given)]
        places = [self._place(buffer, max_rows) for buffer in self._buffers]
        states = [[s.heads, s.k_dim, s.v_dim, s.shared, s.window, s.fixed] for s in self.states]
        return Plan(
            max_rows=max_rows,
            arena=max_rows * floats,
            output=next(i for i, place in enumerate(places) if place[0] < 0),
            output_width=output_width,
            buffers=np.array(places, np.int32),
            states=np.array(states, np.int32).reshape(-1, 6),
            words=np.array(words, np.uint32).view(np.int32),
            matrices=tuple(self.matrices),
            vectors=tuple(self.vectors),
        )

    def _place(self, buffer: Buffer, max_rows: int) -> tuple[int, int, int]:
        if buffer.base == OUTPUT:
            return -1, buffer.width, buffer.stride
        base = buffer.base + (self._peak if buffer.lasting else 0)
        return base * max_rows + buffer.start, buffer.width, buffer.stride

    def _record(self, name: str, given: Mapping[str, Any]) -> Iterator[int]:
        """The words of a record: the number of the operation, and its fields in order."""
        op = self.vocabulary.ops[name]
        unknown = given.keys() - {key for key, _ in op.fields}
        assert not unknown, f"{name} has no {unknown}"
        yield op.code
        for key, kind in op.fields:
            yield self._word(name, key, kind, given.get(key))

    def _word(self, name: str, key: str, kind: str, value: Any) -> int:
        if kind == "number":
            (bits,) = struct.unpack("<I", struct.pack("<f", 0.0 if value is None else value))
            return int(bits)
        if kind in self.vocabulary.choices:
            return 0 if value is None else self.vocabulary.choices[kind].index(value)
        if value is None:
            assert not kind.endswith(("buffer", "matrix", "vector", "state")) or kind.startswith("maybe_"), (
                f"{name} needs {key}"
            )
            return 2**32 - 1 if kind.startswith("maybe_") else 0
        if isinstance(value, Buffer):
            return self._buffers[value]
        return int(value) & (2**32 - 1)


def _up(width: int) -> int:
    """Rounded up to whole cache lines; an odd number of them, as rows that are a power of two apart would share sets of
    the cache."""
    lines = -(-width // PANEL)
    return (lines | 1 if width >= 16 * PANEL else lines) * PANEL
