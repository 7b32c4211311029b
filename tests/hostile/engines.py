"""Engines of plans that may be wrong, and calls to them that may be too: refused with a text, or done."""

from __future__ import annotations

import ctypes
import random
from collections import Counter
from typing import Any

import cases
import numpy as np

from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.native.library import Library

from . import one_line
from .memory import Memory, holding
from .plans import CONTEXT, INTS, SIZES, VOCAB, Draft, Drafts

WIDEST = 1 << 16  # floats of a row of output: beyond it only the making of the engine is tried
ROWS = 24  # of a step


class Engine:
    """An engine, and the arrays that it was made of.

    Raises InputError where the library refuses the plan.
    """

    def __init__(self, library: Library, draft: Draft, simd: str, threads: int) -> None:
        self.library = library
        self.width = (
            draft.buffers[draft.sizes["output"]][1] if draft.sizes["output"] in range(len(draft.buffers)) else 0
        )
        places = [(tensor.memory.address, tensor.bytes) for tensor in draft.data]
        matrices = [(*m, *place) for m, place in zip(draft.matrices, places, strict=False)]
        vectors = [(address, size) for size, (address, _) in zip(draft.vectors, places[len(matrices) :], strict=True)]
        kinds = (native.CBuffer, native.CMatrix, native.CVector, native.CState)
        lists = (draft.buffers, matrices, vectors, draft.states)
        words = draft.words
        self._arrays: list[Any] = [
            (kind * max(1, len(rows)))(*(kind(*row) for row in rows)) for kind, rows in zip(kinds, lists, strict=True)
        ]
        self._words = holding(np.array(words or [0], np.int32))
        self._data = draft.data  # must live as long
        pointers = [ctypes.cast(a, ctypes.POINTER(a._type_)) for a in self._arrays]
        word = ctypes.cast(self._words.address, ctypes.POINTER(ctypes.c_int32))
        sizes = [draft.sizes[name] for name in SIZES]
        plan = native.CPlan(*sizes, *map(len, lists), len(words), *pointers, word)
        self.handle = library.make("vt_engine_new", ctypes.byref(plan), simd.encode(), threads, None)
        self.sequences: list[ctypes.c_void_p] = []

    def free(self, sequences_first: bool) -> None:
        """Frees all in either order; the header asks for the first."""
        handles = [("vt_sequence_free", sequence) for sequence in self.sequences]
        whole = [*handles, ("vt_engine_free", self.handle)]
        for name, handle in whole if sequences_first else reversed(whole):
            self.library.get(name, handle)


def draft_of(drafts: Drafts, kind: str, chance: random.Random) -> Draft:
    """A plan of random ops, or a real one with mistakes."""
    if kind == "random":
        draft = drafts.made_up(chance, lambda draft: fits(drafts.library, draft))
        return drafts.mutated(draft, chance) if chance.random() < 0.3 else draft
    case = chance.choice(list(cases.PLAIN))
    return drafts.mutated(chance.choice(drafts.real(case, chance.randrange(3))), chance)


def fits(library: Library, draft: Draft) -> bool:
    """Whether the library takes the plan."""
    try:
        Engine(library, draft, "naive", 1).free(True)
    except InputError:
        return False
    return True


def accepted(library: Library, draft: Draft, chance: random.Random) -> Counter[str]:
    """Makes an engine and has it do a few things. Returns which calls were done, and the names of the ops of its steps;
    nothing where the plan is refused."""
    simd, threads = chance.choice(library.simd), chance.choice((1, 1, 1, 2, 3))
    try:
        engine = Engine(library, draft, simd, threads)
    except InputError as error:
        one_line(error)
        return Counter()
    other = Engine(library, draft, simd, 1) if chance.random() < 0.05 else None
    done = Counter(("engine",))
    try:
        if engine.width <= WIDEST:
            done += use(library, engine, other, chance)
    finally:
        engine.free(chance.random() < 0.8)
        if other:
            other.free(True)
    if done["step"]:
        done.update(f"op {list(library.ops)[record[0]]}" for record in draft.records)
    return done


