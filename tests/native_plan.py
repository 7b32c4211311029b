"""Small plans for the tests of the native engine: rows of numbers in, some ops, rows of numbers out."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitruvius.native import library as native

Floats = NDArray[np.float32]
SIMD = native.library().simd if native.library() else ("none",)  # type: ignore[union-attr]


def random(*shape: int, rng: np.random.Generator | None = None) -> Floats:
    return (rng or np.random.default_rng(sum(shape))).standard_normal(shape).astype(np.float32)


def the_library() -> native.Library:
    """The shared library; the test is skipped where it has not been built."""
    found = native.library()
    if found is None:
        pytest.skip("the native library is not built: python -m vitruvius.native.build")
    return found


def packed(matrix: Floats) -> Floats:
    """A float matrix (rows, cols) in panels of 16 interleaved rows."""
    rows, cols = matrix.shape
    whole = np.zeros((-(-rows // 16) * 16, cols), np.float32)
    whole[:rows] = matrix
    return np.ascontiguousarray(whole.reshape(-1, 16, cols).swapaxes(1, 2))


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers at a multiple of 64 bytes."""
    raw = np.empty(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    out[...] = values
    return out


class PlanOfTest:
    """A plan that looks up the rows of `inputs` (tokens, width) by their ids, as buffer `x`, then runs ops."""

    def __init__(self, inputs: Floats, max_rows: int = 8, context: int = 4096) -> None:
        self.max_rows, self.context, self.vocab = max_rows, context, len(inputs)
        self.library = the_library()
        self._arena = 0
        self.buffers: list[tuple[int, int, int]] = []
        self.matrices: list[tuple[int, int, int, int, NDArray[Any]]] = []
        self.vectors: list[Floats] = []
        self.states: list[tuple[int, ...]] = []
        self.words: list[int] = []
        self.output = -1
        self.x = self.buffer(inputs.shape[1])
        self.op("embed", y=self.x, table=self.matrix(inputs), skip=0.0, scale=1.0, known=0)

    def buffer(self, width: int) -> int:
        """A new buffer."""
        stride = -(-width // 16) * 16
        self.buffers.append((self._arena, width, stride))
        self._arena += stride * self.max_rows
        return len(self.buffers) - 1

    def columns(self, buffer: int, start: int, width: int) -> int:
        """Some columns of a buffer."""
        offset, whole, stride = self.buffers[buffer]
        assert start + width <= whole
        self.buffers.append((offset + start, width, stride))
        return len(self.buffers) - 1

    def cut(self, *widths: int) -> list[int]:
        """The columns of the input side by side."""
        starts = np.cumsum((0, *widths))
        return [self.columns(self.x, int(start), width) for start, width in zip(starts, widths, strict=False)]

    def matrix(self, values: Floats) -> int:
        """A float matrix (rows, cols), or copies of such (copies, rows, cols)."""
        copies = values[None] if values.ndim == 2 else values
        data = aligned(np.stack([packed(copy) for copy in copies]))
        self.matrices.append((0, copies.shape[1], copies.shape[2], len(copies), data))
        return len(self.matrices) - 1

    def vector(self, values: Any) -> int:
        """A vector; −1 for None."""
        if values is None:
            return -1
        self.vectors.append(np.ascontiguousarray(values, np.float32).ravel())
        return len(self.vectors) - 1

    def state(
        self, heads: int = 0, k_dim: int = 0, v_dim: int = 0, shared: int = 0, window: int = 0, fixed: int = 0
    ) -> int:
        """A state of each sequence."""
        self.states.append((heads, k_dim, v_dim, shared, window, fixed))
        return len(self.states) - 1

    def op(self, name: str, **fields: Any) -> None:
        """An op with its fields by name; choices by theirs. What is left out is absent, or 0."""
        op = self.library.ops[name]
        self.words.append(op.code)
        for field, kind in op.fields:
            value = fields.pop(field, -1 if kind.startswith("maybe") else 0)
            if kind in self.library.choices:
                value = self.library.choices[kind].index(value) if isinstance(value, str) else value
            self.words.append(struct.unpack("i", struct.pack("f", value))[0] if kind == "number" else int(value))
        assert not fields, f"{name} has no {list(fields)}"

    def out(self, buffer: int) -> None:
        """Ends the plan: what is wanted of this buffer is the result."""
        width = self.buffers[buffer][1]
        self.buffers.append((-1, width, width))
        self.output = len(self.buffers) - 1
        self.op("select", x=buffer, y=self.output)

    def engine(self, simd: str, threads: int = 1) -> Engine:
        """The engine."""
        return Engine(self, simd, threads)


def _array(kind: Any, items: Sequence[Any]) -> Any:
    return (kind * max(1, len(items)))(*items)


class Engine:
    """An engine over a plan of a test, and its sequences."""

    def __init__(self, plan: PlanOfTest, simd: str, threads: int) -> None:
        self.plan, self.library = plan, plan.library
        matrices = [native.CMatrix(*sizes, data.ctypes.data, data.nbytes) for *sizes, data in plan.matrices]
        self._arrays = (
            _array(native.CBuffer, [native.CBuffer(*b) for b in plan.buffers]),
            _array(native.CMatrix, matrices),
            _array(native.CVector, [native.CVector(v.ctypes.data, v.size) for v in plan.vectors]),
            _array(native.CState, [native.CState(*s) for s in plan.states]),
            _array(ctypes.c_int32, plan.words),
        )
        counts = [len(x) for x in (plan.buffers, plan.matrices, plan.vectors, plan.states, plan.words)]
        sizes = (plan.max_rows, plan.vocab, plan.context, max(1, plan._arena), plan.output)
        self.c = native.CPlan(*sizes, *counts, *(ctypes.cast(a, ctypes.POINTER(a._type_)) for a in self._arrays))
        self.handle = self.library.make("vt_engine_new", ctypes.byref(self.c), simd.encode(), threads, None)
        self.sequences: list[ctypes.c_void_p] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for sequence in self.sequences:
            self.library.get("vt_sequence_free", sequence)
        self.library.get("vt_engine_free", self.handle)

    def sequence(self, capacity: int = 256, slack: int = 0, dtype: str = "f32") -> ctypes.c_void_p:
        """A new sequence."""
        code = native.STATE_DTYPES.index(dtype)
        self.sequences.append(self.library.make("vt_sequence_new", self.handle, capacity, slack, code))
        return self.sequences[-1]

    def step(self, *parts: tuple[ctypes.c_void_p, Sequence[int]], wanted: Sequence[int] | None = None) -> Floats:
        """Appends ids to sequences; the results of those rows that are wanted, one after the other."""
        ids = np.concatenate([np.asarray(ids, np.int32) for _, ids in parts])
        flags = np.ones(len(ids), np.uint8) if wanted is None else np.asarray(wanted, np.uint8)
        out = np.full((int(flags.sum()), self.plan.buffers[self.plan.output][1]), np.nan, np.float32)
        self.library.call(
            "vt_step",
            self.handle,
            len(parts),
            (ctypes.c_void_p * len(parts))(*(sequence for sequence, _ in parts)),
            (ctypes.c_int32 * len(parts))(*(len(ids) for _, ids in parts)),
            ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            flags.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
            out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            len(out),
        )
        return out

    def run(self, ids: Sequence[int]) -> Floats:
        """The results of a new sequence."""
        return self.step((self.sequence(), ids))
