"""A model that the native library runs: its sequences, and its logits as numpy arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import spec
from ..errors import InputError, NotLoweredError
from . import library as c
from .formats import FORMATS
from .library import Library
from .packing import Packed
from .plan import Plan
from .reading import bandwidth, bytes_per_token

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]

AT_ONCE = 512  # tokens of one call into the library: an interruption is noticed between two
SNAPSHOTS = 4  # of a recurrent state, the latest
UNLIMITED = 2**27  # tokens of a sequence, where the architecture sets no end: the most that the library takes


class _Owned:
    """Something that the library has made, and frees when nobody refers to it any more."""

    def __init__(self, library: Library, handle: ctypes.c_void_p, free: str, *needs: object) -> None:
        self.handle, self._needs = handle, needs  # what must live as long
        weakref.finalize(self, library.get, free, handle)


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
        self._engine = _Owned(self.library, made, "vt_engine_free", packed, arrays)

    @property
    def nbytes(self) -> int:
        """Bytes beside weights and sequences."""
        return self.library.get("vt_engine_bytes", self._engine.handle)

    def sequence(self, capacity: int, slack: int, dtype: str) -> _Owned:
        """An empty sequence."""
        number = c.STATE_DTYPES.index(dtype)
        made = self.library.make("vt_sequence_new", self._engine.handle, capacity, slack, number)
        return _Owned(self.library, made, "vt_sequence_free", self._engine)

    def step(self, sequences: Sequence[_Owned], rows: Sequence[Ids], wanted: Sequence[NDArray[np.uint8]]) -> Logits:
        """Adds the rows' tokens to the sequences; the outputs of those that are wanted, one after the other."""
        n = len(sequences)
        ids, asked = np.concatenate(rows), np.concatenate(wanted)
        out = np.empty((int(asked.sum()), self.plan.output_width), np.float32)
        self.library.call(
            "vt_step",
            self._engine.handle,
            n,
            (ctypes.c_void_p * n)(*(s.handle.value for s in sequences)),
            (ctypes.c_int32 * n)(*map(len, rows)),
            ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            asked.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
            out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            len(out),
        )
        return out


def _given(plan: Plan, packed: Packed, model: spec.Decoder) -> tuple[c.Plan, list[Any]]:
    """The plan as the library takes it, and the arrays that it points to."""
    buffers, states, words = (np.ascontiguousarray(a) for a in (plan.buffers, plan.states, plan.words))
    places = [packed.places[matrix] for matrix in plan.matrices]
    matrices = (c.Matrix * len(places))(
        *(
            c.Matrix(FORMATS.index(m.format), m.rows, m.cols, m.copies, place.address, place.bytes)
            for m, place in zip(plan.matrices, places, strict=True)
        )
    )
    values = [
        np.ascontiguousarray(vector.make(*(packed.vectors[name] for name in vector.names)), np.float32)
        for vector in plan.vectors
    ]
    assert [value.size for value in values] == [vector.size for vector in plan.vectors]
    vectors = (c.Vector * len(values))(*(c.Vector(value.ctypes.data, value.size) for value in values))
    made = c.Plan(
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
        buffer=buffers.ctypes.data_as(ctypes.POINTER(c.Buffer)),
        matrix=matrices,
        vector=vectors,
        state=states.ctypes.data_as(ctypes.POINTER(c.State)),
        word=words.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
    )
    return made, [buffers, states, words, matrices, vectors, values]


