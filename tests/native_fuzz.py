"""Plans with random mistakes: the native library must refuse or run them, and never touch memory that is not its own.

Run it with a library that was built with the sanitizers, whose runtime must be loaded before Python:

    python -c "import pathlib, vitruvius.native.build as b; b.build(pathlib.Path('/tmp/fuzz/lib.so'), sanitize=True)"
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
        python tests/native_fuzz.py /tmp/fuzz/lib.so 100000

An input that crashes is known by its number: give that as a third argument to run it alone.
"""

from __future__ import annotations

import ctypes
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases
import numpy as np
from native_plan import aligned
from numpy.typing import NDArray

from vitruvius import architecture
from vitruvius.errors import InputError
from vitruvius.native import formats, loading
from vitruvius.native import library as native

VOCABULARY = 83


@dataclass
class Seed:
    """A right plan: its arrays, and for each matrix and vector memory of its size, full of random bytes."""

    sizes: list[int]  # max_rows, vocab, context, arena, output
    buffers: NDArray[np.int32]
    matrices: NDArray[np.int32]  # format, rows, cols, copies
    vectors: NDArray[np.int32]  # sizes
    states: NDArray[np.int32]
    words: NDArray[np.int32]
    memory: list[NDArray[np.uint8]]


def seeds(library: native.Library, chance: random.Random) -> list[Seed]:
    """The plans of all tiny models, each weight in a random format."""
    found = []
    noise = np.random.default_rng(0)
    for config in cases.PLAIN.values():
        some = chance.choice(formats.FORMATS), chance.choice(formats.FORMATS)
        for plan in loading.lowered(architecture(config), library, lambda name, role, some=some: some[len(name) % 2]):
            matrices = np.array([(formats.FORMATS.index(m.format), m.rows, m.cols, m.copies) for m in plan.matrices])
            memory = [
                aligned(noise.integers(0, 256, library.get("vt_packed_bytes", *m[:3]) * m[3], np.uint8))
                for m in matrices.tolist()
            ]
            memory += [aligned(noise.standard_normal(v.size).astype(np.float32)).view(np.uint8) for v in plan.vectors]
            found.append(
                Seed(
                    [plan.max_rows, VOCABULARY, 64, plan.arena, plan.output],
                    plan.buffers,
                    matrices.astype(np.int32),
                    np.array([v.size for v in plan.vectors], np.int32),
                    plan.states,
                    plan.words,
                    memory,
                )
            )
    return found


def wrong(value: int, like: NDArray[np.int32], chance: random.Random) -> int:
    """Another number than this one."""
    match chance.randrange(6):
        case 0:
            return value + chance.choice((-16, -1, 1, 16))
        case 1:
            return int(like[chance.randrange(len(like))])
        case 2:
            return chance.randrange(-2, 70)
        case 3:
            return value * chance.choice((2, -1, 0))
        case 4:
            return int(np.float32(chance.choice((0.0, 1e30, -1.0, np.nan, np.inf))).view(np.int32))
        case _:
            return chance.randrange(-(2**31), 2**31)


def mutated(seed: Seed, chance: random.Random) -> Seed:
    """The plan with one to three mistakes."""
    sizes = np.array(seed.sizes, np.int64)
    arrays = [sizes, *(a.copy() for a in (seed.buffers, seed.matrices, seed.vectors, seed.states, seed.words))]
    weights = [0.3, 3, 1, 1, 1, 8]
    for _ in range(chance.choice((1, 1, 2, 3))):
        flat = chance.choices(arrays, [w * bool(a.size) for w, a in zip(weights, arrays, strict=True)])[0].reshape(-1)
        at = chance.randrange(len(flat))
        flat[at] = np.int64(wrong(int(flat[at]), flat, chance)).astype(np.int32)
    return Seed([int(n) for n in sizes], *arrays[1:], seed.memory)


