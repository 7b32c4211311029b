"""What an engine remembers: of one text a `Sequence`, of several side by side a `Batch`."""

from __future__ import annotations

from ..errors import InputError
from ..spec import SNAPSHOTS
from .running import Handle, Running


class Sequence:
    """What an engine remembers of one text.

    `capacity` is the most tokens that it may have, `most` the largest capacity that `grow` can give it, `recurrent`
    whether it can only return to snapshots and to its beginning, `windowed` whether layers forget what lies behind a
    window.
    """

    def __init__(self, running: Running, handle: Handle, capacity: int, most: int) -> None:
        self.running, self.handle, self.capacity, self.most = running, handle, capacity, most
        self.recurrent, self.windowed = running.recurrent, running.windowed

    def _ask(self, name: str, *arguments: int) -> int:
        number = self.running.library.get(name, self.handle.address, *arguments)
        if number < 0:
            raise InputError("the engine is in use by another thread: it does one call at a time")
        return number

    @property
    def length(self) -> int:
        """Tokens remembered."""
        return self._ask("vt_sequence_length")

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._ask("vt_sequence_bytes")

    @property
    def torn(self) -> bool:
        """Whether a step was interrupted, so that what is recurrent stands between two tokens: it must be rewound."""
        return bool(self._ask("vt_sequence_torn"))

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that it can return to."""
        return self._ask("vt_sequence_reach", length)

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens. Raises InputError where that cannot be returned to."""
        if not 0 <= length <= self.length or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(max(0, length))}")
        self.running.library.call("vt_sequence_rewind", self.handle.address, length)

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here; of all copies the last `SNAPSHOTS`."""
        self.running.library.call("vt_sequence_snapshot", self.handle.address, SNAPSHOTS)

    def fork(self) -> Sequence:
        """Another sequence with the same tokens, that goes its own way from here."""
        return Sequence(self.running, self.running.fork(self.handle), self.capacity, self.most)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` tokens, where it has less; memory is taken when they come. Raises InputError for more
        than `most`."""
        if capacity > self.most:
            raise InputError(f"the sequence was made for {self.most} tokens at the most, not for {capacity}")
        self.capacity = max(self.capacity, capacity)


class Batch:
    """Sequences that are asked and moved together, one for each row of ids."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self.sequences = sequences
        self.capacity, self.recurrent = sequences[0].capacity, sequences[0].recurrent

    @property
    def lengths(self) -> list[int]:
        """Tokens remembered of each."""
        return [sequence.length for sequence in self.sequences]

    @property
    def length(self) -> int:
        """Tokens remembered, of the longest."""
        return max(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(sequence.nbytes for sequence in self.sequences)

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that every sequence can return to."""
        while (agreed := min(sequence.reach(length) for sequence in self.sequences)) != length:
            length = agreed
        return length

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of every sequence. Raises InputError where that cannot be returned
        to."""
        if not 0 <= length <= min(self.lengths) or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(max(0, length))}")
        for sequence in self.sequences:
            sequence.rewind(length)

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here."""
        for sequence in self.sequences:
            sequence.snapshot()
