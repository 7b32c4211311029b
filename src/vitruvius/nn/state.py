"""What generation remembers of a sequence: keys and values, latents, memories, for each part that keeps any.

Everything is preallocated from the spec's own `state()`. A part that sees a window keeps a ring of that many tokens
(and `slack` more, for those who want to go back); the others keep the whole sequence. Callers only see absolute
positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import spec
from ..errors import InputError
from ..spec import SNAPSHOTS

Entries = Mapping[str, Tensor]


@dataclass(frozen=True)
class Keys:
    """Where the entries stand that some queries see: at the positions first … last − 1.

    Args:
        positions: of each entry, (B or 1, S); in their order, but for a single query.
        window: how many tokens back their part keeps them, None for all.
    """

    positions: Tensor
    first: int
    last: int
    window: int | None


class Store:
    """The memory of `rows` sequences of one model, row by row in the same tensors.

    Args:
        declared: canonical path of a part -> name -> what it keeps.
        rows: how many sequences.
        capacity: the most tokens that a sequence may have; `encoder_capacity` the most that an encoder may read.
        slack: how many tokens windowed parts keep beyond their window.
        drafts: whether what is declared is also for drafting.
    """

    def __init__(
        self,
        declared: Mapping[str, Mapping[str, spec.StateEntry]],
        rows: int,
        capacity: int,
        slack: int,
        encoder_capacity: int,
        dtype: torch.dtype,
        device: torch.device,
        drafts: bool = False,
    ) -> None:
        self.declared, self.capacity, self.slack, self.encoder_capacity = declared, capacity, slack, encoder_capacity
        self.dtype, self.device, self.rows, self.drafts = dtype, device, rows, drafts
        self.slots: dict[int | None, int] = {}  # window -> how many tokens are kept
        self.parts: dict[str, dict[str, Tensor]] = {path: {} for path in declared}
        self.fixed: dict[str, dict[str, Tensor]] = {}  # those whose size does not depend on the length
        for path, entries in declared.items():
            windows = {entry.window for entry in entries.values() if isinstance(entry, spec.PerToken)}
            assert len(windows) <= 1, "the entries of one part belong to the same tokens"
            for window in windows:
                self.slots[window] = capacity if window is None else min(capacity, window + slack)
            for name, entry in entries.items():
                kind = getattr(torch, entry.dtype) if entry.dtype else dtype
                self.parts[path][name] = torch.zeros(rows, *self._shape(entry), dtype=kind, device=device)
                if isinstance(entry, spec.Fixed):
                    self.fixed.setdefault(path, {})[name] = self.parts[path][name]

    def _shape(self, entry: spec.StateEntry) -> tuple[int, ...]:
        if isinstance(entry, spec.Fixed):
            return entry.shape
        *groups, channels = entry.shape
        tokens = self.slots[entry.window] if isinstance(entry, spec.PerToken) else self.encoder_capacity
        return (*groups, tokens, channels)

    def grow(self, capacity: int, written: int) -> None:
        """Room for more tokens of its only sequence, of which so many are written. Each tensor is let go before the
        next one is made: beside all of them there is never more than one twice."""
        assert self.rows == 1
        assert capacity > self.capacity
        before, self.capacity = dict(self.slots), capacity
        for window in before:
            self.slots[window] = capacity if window is None else min(capacity, window + self.slack)
        for path, entries in self.declared.items():
            for name, entry in entries.items():
                if isinstance(entry, spec.PerToken) and before[entry.window] < self.slots[entry.window]:
                    # a ring that grows was as long as the sequence may be: it has not gone round
                    old, used = self.parts[path][name], min(written, before[entry.window])
                    new = torch.zeros(1, *self._shape(entry), dtype=old.dtype, device=self.device)
                    new[..., :used, :] = old[..., :used, :]
                    self.parts[path][name] = new

    def alone(self) -> Store:
        """An empty one like it, for one sequence."""
        how = (self.capacity, self.slack, self.encoder_capacity, self.dtype, self.device, self.drafts)
        return Store(self.declared, 1, *how)

    def entry(self, rows: slice, path: str, name: str, position: int) -> Tensor:
        """What is kept of one token of each of some rows, (n, …, channels); zeros before the first token."""
        tensor, window = self.parts[path][name][rows], self.declared[path][name].window
        if position < 0:
            return tensor.new_zeros(tensor[..., 0, :].shape)
        return tensor[..., position % self.slots[window], :]

    @property
    def tensors(self) -> list[Tensor]:
        """All that it keeps, (rows, …)."""
        return [tensor for part in self.parts.values() for tensor in part.values()]

    def keys(self, window: int | None, start: int, tokens: int) -> Keys:
        """Where the entries stand that `append` returns."""
        end, slots = start + tokens, self.slots[window]
        if end <= slots or tokens == 1:
            filled = min(end, slots)
            slot = torch.arange(filled, device=self.device)
            positions = slot if end <= slots else end - 1 - (end - 1 - slot) % slots
            return Keys(positions[None], end - filled, end, window)
        assert window is not None, "room is checked before"
        first = max(0, start - window + 1)
        return Keys(torch.arange(first, end, device=self.device)[None], first, end, window)

    def append(self, rows: slice, path: str, start: int, window: int | None, new: Entries) -> tuple[Tensor, ...]:
        """Keeps new entries (n, …, T, channels) of some rows after the `start` that are there; returns everything that
        the new tokens may see, in the order of `new`."""
        tokens = next(iter(new.values())).shape[-2]
        end, slots = start + tokens, self.slots[window]
        part = {name: self.parts[path][name][rows] for name in new}
        if end <= slots or tokens == 1:  # nothing in reach of the new tokens is overwritten
            slot = start % slots
            for name, entries in new.items():
                part[name][..., slot : slot + tokens, :] = entries
            return tuple(tensor[..., : min(end, slots), :] for tensor in part.values())
        assert window is not None, "room is checked before"
        before = torch.arange(max(0, start - window + 1), start, device=self.device) % slots
        kept = min(tokens, slots)
        after = torch.arange(end - kept, end, device=self.device) % slots
        seen = []
        for name, entries in new.items():
            seen.append(torch.cat((part[name][..., before, :], entries), -2))
            part[name][..., after, :] = entries[..., tokens - kept :, :]
        return tuple(seen)


class Sequence:
    """What a model remembers of one sequence.

    Args:
        store: where it is kept, and in which `row`.

    `length` is how many tokens are remembered, `encoded` how many an encoder has read. The next token of text turns by
    the place `length` + `shift`: 0, but after a picture, whose tokens share places.
    """

    def __init__(self, store: Store, row: int) -> None:
        self.store, self.row = store, row
        self.length = self.encoded = 0
        self._farthest = 0  # as many tokens may have been written since it was empty: what that overwrote is gone
        self._torn = False  # whether recurrent states may be those of no length: a step was not finished
        self._snapshots: dict[int, dict[str, dict[str, Tensor]]] = {}  # the oldest first
        self._shifts: dict[int, int] = {}  # length -> the shift from there on

    @property
    def capacity(self) -> int:
        """The most tokens that it may have."""
        return self.store.capacity

    def grow(self, capacity: int) -> None:
        """Room for `capacity` tokens, where it has less. Raises InputError for one row of several."""
        if self.store.rows > 1:
            raise InputError("the rows of a batch have the same capacity: make them as sequences to let one grow")
        if capacity > self.capacity:
            self.store.grow(capacity, self._farthest)

    @property
    def recurrent(self) -> bool:
        """Whether it can only return to snapshots and to the beginning."""
        return bool(self.store.fixed)

    @property
    def windowed(self) -> bool:
        """Whether any layer forgets what lies behind a window."""
        return any(window is not None for window in self.store.slots)

    @property
    def drafts(self) -> bool:
        """Whether the layers for multi-token prediction have a state in it too."""
        return self.store.drafts

    @property
    def shift(self) -> int:
        """How far the places of text are from its order."""
        return next(reversed(self._shifts.values()), 0)

    def shifted(self, following: int) -> None:
        """Says that the next token of text turns by the place `following`."""
        self._shifts[self.length] = following - self.length

    @property
    def nbytes(self) -> int:
        """Bytes that are kept, snapshots included."""
        return sum(tensor[self.row].nbytes for tensor in self.store.tensors) + sum(x.nbytes for x in self.copies)

    @property
    def copies(self) -> list[Tensor]:
        """The tensors of its snapshots."""
        return [x for copy in self._snapshots.values() for part in copy.values() for x in part.values()]

    def room(self, count: int) -> None:
        """Raises InputError if `count` more tokens cannot follow."""
        if self.length + count > self.capacity:
            raise InputError(
                f"the state holds {self.capacity} tokens, and {self.length} + {count} are needed: "
                f"ask for more with capacity={self.length + count}"
            )
        if (self._torn and self.recurrent) or self.reach(self.length) != self.length:
            raise InputError(
                f"a step was interrupted after {self.length} tokens of the sequence: rewind it, at most to "
                f"{self.reach(self.length)}"
            )

    def begin(self, count: int) -> None:
        """Says that `count` tokens are about to be written. An interruption must not leave anything that `reach`
        trusts, so this is said before, and `finish` after."""
        self._torn = True
        self.written(self.length + count)

    def written(self, length: int) -> None:
        """Says that tokens up to that length are about to be written, which need not become its own."""
        self._farthest = max(self._farthest, length)

    def finish(self, count: int) -> None:
        """Says that all parts have kept the tokens."""
        self.length += count
        self._torn = False

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here. The oldest copies beyond SNAPSHOTS are
        dropped."""
        self.room(0)
        if self.length and self.recurrent:
            self._snapshots.pop(self.length, None)
            self._snapshots[self.length] = {
                path: {name: tensor[self.row].clone() for name, tensor in part.items()}
                for path, part in self.store.fixed.items()
            }
            while len(self._snapshots) > SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that it can return to."""
        target = max(0, min(length, self.length))
        if self.recurrent and (self._torn or target < self.length):
            target = max((kept for kept in self._snapshots if kept <= target), default=0)
        # the tokens that the next query would see must still be there; a shorter prefix would need older ones
        gone = (max(0, self._farthest - slots) > max(0, target - w + 1) for w, slots in self.store.slots.items() if w)
        return 0 if any(gone) else target

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens. Raises InputError where that cannot be returned to."""
        if not 0 <= length <= self.length or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(length)}")
        if self.recurrent and (self._torn or length < self.length):
            self._torn = True
            for path, part in self.store.fixed.items():
                for name, tensor in part.items():
                    if length:
                        tensor[self.row].copy_(self._snapshots[length][path][name])
                    else:
                        tensor[self.row].zero_()
        self._snapshots = {kept: copy for kept, copy in self._snapshots.items() if kept <= length}
        self._shifts = {begin: shift for begin, shift in self._shifts.items() if begin <= length}
        self.length, self._torn = length, False
        if length == 0:
            self._farthest = 0

    def fork(self) -> Sequence:
        """An independent sequence with the same tokens. What they share is copied, but for snapshots, which nobody
        writes to."""
        self.room(0)
        other = Sequence(self.store.alone(), 0)
        for path, part in self.store.parts.items():
            for name, tensor in part.items():
                match self.store.declared[path][name]:
                    case spec.PerToken(window=window):
                        used = min(self._farthest, self.store.slots[window])
                    case spec.Static():
                        used = self.encoded
                    case spec.Fixed():
                        used = tensor.shape[-2]
                other.store.parts[path][name][0][..., :used, :] = tensor[self.row][..., :used, :]
        other.length, other.encoded, other._farthest = self.length, self.encoded, self._farthest
        other._snapshots, other._shifts = dict(self._snapshots), dict(self._shifts)
        return other

    def keep_encoded(self, path: str, entries: Entries) -> None:
        """Keeps what the part at `path` makes of an encoder's output: (…, S, channels)."""
        for name, value in entries.items():
            self.store.parts[path][name][self.row][..., : value.shape[-2], :] = value

    def encoder_room(self, tokens: int) -> None:
        """Raises InputError if an encoder cannot read `tokens` tokens for it."""
        if tokens > self.store.encoder_capacity:
            raise InputError(
                f"the state holds {self.store.encoder_capacity} tokens of the encoder, and {tokens} are needed: "
                f"ask for more with new_state(encoder_capacity={tokens})"
            )