def run(library: native.Library, seed: Seed, chance: random.Random) -> bool:
    """Makes an engine of the plan and some steps, if it is accepted."""
    addresses = [memory.ctypes.data for memory in seed.memory]
    matrices = [
        native.Matrix(*sizes, address, memory.nbytes)
        for sizes, address, memory in zip(seed.matrices.tolist(), addresses, seed.memory, strict=False)
    ]
    places = list(zip(addresses, seed.memory, strict=True))[len(matrices) :]
    vectors = [  # what has no memory of that size would be a lie of the caller, which nobody can find out
        native.Vector(address, min(size, memory.nbytes // 4))
        for size, (address, memory) in zip(seed.vectors.tolist(), places, strict=True)
    ]
    arrays: list[tuple[Any, Any]] = [
        (native.Buffer, np.ascontiguousarray(seed.buffers)),
        (native.Matrix, (native.Matrix * max(1, len(matrices)))(*matrices)),
        (native.Vector, (native.Vector * max(1, len(vectors)))(*vectors)),
        (native.State, np.ascontiguousarray(seed.states)),
        (ctypes.c_int32, np.ascontiguousarray(seed.words)),
    ]
    pointers = [
        a.ctypes.data_as(ctypes.POINTER(t)) if isinstance(a, np.ndarray) else ctypes.cast(a, ctypes.POINTER(t))
        for t, a in arrays
    ]
    counts = [len(a) for a in (seed.buffers, matrices, vectors, seed.states, seed.words)]
    plan = native.Plan(*seed.sizes, *counts, *pointers)
    simd, threads = chance.choice(library.simd), chance.choice((1, 1, 1, 2))
    try:
        engine = library.make("vt_engine_new", ctypes.byref(plan), simd.encode(), threads, None)
    except InputError:
        return False
    try:
        width = int(seed.buffers[seed.sizes[4], 1])
        if width < 10**6:
            steps(library, engine, width, chance)
    finally:
        library.get("vt_engine_free", engine)
    return True


def steps(library: native.Library, engine: ctypes.c_void_p, width: int, chance: random.Random) -> None:
    """A few steps of two sequences, which may be refused."""
    sequences: list[ctypes.c_void_p] = []
    try:
        for _ in range(2):
            arguments = (chance.randrange(1, 65), chance.randrange(0, 9), chance.randrange(3))
            sequences.append(library.make("vt_sequence_new", engine, *arguments))
        for _ in range(3):
            counts = [chance.randrange(1, 12) for _ in sequences]
            ids = np.array([chance.randrange(VOCABULARY) for _ in range(sum(counts))], np.int32)
            wanted = np.array([chance.randrange(2) for _ in ids], np.uint8)
            out = np.empty((max(1, int(wanted.sum())), width), np.float32)
            library.call(
                "vt_step",
                engine,
                len(sequences),
                (ctypes.c_void_p * len(sequences))(*(s.value for s in sequences)),
                (ctypes.c_int32 * len(sequences))(*counts),
                ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
                wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
                out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
                len(out),
            )
            library.call("vt_sequence_snapshot", sequences[0], 2)
            library.call("vt_sequence_rewind", sequences[1], library.get("vt_sequence_reach", sequences[1], 5))
    except InputError:
        pass
    finally:
        for sequence in sequences:
            library.get("vt_sequence_free", sequence)


def fuzz(library: native.Library, first: int, last: int, report: bool = False) -> int:
    """Runs the inputs first … last − 1; returns how many plans were accepted."""
    right, accepted = seeds(library, random.Random(0)), 0
    for number in range(first, last):
        chance = random.Random(number)
        if report and number % 100 == 0:
            print(number, accepted, flush=True)
        accepted += run(library, mutated(chance.choice(right), chance), chance)
    return accepted


if __name__ == "__main__":
    its_library = native.Library(Path(sys.argv[1]))
    begin = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    print(fuzz(its_library, begin, begin + 1 if begin else int(sys.argv[2]), report=True), "plans were accepted")
