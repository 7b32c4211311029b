"""Packing and unpacking with wrong sizes, kinds and formats, and any bits as weights."""

from __future__ import annotations

import ctypes
import random
from collections import Counter
from collections.abc import Iterator

import numpy as np

from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.native.library import Library

from . import one_line
from .memory import Memory, holding
from .plans import INTS

KINDS = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22)}
KINDS |= {"Q5_1": (32, 24), "Q8_0": (32, 34), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
KINDS |= {"MXFP4": (32, 17)}  # kind -> columns and bytes of a block
OWN = dict(zip(KINDS, (0, 1, 2, 4, 5, 6, 7, 3, 8, 9, 10, 11), strict=True))


def run(library: Library, chance: random.Random) -> Counter[str]:
    """Packs a matrix, reads it back and multiplies with it. Returns which of these were done."""
    done: Counter[str] = Counter()
    try:
        for call in _calls(library, chance):
            done[call] += 1
    except InputError as error:
        one_line(error)
    return done


def _calls(library: Library, chance: random.Random) -> Iterator[str]:
    kind = chance.choice(list(KINDS))
    columns, block = KINDS[kind]
    rows, cols = chance.choice((1, 15, 16, 17, 40)), columns * chance.randrange(1, 4 if columns > 1 else 300)
    number = OWN[kind] if columns > 1 else chance.randrange(7)  # 6 is refused
    sizes = [number, rows, cols]
    source = _source(rows * (cols // columns) * block, kind, chance)
    size = library.get("vt_packed_bytes", *sizes)
    panel = library.get("vt_packed_bytes", number, 16, cols)
    step = panel * chance.choice((1, 1, 2))
    out = Memory(-(-rows // 16) * step)
    told = {"source": source.size, "out": out.size, "step": step}
    name, addresses = kind.encode(), [source.address, out.address]
    match chance.randrange(10):
        case 0:
            sizes[chance.randrange(3)] = chance.choice(INTS)
        case 1:
            at = chance.choice(("source", "out", "step"))
            wrong = (-(2**63), -64, -1, 0, 1, told[at] // 2, told[at] - 1, told[at] - 64, panel - 1, panel - 64)
            told[at] = min(chance.choice(wrong), told[at]) if at != "step" else chance.choice((*wrong, 2**62, 2**40))
        case 2:
            name = chance.choice((b"", b"Q4", b"Q4_00", b"IQ2_XXS", b"F64", *(k.encode() for k in KINDS)))
        case 3:
            addresses[chance.randrange(2)] = 0
        case 4:
            sizes = [chance.choice(INTS) for _ in sizes]
            assert library.get("vt_packed_bytes", *sizes) >= -1
    library.call("vt_pack", *sizes, name, addresses[0], told["source"], addresses[1], told["out"], told["step"])
    yield "pack"
    if step == panel and told["out"] >= size and sizes == [number, rows, cols]:
        yield from _read(library, number, rows, cols, out, chance)


def _source(size: int, kind: str, chance: random.Random) -> Memory:
    """Rows to pack: any bits, or in a kind of floats also tame ones."""
    rng = np.random.default_rng(chance.randrange(2**32))
    skip = chance.choice((0, 0, 0, 0, 4, 2, 1))
    if kind in ("F32", "F16") and chance.random() < 0.5:
        dtype = np.float32 if kind == "F32" else np.float16
        return holding(rng.standard_normal(size // np.dtype(dtype).itemsize).astype(dtype), skip)
    return holding(rng.integers(0, 256, size, np.uint8), skip)


def _read(library: Library, number: int, rows: int, cols: int, packed: Memory, chance: random.Random) -> Iterator[str]:
    copies, copy, first = 1, 0, chance.randrange(rows)
    count = chance.randrange(rows - first + 1)
    size = packed.size
    out = Memory(max(4, 4 * count * cols))
    match chance.randrange(15):
        case 0:
            copy = chance.choice(INTS)
        case 1:
            first = chance.choice(INTS)
        case 2:
            count = chance.choice((count, -1, -(2**31)))
        case 3:
            copies = chance.choice((-1, 0, 2, 2**31 - 1))
        case 4:
            size = chance.choice((-(2**63), -1, 0, size - 1))
    matrix = native.CMatrix(number, rows, cols, copies, packed.address, size)
    library.call("vt_unpack", ctypes.byref(matrix), copy, first, count, out.address)
    yield "unpack"
    _multiply(library, matrix, chance)
    yield "matmul"


def _multiply(library: Library, matrix: native.CMatrix, chance: random.Random) -> None:
    n, threads, turns = chance.choice((1, 2, 9, 50)), chance.choice((1, 1, 2)), 1
    x = Memory(4 * n * matrix.cols)
    x.array(np.float32)[:] = np.random.default_rng(chance.randrange(2**32)).standard_normal(n * matrix.cols)
    if chance.random() < 0.2:
        x.array(np.float32)[chance.randrange(n * matrix.cols)] = chance.choice((np.nan, np.inf, -np.inf, 3e38))
    y = Memory(4 * n * matrix.rows)
    match chance.randrange(20):
        case 0:
            n = chance.choice((-1, 0))
        case 1:
            threads = chance.choice((-1, 0, 257, 2**31 - 1))
        case 2:
            turns = chance.choice((-(2**31), -1, 0))
    simd = chance.choice(library.simd).encode() if chance.random() < 0.95 else b"mmx"
    seconds = ctypes.c_double()
    library.call(
        "vt_matmul", ctypes.byref(matrix), x.address, n, y.address, simd, threads, turns, ctypes.byref(seconds)
    )