class Rows:
    """Several sequences as one batch."""

    def __init__(self, sequences: Several[Sequence]) -> None:
        self.sequences, first = sequences, sequences[0]
        self.store, self.rows = first.store, slice(first.row, first.row + len(sequences))
        self.together = all(s.store is self.store and s.row == first.row + i for i, s in enumerate(sequences))

    def read(self, path: str, name: str) -> Tensor:
        """What the part at `path` keeps under `name`, (n, …)."""
        if self.together:
            return self.store.parts[path][name][self.rows]
        return torch.stack([s.store.parts[path][name][s.row] for s in self.sequences])

    def replace(self, path: str, **new: Tensor) -> None:
        """What is kept from now on, (n, …) each."""
        for name, value in new.items():
            if self.together:
                self.store.parts[path][name][self.rows].copy_(value)
            else:
                for s, row in zip(self.sequences, value, strict=True):
                    s.store.parts[path][name][s.row].copy_(row)


class Batch:
    """Sequences that go on together: `model(input_ids, state)`."""

    def __init__(self, sequences: Iterable[Sequence]) -> None:
        self.sequences = list(sequences)

    @property
    def lengths(self) -> list[int]:
        """Tokens remembered of each."""
        return [s.length for s in self.sequences]

    @property
    def length(self) -> int:
        """Tokens remembered, of the longest."""
        return max(self.lengths)

    @property
    def capacity(self) -> int:
        """The most tokens that each may have."""
        return min(s.capacity for s in self.sequences)

    @property
    def recurrent(self) -> bool:
        """Whether they can only return to snapshots and to the beginning."""
        return self.sequences[0].recurrent

    def snapshot(self) -> None:
        """See `Sequence.snapshot`."""
        for s in self.sequences:
            s.snapshot()

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that every sequence can return to."""
        while (agreed := min(s.reach(length) for s in self.sequences)) != length:
            length = agreed
        return length

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of every sequence. Raises InputError where that cannot be returned
        to."""
        if not 0 <= length <= min(self.lengths) or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(length)}")
        for s in self.sequences:
            s.rewind(length)

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that is kept."""
        stores = {id(s.store): s.store for s in self.sequences}
        kept = [tensor for store in stores.values() for tensor in store.tensors]
        return kept + [copy for s in self.sequences for copy in s.copies]

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(s.nbytes for s in self.sequences)