class State:
    """What an engine remembers of a batch of sequences.

    `capacity` is the most tokens that each may have, `recurrent` whether it can only return to snapshots and to its
    beginning.
    """

    def __init__(self, running: Running, sequences: list[_Owned], capacity: int) -> None:
        self._library, self._sequences, self.capacity = running.library, sequences, capacity
        self.recurrent = bool(running.plan.states[:, 5].any())

    def _ask(self, name: str, *arguments: int) -> list[int]:
        numbers = [self._library.get(name, sequence.handle, *arguments) for sequence in self._sequences]
        if min(numbers) < 0:
            raise InputError("the engine is in use by another thread: it does one call at a time")
        return numbers

    @property
    def sequences(self) -> list[_Owned]:
        """One for each row."""
        return self._sequences

    @property
    def lengths(self) -> list[int]:
        """Tokens remembered of each sequence."""
        return self._ask("vt_sequence_length")

    @property
    def length(self) -> int:
        """Tokens remembered, of the longest sequence."""
        return max(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(self._ask("vt_sequence_bytes"))

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that every sequence can return to."""
        while (agreed := min(self._ask("vt_sequence_reach", length))) != length:
            length = agreed
        return length

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of every sequence. Raises InputError where that cannot be returned
        to."""
        if not 0 <= length <= min(self.lengths) or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(max(0, length))}")
        for sequence in self._sequences:
            self._library.call("vt_sequence_rewind", sequence.handle, length)

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here."""
        for sequence in self._sequences:
            self._library.call("vt_sequence_snapshot", sequence.handle, SNAPSHOTS)

    def room(self, counts: Sequence[int]) -> None:
        """Raises InputError if the sequences would not fit after `counts` more tokens."""
        for length, count in zip(self.lengths, counts, strict=True):
            if length + count > self.capacity:
                raise InputError(
                    f"the state holds {self.capacity} tokens, and {length} + {count} are needed: "
                    f"ask for more with new_state(capacity={length + count})"
                )


class Parts(NamedTuple):
    """What an engine is made of.

    Args:
        spec: the model's architecture.
        running: its plan.
        ahead: the plan of its layers for multi-token prediction, where they are loaded.
        state: the dtype of keys and values: "f32", "f16" or "q8".
        eos: the token ids that end a text.
    """

    spec: spec.Decoder
    running: Running
    ahead: Running | None
    state: str
    eos: frozenset[int]


class Engine:
    """A decoder on the processor, without torch: numpy in and out."""

    def __init__(self, parts: Parts) -> None:
        self.spec, self._running, self._ahead, self.state_dtype, self.eos = parts

    def __call__(self, input_ids: Any, state: State | None = None, lengths: Sequence[int] | None = None) -> Logits:
        """Logits for the token after each.

        Args:
            input_ids: integers (B, T), the new tokens.
            state: what earlier calls have seen; it is advanced by these tokens.
            lengths: (B,), how many of each row's tokens are meant, where rows are padded on the right.

        Returns float32 (B, T, V), 0 for padding. Raises InputError for ids out of range, or more tokens than the state
        has room for.
        """
        ids = self._checked(input_ids)
        batch, tokens = ids.shape
        counts = [tokens] * batch if lengths is None else [int(n) for n in lengths]
        if len(counts) != batch or not all(1 <= n <= tokens for n in counts):
            raise InputError(f"lengths must be {batch} numbers from 1 to {tokens}, got {counts}")
        logits = np.zeros((batch, tokens, self.spec.head.vocab), np.float32)
        rows = [row[:count] for row, count in zip(ids, counts, strict=True)]
        at = [0] * batch
        state = self.new_state(batch, tokens) if state is None else state
        for part, out in self._passes(self._running, state, rows, every=True):
            start = 0
            for row, count in enumerate(part):
                logits[row, at[row] : at[row] + count] = out[start : start + count]
                at[row], start = at[row] + count, start + count
        return logits

    def feed(self, rows: Sequence[Sequence[int]], state: State) -> Logits:
        """Adds new tokens to the state of each row.

        Args:
            rows: B lists of at least one token each.

        Returns the logits after the last token of each row, (B, V).
        """
        arrays = [self._checked([row])[0] for row in rows]
        for _, out in self._passes(self._running, state, arrays, every=False):
            last = out
        return last

    def ahead(self, input_ids: Any) -> list[Logits]:
        """What the layers for multi-token prediction say: logits (B, T − 1 − k, V) of module k, whose entry t is for
        the token t + 2 + k. Raises InputError where they are not loaded."""
        if self._ahead is None:
            raise InputError(f"{self.spec.name} was loaded without layers for multi-token prediction: give mtp=True")
        ids = self._checked(input_ids)
        batch, tokens = ids.shape
        state = self._state(self._ahead, batch, tokens, 0)
        parts = [out for _, out in self._passes(self._ahead, state, list(ids), every=True)]
        whole = _by_row(parts, batch)
        vocab = self.spec.head.vocab
        return [whole[:, k + 1 :, k * vocab : (k + 1) * vocab] for k in range(len(self.spec.mtp))]

    def new_state(
        self, batch: int = 1, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None
    ) -> State:
        """An empty state for `batch` sequences of up to `capacity` tokens (the model's context, if None).

        `slack` is how many tokens windowed layers keep beyond their window, so that `rewind` can go back that far.
        There is no encoder, so its capacity says nothing.
        """
        capacity = self.spec.context if capacity is None else capacity
        if batch < 1 or capacity < 1 or slack < 0:
            raise InputError(f"a state needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        return self._state(self._running, batch, capacity, slack)

    def encode(self, prompts: Sequence[Sequence[int]], state: State) -> list[list[int]]:
        """Raises NotLoweredError: models with an encoder have no native form."""
        raise NotLoweredError(f"{self.spec.name}: encoders have no native form yet")

    @property
    def weights(self) -> dict[str, int]:
        """Format -> how many matrices are kept in it."""
        formats = [matrix.format for matrix in self._running.plan.matrices]
        return {name: formats.count(name) for name in dict.fromkeys(formats)}

    @property
    def threads(self) -> int:
        """How many threads work on a step."""
        return self._running.threads

    @property
    def simd(self) -> str:
        """The instruction set."""
        return self._running.simd

    def bytes_per_token(self, context: int) -> int:
        """Bytes of weights and state that one more token reads, which sees `context` tokens."""
        return bytes_per_token(self._running.plan, self._running.packed, context, self.state_dtype)

    def bandwidth(self) -> float:
        """Bytes per second at which as many threads can read memory that no cache holds, measured now."""
        return bandwidth(self._running.library, self.simd, self.threads)

    def _state(self, running: Running, batch: int, capacity: int, slack: int) -> State:
        sequences = [running.sequence(capacity, slack, self.state_dtype) for _ in range(batch)]
        return State(running, sequences, capacity)

    def _checked(self, input_ids: Any) -> Ids:
        """Ids (B, T) that the model has."""
        ids = np.asarray(input_ids)
        if ids.ndim != 2 or ids.shape[1] == 0 or ids.dtype.kind not in "iu":
            raise InputError(f"input_ids must be integers (B, T) with T ≥ 1, got {ids.dtype} {ids.shape}")
        vocab = self.spec.embedding.vocab
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
            raise InputError(f"token ids run from 0 to {vocab - 1}, got {int(ids.min())} to {int(ids.max())}")
        return np.ascontiguousarray(ids, np.int32)

    def _passes(self, running: Running, state: State, rows: Sequence[Ids], every: bool) -> Any:
        """Adds the rows' tokens in parts that are not too long; (tokens of each row, outputs) of each part, of every
        token or of the last of each row."""
        if len(state.sequences) != len(rows):
            raise InputError(f"the state is for {len(state.sequences)} sequences, got {len(rows)}")
        lengths = np.array([len(row) for row in rows])
        state.room(lengths.tolist())
        # every row takes part in every call, so that all end with the last one
        parts = int(min(max(1, -(-lengths.sum() // AT_ONCE)), lengths.min()))
        for i in range(parts):
            begins, ends = lengths * i // parts, lengths * (i + 1) // parts
            pieces = [row[begin:end] for row, begin, end in zip(rows, begins, ends, strict=True)]
            wanted = [np.full(len(piece), every, np.uint8) for piece in pieces]
            for marks in wanted if i == parts - 1 else ():
                marks[-1] = 1
            yield [len(piece) for piece in pieces], running.step(state.sequences, pieces, wanted)


def _by_row(parts: Sequence[Logits], batch: int) -> Logits:
    """(B, T, …), from outputs of parts that all rows share evenly."""
    return np.concatenate([part.reshape(batch, -1, part.shape[-1]) for part in parts], 1)
