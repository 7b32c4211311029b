"""Plans with mistakes: real plans of tiny models that are changed in a few places, and wholly random ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import cases
import numpy as np
from native_blocks import random_source
from numpy.typing import NDArray

from vitruvius import architecture
from vitruvius.native import formats, loading
from vitruvius.native.library import Library

from .memory import Memory, holding

Words = NDArray[np.int32]

VOCAB = 83
CONTEXT = 64
SIZES = ("max_rows", "vocab", "context", "arena", "output")
INTS = (-(2**31), -1000, -17, -2, -1, 0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 83, 255, 256, 1024)
INTS += (65535, 65536, 2**20, 2**24, 2**27 - 1, 2**27, 2**27 + 1, 2**30, 2**31 - 64, 2**31 - 1)
FEW = (0, 1, 2, 4, 8, 16)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-20, 0.5, 2.0, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True)
class Tensor:
    """Memory of a matrix or a vector, and the number of bytes that the plan says it has."""

    memory: Memory
    bytes: int


@dataclass
class Draft:
    """A plan as the library takes it. Rows of `buffers`, `matrices` and `states` are their fields; `records` are an
    op's number and its fields each."""

    sizes: dict[str, int]
    buffers: list[list[int]]
    matrices: list[list[int]]
    vectors: list[int]
    states: list[list[int]]
    records: list[list[int]]
    data: list[Tensor]  # of the matrices, then of the vectors
    cut: int = 0  # words that are missing at the end, or too many if below 0

    def copy(self) -> Draft:
        """One that can be changed."""
        rows = {
            name: [list(row) for row in getattr(self, name)] for name in ("buffers", "matrices", "states", "records")
        }
        return replace(self, sizes=dict(self.sizes), vectors=list(self.vectors), data=list(self.data), **rows)

    @property
    def words(self) -> list[int]:
        """The records one after the other."""
        words = [word for record in self.records for word in record]
        return words[: len(words) - self.cut] if self.cut > 0 else words + [0] * -self.cut


