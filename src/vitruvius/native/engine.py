"""A decoder that the native library runs: numpy in and out."""

from __future__ import annotations

from collections import abc
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .. import spec
from ..errors import InputError, NotLoweredError
from .reading import PAGE, bandwidth, bytes_per_token, sequence_bytes
from .running import Ids, Logits, Running
from .sequence import Batch, Sequence

AT_ONCE = 512  # tokens of one call into the library: an interruption is noticed between two

Wanted = Literal["last", "all", "none"]  # the tokens of a step whose logits are wanted
WANTED: tuple[Wanted, ...] = get_args(Wanted)
New = tuple[Sequence, abc.Sequence[int], Wanted]  # a sequence with new tokens


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

    def __call__(self, input_ids: Any, state: Batch | None = None, lengths: abc.Sequence[int] | None = None) -> Logits:
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
        state = self.new_state(batch, tokens) if state is None else state
        rows = [row[:count] for row, count in zip(ids, counts, strict=True)]
        out = self._add(self._running, _rows_of(state, rows), ["all"] * batch)
        if lengths is None:
            return out.reshape(batch, tokens, -1)
        logits = np.zeros((batch, tokens, out.shape[1]), np.float32)
        logits[np.arange(tokens) < np.array(counts)[:, None]] = out
        return logits

    def step(self, parts: abc.Sequence[New]) -> list[Logits | None]:
        """Adds new tokens to sequences. Each may have any length and get any number of tokens, and none is padded.

        Args:
            parts: (sequence, its new token ids, whose logits are wanted) of each: of the "last" of them, of "all", or
                of "none".

        Returns for each the logits for the token after those, float32 (1, V) or (T, V), or None. Raises InputError,
        before anything is changed, for ids out of range, for more tokens than a sequence has room for, and for a
        sequence that is another engine's, is given twice, or must be rewound as it was interrupted.

        Tokens are added in passes of at most 512. A KeyboardInterrupt between two of them leaves every sequence after
        those of its tokens that were done: its length says which.
        """
        if not parts:
            return []
        sequences, tokens, wanted = zip(*parts, strict=True)
        for choice in wanted:
            if choice not in WANTED:
                raise InputError(f"logits are wanted of {', '.join(WANTED)}, not of {choice!r}")
        rows = [self._checked([row])[0] for row in tokens]
        out = self._add(self._running, list(zip(sequences, rows, strict=True)), wanted)
        counts = [_count(len(row), choice) for row, choice in zip(rows, wanted, strict=True)]
        each = np.split(out, np.cumsum(counts)[:-1])
        return [None if choice == "none" else logits for choice, logits in zip(wanted, each, strict=True)]

    def feed(self, rows: abc.Sequence[abc.Sequence[int]], state: Batch) -> Logits:
        """Adds new tokens to the state of each row.

        Args:
            rows: B lists of at least one token each.

        Returns the logits after the last token of each row, (B, V).
        """
        arrays = [self._checked([row])[0] for row in rows]
        return self._add(self._running, _rows_of(state, arrays), ["last"] * len(rows))

    def ahead(self, input_ids: Any) -> list[Logits]:
        """What the layers for multi-token prediction say: logits (B, T − 1 − k, V) of module k, whose entry t is for
        the token t + 2 + k. Raises InputError where they are not loaded."""
        if self._ahead is None:
            raise InputError(f"{self.spec.name} was loaded without layers for multi-token prediction: give mtp=True")
        ids = self._checked(input_ids)
        batch, tokens = ids.shape
        rows = [(self._sequence(self._ahead, tokens, 0, tokens), row) for row in ids]
        whole = self._add(self._ahead, rows, ["all"] * batch).reshape(batch, tokens, -1)
        vocab = self.spec.output_width
        return [whole[:, k + 1 :, k * vocab : (k + 1) * vocab] for k in range(len(self.spec.mtp))]

    @property
    def drafts(self) -> bool:
        """Whether it can draft: not yet."""
        return False

    def draft(self, entries: abc.Iterable[tuple[Sequence, int]], count: int) -> list[list[int]]:
        """Raises NotLoweredError: layers for multi-token prediction do not draft here yet."""
        raise NotLoweredError(f"{self.spec.name}: drafts have no native form yet")

    def sequence(
        self, capacity: int | None = None, slack: int = 0, *, draft: bool = False, most: int | None = None
    ) -> Sequence:
        """An empty sequence of up to `capacity` tokens (the model's context, if None).

        `slack` is how many tokens windowed layers keep beyond their window, so that `rewind` can go back that far;
        `most` the largest capacity that `grow` can give it later (`capacity`, if None).
        """
        if draft:
            raise NotLoweredError(f"{self.spec.name}: drafts have no native form yet")
        capacity = self.spec.context if capacity is None else capacity
        if capacity < 1 or slack < 0:
            raise InputError(
                f"a sequence needs a capacity of at least 1 and no negative slack, got {capacity}, {slack}"
            )
        return self._sequence(self._running, capacity, slack, capacity if most is None else most)

    def new_state(
        self, batch: int = 1, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None
    ) -> Batch:
        """An empty sequence for each row of a batch: see `sequence`. There is no encoder, so its capacity says
        nothing."""
        if batch < 1:
            raise InputError(f"a state needs a batch of at least 1, got {batch}")
        return Batch([self.sequence(capacity, slack) for _ in range(batch)])

    def sequence_bytes(
        self, capacity: int, slack: int, snapshots: int, *, draft: bool = False, most: int | None = None
    ) -> int:
        """The most bytes that a sequence can hold, with so many snapshots. One that can grow takes whole pages."""
        if most is not None and most > capacity:
            capacity = min(-(-capacity // PAGE) * PAGE, most)
        return sequence_bytes(self._running.plan, capacity, slack, snapshots, self.state_dtype)

    def encode(self, prompt: abc.Sequence[int], capacity: int) -> tuple[Sequence, list[int]]:
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

    def _sequence(self, running: Running, capacity: int, slack: int, most: int) -> Sequence:
        most = max(most, capacity)
        return Sequence(running, running.sequence(most, slack, self.state_dtype), capacity, most)

    def _checked(self, input_ids: Any) -> Ids:
        """Ids (B, T) that the model has."""
        ids = np.asarray(input_ids)
        if ids.ndim != 2 or ids.shape[1] == 0 or ids.dtype.kind not in "iu":
            raise InputError(f"input_ids must be integers (B, T) with T ≥ 1, got {ids.dtype} {ids.shape}")
        vocab = self.spec.embedding.vocab
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
            raise InputError(f"token ids run from 0 to {vocab - 1}, got {int(ids.min())} to {int(ids.max())}")
        return np.ascontiguousarray(ids, np.int32)

    def _add(self, running: Running, parts: abc.Sequence[tuple[Sequence, Ids]], wanted: abc.Sequence[Wanted]) -> Logits:
        """Adds their new tokens to sequences; the outputs that are wanted, one after the other."""
        _admit(running, parts)
        counts = [len(row) for _, row in parts]
        flags = np.concatenate([_flags(count, choice) for count, choice in zip(counts, wanted, strict=True)])
        ids = np.concatenate([row for _, row in parts])
        ends = np.cumsum(counts)
        out = np.empty((int(flags.sum()), running.plan.output_width), np.float32)
        done = 0
        for begin in range(0, len(ids), AT_ONCE):
            end = min(begin + AT_ONCE, len(ids))
            taken = np.minimum(ends, end) - np.maximum(ends - counts, begin)  # of each sequence, those of this pass
            here = np.flatnonzero(taken > 0).tolist()
            results = int(flags[begin:end].sum())
            running.step(
                [parts[i][0].handle for i in here],
                taken[here].tolist(),
                ids[begin:end],
                flags[begin:end],
                out[done : done + results],
            )
            done += results
        return out


def _rows_of(state: Batch, rows: abc.Sequence[Ids]) -> list[tuple[Sequence, Ids]]:
    """Each row's sequence."""
    if len(state.sequences) != len(rows):
        raise InputError(f"the state is for {len(state.sequences)} sequences, got {len(rows)}")
    return list(zip(state.sequences, rows, strict=True))


def _admit(running: Running, parts: abc.Sequence[tuple[Sequence, Ids]]) -> None:
    """Refuses sequences that cannot take their new tokens."""
    seen: set[int] = set()
    for i, (sequence, row) in enumerate(parts):
        length, count = sequence.length, len(row)
        if sequence.running is not running:
            raise InputError(f"sequence {i} belongs to another engine")
        if id(sequence) in seen:
            raise InputError(f"sequence {i} is given twice")
        if length + count > sequence.capacity:
            raise InputError(
                f"sequence {i} holds {sequence.capacity} tokens, and {length} + {count} are needed: "
                f"ask for a capacity of {length + count}"
            )
        if sequence.torn:
            raise InputError(f"sequence {i} was interrupted: rewind it first")
        seen.add(id(sequence))


def _count(tokens: int, wanted: Wanted) -> int:
    """How many of them have wanted logits."""
    return {"last": 1, "all": tokens, "none": 0}[wanted]


def _flags(tokens: int, wanted: Wanted) -> NDArray[np.uint8]:
    """For each of them whether its logits are wanted: the last ones are."""
    return (np.arange(tokens) >= tokens - _count(tokens, wanted)).astype(np.uint8)