def use(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> Counter[str]:
    """Some calls, of which each may be refused; those that were done."""
    for owner in (engine, engine, other or engine):
        tried(_new_sequence, library, owner, chance)
    calls = chance.choices(list(CALLS), (6, 1, 1, 1, 2), k=chance.randrange(1, 9))
    return Counter(name for name in calls if tried(CALLS[name], library, engine, other, chance))


def tried(call: Any, *arguments: Any) -> bool:
    """Calls it, and tells whether it was done; that it is refused is right too."""
    try:
        call(*arguments)
    except InputError as error:
        one_line(error)
        return False
    return True


def _new_sequence(library: Library, engine: Engine, chance: random.Random) -> None:
    capacity = chance.choice((1, 5, 17, CONTEXT, CONTEXT))
    slack, dtype = chance.randrange(capacity + 1), chance.randrange(3)
    if chance.random() < 0.1:
        capacity, slack, dtype = (chance.choice((capacity, *INTS)) for _ in range(3))
    engine.sequences.append(library.make("vt_sequence_new", engine.handle, capacity, slack, dtype))


def _step(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> None:
    """One to six sequences and their tokens; now and then a sequence twice, of another engine, or none, wrong
    counts and ids, or a result without room. What arrays hold is always as much as is said."""
    own = engine.sequences or [ctypes.c_void_p()]
    sequences = chance.sample(own, chance.randrange(1, min(6, len(own)) + 1))
    counts = [chance.randrange(1, ROWS // 3 + 1) for _ in sequences]
    rows = sum(counts)
    ids = np.array([chance.randrange(VOCAB) for _ in range(rows)], np.int32)
    wanted = np.array([chance.randrange(2) for _ in range(rows)], np.uint8)
    room = int(wanted.sum())
    out = Memory(max(4, 4 * room * engine.width))
    match chance.randrange(24):
        case 0:
            sequences[-1] = chance.choice(own)
        case 1:
            sequences[-1] = chance.choice([*(other.sequences if other else ()), ctypes.c_void_p()])
        case 2:
            counts[-1] = chance.choice((-(2**31), -1, 0))
        case 3:
            ids[-1] = chance.choice((-1, VOCAB, 2**31 - 1, -(2**31)))
        case 4:
            wanted[-1] = chance.choice((2, 255))
        case 5:
            room = chance.choice((-(2**63), -1, 0, room - 1))
    given = (holding(np.array(counts, np.int32)), holding(ids), holding(wanted))
    library.call(
        "vt_step",
        engine.handle,
        len(sequences),
        (ctypes.c_void_p * len(sequences))(*(s.value for s in sequences)),
        *(ctypes.cast(m.address, ctypes.POINTER(t)) for m, t in zip(given, _STEP_TYPES, strict=True)),
        ctypes.cast(out.address, ctypes.POINTER(ctypes.c_float)),
        room,
    )


_STEP_TYPES = (ctypes.c_int32, ctypes.c_int32, ctypes.c_uint8)


def _sequence_of(engine: Engine, chance: random.Random) -> ctypes.c_void_p:
    if not engine.sequences:
        raise InputError("no sequence was made")
    return chance.choice(engine.sequences)


def _rewind(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> None:
    sequence = _sequence_of(engine, chance)
    length = chance.choice((chance.randrange(0, 40), *INTS, -(2**63), 2**63 - 1))
    reached = library.get("vt_sequence_reach", sequence, length)
    assert 0 <= reached <= library.get("vt_sequence_length", sequence)
    assert library.get("vt_sequence_bytes", sequence) >= 0
    library.call("vt_sequence_rewind", sequence, chance.choice((length, reached, reached)))


def _snapshot(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> None:
    library.call("vt_sequence_snapshot", _sequence_of(engine, chance), chance.choice((1, 2, 4, *INTS)))


def _free_sequence(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> None:
    sequence = _sequence_of(engine, chance)
    engine.sequences.remove(sequence)
    library.get("vt_sequence_free", sequence)
    tried(_new_sequence, library, engine, chance)


def _fork(library: Library, engine: Engine, other: Engine | None, chance: random.Random) -> None:
    """Of a sequence, or of none."""
    sequence = _sequence_of(engine, chance) if chance.random() < 0.95 else ctypes.c_void_p()
    engine.sequences.append(library.make("vt_sequence_fork", sequence))


CALLS = {"step": _step, "rewind": _rewind, "snapshot": _snapshot, "free": _free_sequence, "fork": _fork}