def bits(number: float) -> int:
    """A float32 as an int32."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])


def int32(number: int) -> int:
    """The number, wrapped around."""
    return (number + 2**31) % 2**32 - 2**31


@dataclass(eq=False)
class Drafts:
    """Makes plans for a library."""

    library: Library
    names: list[str] = field(default_factory=list)  # of the ops, in the order of their numbers

    def __post_init__(self) -> None:
        self.names = list(self.library.ops)

    # ---------------------------------------------------------------- what is right

    @cache  # noqa: B019, one for each process
    def real(self, case: str, seed: int) -> list[Draft]:
        """The plans of a tiny model, its weights in random formats, with random numbers in them."""
        chance = random.Random(f"{case} {seed}")
        some = [chance.choice(formats.FORMATS) for _ in range(2)]
        return self.lowered(case, lambda name, role: some[len(name) % 2], lambda m: self.weights(m, chance, 0.2))

    def lowered(
        self, case: str, format_of: Callable[[str, str], formats.Format], weights: Callable[[list[int]], Tensor]
    ) -> list[Draft]:
        """The plans of a tiny model, with what `weights` makes of its matrices."""
        chance, made = random.Random(case), []
        for plan in loading.lowered(architecture(cases.PLAIN[case]), self.library, format_of):
            matrices = [[formats.FORMATS.index(m.format), m.rows, m.cols, m.copies] for m in plan.matrices]
            vectors = [vector.size for vector in plan.vectors]
            sizes = (plan.max_rows, VOCAB, CONTEXT, plan.arena, plan.output)
            made.append(
                Draft(
                    dict(zip(SIZES, sizes, strict=True)),
                    plan.buffers.tolist(),
                    matrices,
                    vectors,
                    plan.states.tolist(),
                    self._records(plan.words.tolist()),
                    [weights(matrix) for matrix in matrices] + [numbers(size, chance) for size in vectors],
                )
            )
        return made

    def _records(self, words: list[int]) -> list[list[int]]:
        records, at = [], 0
        while at < len(words):
            count = 1 + len(self.library.ops[self.names[words[at]]].fields)
            records.append(words[at : at + count])
            at += count
        return records

    def weights(self, matrix: list[int], chance: random.Random, any_bits: float) -> Tensor:
        """Memory of a packed matrix: about normal numbers that keep the size of what they multiply, or now and then any
        bits."""
        number, rows, cols, copies = matrix
        size = self.library.get("vt_packed_bytes", number, rows, cols)
        rng = np.random.default_rng(chance.randrange(2**32))
        if chance.random() < any_bits:
            return Tensor(made := holding(rng.integers(0, 256, size * copies, np.uint8)), made.size)
        memory = Memory(size * copies)
        panel = self.library.get("vt_packed_bytes", number, 16, cols)
        kind, source, whole = random_source(formats.FORMATS[number], rows, cols, rng, cols**-0.5)
        for copy in range(copies):
            place = (memory.address + copy * size, size, panel)
            self.library.call("vt_pack", number, rows, whole, kind.encode(), source.ctypes.data, source.nbytes, *place)
        return Tensor(memory, memory.size)

    # ---------------------------------------------------------------- what is random

    def made_up(self, chance: random.Random, fits: Callable[[Draft], bool]) -> Draft:
        """Random ops over buffers of a few widths, as many as the library takes."""
        width = chance.choice((8, 16, 24, 32))
        widths = [width] * 6 + [2 * width, chance.choice((1, 2, 4)), 40, 4 * width + 2]
        rows = chance.choice((1, 2, 5, 8))
        buffers, arena = [], 0
        for one in widths:
            stride = one if chance.random() < 0.7 else one + chance.randrange(9)
            buffers.append([arena, one, stride])
            arena += rows * stride
        buffers.append([-1, width, width])
        shapes = [(VOCAB, width, 1), (width, width, chance.choice((1, 3))), (64, width, 3), (2 * width, width, 1)]
        matrices = [[chance.randrange(len(formats.FORMATS)), *shape] for shape in shapes]
        vectors = [width, width, 2, 4, 2 * width, 32, chance.choice((1, 6, 64))]
        heads = chance.choice([n for n in (1, 2, 4) if width % n == 0])
        dim = width // heads
        states = [[heads, dim, dim, 0, 0, 0], [heads, dim, dim, 0, chance.choice((1, 5, 16)), 0]]
        states += [[1, width, 0, chance.randrange(1, width + 1), 0, 0], [0, 0, 0, 0, 0, width * chance.choice((1, 3))]]
        states += [[0, 0, 0, 0, 0, heads * dim * -(-dim // 16) * 16]]
        sizes = dict(zip(SIZES, (rows, VOCAB, CONTEXT, arena, len(buffers) - 1), strict=True))
        data = [self.weights(m, chance, 0.2) for m in matrices] + [numbers(size, chance) for size in vectors]
        draft = Draft(sizes, buffers, matrices, vectors, states, [], data)
        first = self.named("embed", y=0, table=0, scale=bits(1.0))
        last = self.named("select", x=chance.randrange(6), y=len(buffers) - 1)
        draft.records = [first, last]
        for _ in range(chance.randrange(1, 6)):
            code = chance.randrange(len(self.names))
            for _ in range(60):  # until one fits
                record = self.record(code, draft, chance, (0, 1, 1, 2, heads, dim, width))
                longer = replace(draft, records=[*draft.records[:-1], record, last])
                if fits(longer):
                    draft = longer
                    break
        return draft

    def named(self, op: str, **fields: int) -> list[int]:
        """A record, fields that are not given being 0."""
        return [self.names.index(op), *(fields.get(name, 0) for name, _ in self.library.ops[op].fields)]

    def record(self, code: int, draft: Draft, chance: random.Random, counts: tuple[int, ...]) -> list[int]:
        """An op, its fields within their ranges."""
        kinds = [kind for _, kind in self.library.ops[self.names[code]].fields]
        return [code, *(self.word(kind, draft, chance, counts) for kind in kinds)]

    def word(self, kind: str, draft: Draft, chance: random.Random, counts: tuple[int, ...]) -> int:
        """A field of that kind."""
        lists = {"buffer": draft.buffers, "matrix": draft.matrices, "vector": draft.vectors, "state": draft.states}
        if kind in self.library.choices:
            return chance.randrange(len(self.library.choices[kind]))
        if kind.startswith("maybe_") and chance.random() < 0.6:
            return -1
        if items := lists.get(kind.rpartition("_")[2]):
            return chance.randrange(len(items))
        match kind:
            case "flag":
                return chance.randrange(2)
            case "number":
                return bits(chance.choice((0.0, 0.0, 1.0, 1.0, -1.0, 0.5, 1e-5, *FLOATS[:-1])))
            case _:
                return chance.choice(counts)

    # ---------------------------------------------------------------- what is wrong

    def mutated(self, draft: Draft, chance: random.Random) -> Draft:
        """The plan with one to four mistakes."""
        draft = draft.copy()
        draft.sizes["max_rows"] = chance.choice((1, 2, 5, 8, draft.sizes["max_rows"]))
        ways: dict[Callable[[Draft, random.Random], None], float] = {
            self._field: 10,
            self._ops: 3,
            _buffer: 4,
            _matrix: 2,
            _vector: 1,
            _state: 2,
            _size: 1,
            _cut: 0.3,
        }
        for way in chance.choices(list(ways), list(ways.values()), k=chance.choice((1, 1, 2, 4))):
            way(draft, chance)
        return draft

    def _field(self, draft: Draft, chance: random.Random) -> None:
        record = chance.choice(draft.records or [[0]])
        at = chance.randrange(len(record))
        kinds = [kind for _, kind in self.library.ops[self.names[record[0] % len(self.names)]].fields]
        kind = kinds[at - 1] if 0 < at <= len(kinds) else ""
        if chance.random() < 0.4 and kind:
            record[at] = self.word(kind, draft, chance, FEW)
        elif kind == "number":
            record[at] = bits(chance.choice(FLOATS))
        else:
            record[at] = wrong(record[at], chance)

    def _ops(self, draft: Draft, chance: random.Random) -> None:
        at = chance.randrange(len(draft.records) + 1)
        match chance.randrange(4):
            case 0:
                draft.records.insert(at, self.record(chance.randrange(len(self.names)), draft, chance, FEW))
            case 1 if draft.records:
                draft.records.insert(at, list(chance.choice(draft.records)))
            case 2:
                del draft.records[at : at + chance.choice((1, 1, 5))]
            case _:
                chance.shuffle(draft.records)


def numbers(size: int, chance: random.Random) -> Tensor:
    """Memory of a vector of about normal numbers."""
    rng = np.random.default_rng(chance.randrange(2**32))
    return Tensor(memory := holding(rng.standard_normal(size).astype(np.float32)), memory.size)


def wrong(value: int, chance: random.Random) -> int:
    """Another number, likely one at an edge."""
    match chance.randrange(5):
        case 0:
            return int32(value + chance.choice((-16, -1, 1, 16)))
        case 1:
            return int32(value * chance.choice((2, 3, -1)))
        case 2:
            return chance.randrange(0, 90)
        case 3:
            return chance.randrange(-(2**31), 2**31)
        case _:
            return chance.choice(INTS)


def _one_of(rows: list[list[int]], chance: random.Random) -> None:
    if rows:
        row = chance.choice(rows)
        at = chance.randrange(len(row))
        row[at] = wrong(row[at], chance)


def _buffer(draft: Draft, chance: random.Random) -> None:
    if chance.random() < 0.5:
        return _one_of(draft.buffers, chance)
    one, other = chance.choice(draft.buffers), chance.choice(draft.buffers)
    at = chance.randrange(3)
    one[at] = other[at]  # they share memory, or a width
    return None


def _state(draft: Draft, chance: random.Random) -> None:
    _one_of(draft.states, chance)


def _matrix(draft: Draft, chance: random.Random) -> None:
    """A lie about its size; or less memory, or memory at a bad place, of which the plan speaks truly."""
    if not draft.matrices:
        return
    at = chance.randrange(len(draft.matrices))
    tensor = draft.data[at]
    match chance.randrange(6):
        case 0:
            half = Memory(tensor.bytes // 2)
            draft.data[at] = Tensor(half, half.size)
        case 1:
            draft.data[at] = Tensor(holding(tensor.memory.array(), skip=chance.choice((1, 4, 32))), tensor.bytes)
        case 2:
            draft.data[at] = replace(tensor, bytes=chance.choice((-(2**63), -1, 0, 1, tensor.bytes - 1)))
        case _:
            row = draft.matrices[at]
            place = chance.randrange(4)
            row[place] = wrong(row[place], chance)


def _vector(draft: Draft, chance: random.Random) -> None:
    if not draft.vectors:
        return
    at = chance.randrange(len(draft.vectors))
    size = chance.choice((-(2**40), -1, 0, 1, 2, draft.vectors[at] // 2, draft.vectors[at] - 1))
    draft.vectors[at] = min(size, draft.vectors[at])
    if size > 0:
        memory = Memory(4 * size)
        memory.array(np.float32)[:] = 0.5
        draft.data[len(draft.matrices) + at] = Tensor(memory, memory.size)


def _size(draft: Draft, chance: random.Random) -> None:
    name = chance.choice(SIZES)
    draft.sizes[name] = wrong(draft.sizes[name], chance)


def _cut(draft: Draft, chance: random.Random) -> None:
    draft.cut = chance.choice((1, 2, 7, -1, -3)) if chance.random() < 0.5 else chance.randrange(200)
