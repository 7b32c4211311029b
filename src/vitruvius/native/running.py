"""A plan that runs in the library, with its weights."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import spec
from . import library as c
from .formats import FORMATS
from .library import Library
from .packing import Packed
from .plan import Plan

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]

UNLIMITED = 2**27  # tokens of a sequence, where the architecture sets no end: the most that the library takes


class Handle:
    """Something that the library has made, and frees when nobody refers to it any more."""

    def __init__(self, library: Library, address: ctypes.c_void_p, free: str, *needs: object) -> None:
        self.address, self._needs = address, needs  # what must live as long
        weakref.finalize(self, library.get, free, address)


class Running:
    """A plan in the library, with its weights.

    Args:
        simd: the instruction set; the best, if None.
        cpus: the processor of each thread but the first; anywhere, if None.
    """

    def __init__(
        self,
        plan: Plan,
        packed: Packed,
        model: spec.Decoder,
        threads: int,
        simd: str | None = None,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self.plan, self.packed, self.library = plan, packed, packed.library
        self.threads, self.simd = threads, simd or packed.library.simd[0]
        given, arrays = _given(plan, packed, model)
        places = cpus and (ctypes.c_int32 * threads)(*cpus)
        made = self.library.make("vt_engine_new", ctypes.byref(given), simd and simd.encode(), threads, places)
        self._engine = Handle(self.library, made, "vt_engine_free", packed, arrays)

    @property
    def nbytes(self) -> int:
        """Bytes beside weights and sequences."""
        return self.library.get("vt_engine_bytes", self._engine.address)

    def sequence(self, capacity: int, slack: int, dtype: str) -> Handle:
        """An empty sequence."""
        number = c.STATE_DTYPES.index(dtype)
        made = self.library.make("vt_sequence_new", self._engine.address, capacity, slack, number)
        return Handle(self.library, made, "vt_sequence_free", self._engine)

    def fork(self, sequence: Handle) -> Handle:
        """Another sequence with the same tokens."""
        made = self.library.make("vt_sequence_fork", sequence.address)
        return Handle(self.library, made, "vt_sequence_free", self._engine)

    @property
    def windowed(self) -> bool:
        """Whether any layer forgets what lies behind a window."""
        return bool((self.plan.states[:, 4] > 0).any())

    @property
    def recurrent(self) -> bool:
        """Whether its sequences can only return to snapshots and to their beginning."""
        return bool(self.plan.states[:, -1].any())

    def step(
        self, sequences: Sequence[Handle], counts: Sequence[int], ids: Ids, wanted: NDArray[np.uint8], out: Logits
    ) -> None:
        """Adds tokens to sequences, `counts` of each, one sequence after the other in `ids`; the outputs of those that
        are wanted go to `out`, which has a row for each."""
        n = len(sequences)
        self.library.call(
            "vt_step",
            self._engine.address,
            n,
            (ctypes.c_void_p * n)(*(sequence.address.value for sequence in sequences)),
            (ctypes.c_int32 * n)(*counts),
            ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
            out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            len(out),
        )


def _given(plan: Plan, packed: Packed, model: spec.Decoder) -> tuple[c.CPlan, list[Any]]:
    """The plan as the library takes it, and the arrays that it points to."""
    buffers, states, words = (np.ascontiguousarray(a) for a in (plan.buffers, plan.states, plan.words))
    places = [packed.places[matrix] for matrix in plan.matrices]
    matrices = (c.CMatrix * len(places))(
        *(
            c.CMatrix(FORMATS.index(m.format), m.rows, m.cols, m.copies, place.address, place.bytes)
            for m, place in zip(plan.matrices, places, strict=True)
        )
    )
    values = [
        np.ascontiguousarray(vector.make(*(packed.vectors[name] for name in vector.names)), np.float32)
        for vector in plan.vectors
    ]
    assert [value.size for value in values] == [vector.size for vector in plan.vectors]
    vectors = (c.CVector * len(values))(*(c.CVector(value.ctypes.data, value.size) for value in values))
    made = c.CPlan(
        max_rows=plan.max_rows,
        vocab=model.embedding.vocab,
        context=model.positions.count if model.positions else UNLIMITED,
        arena=plan.arena,
        output=plan.output,
        buffers=len(buffers),
        matrices=len(places),
        vectors=len(values),
        states=len(states),
        words=len(words),
        buffer=buffers.ctypes.data_as(ctypes.POINTER(c.CBuffer)),
        matrix=matrices,
        vector=vectors,
        state=states.ctypes.data_as(ctypes.POINTER(c.CState)),
        word=words.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
    )
    return made, [buffers, states, words, matrices, vectors, values]
