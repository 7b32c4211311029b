"""What generation remembers: keys and values, latents, for each part that keeps any.

Everything is preallocated from the spec's own `state()`. A part that sees a window keeps a ring of that many tokens
(and `slack` more, for those who want to go back); the others keep the whole sequence. Callers only see absolute
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from .. import spec
from ..errors import InputError

NOWHERE = 2**62  # the position of an entry that holds nothing: after every query, so no query sees it


@dataclass(eq=False)
class Keys:
    """Where the entries stand that a call may see.

    Args:
        place: makes `positions`, the absolute position of each, (B or 1, S). In the common case nobody asks.
        span: (first, last + 1) where every row holds exactly these positions, in order (in any order for one query).
        slots: with `span`, tells the geometries of one call apart.
        real: (B, S), which are not padding, None if all are: for queries that see later keys too. From others padding
            on the right is hidden in any case.
    """

    place: Callable[[], Tensor]
    span: tuple[int, int] | None
    slots: int = 0
    real: Tensor | None = None

    @cached_property
    def positions(self) -> Tensor:
        """(B or 1, S)."""
        return self.place()

    @property
    def geometry(self) -> tuple[object, ...]:
        """Equal for keys that stand alike within one call."""
        return (self.span, self.slots)


class TokenState:
    """What a part keeps for each token: tensors (B, …, slots, channels)."""

    def __init__(
        self,
        declared: Mapping[str, spec.PerToken],
        batch: int,
        capacity: int,
        slack: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        windows = {entry.window for entry in declared.values()}
        assert len(windows) == 1, "the entries of one part belong to the same tokens"
        self.window: int | None = windows.pop()
        self.slots = capacity if self.window is None else min(capacity, self.window + slack)
        self.oldest = [0] * batch  # the first position of each row that has not been overwritten
        self.tensors: dict[str, Tensor] = {}
        for name, entry in declared.items():
            *groups, channels = entry.shape
            shape = (batch, *groups, self.slots, channels)
            kind = getattr(torch, entry.dtype) if entry.dtype else dtype
            self.tensors[name] = torch.zeros(shape, dtype=kind, device=device)

    def append(
        self, new: Mapping[str, Tensor], lengths: Sequence[int], valid: Sequence[int] | None
    ) -> tuple[tuple[Tensor, ...], Keys]:
        """Keeps the new entries (B, …, T, channels) after the `lengths` that are there.

        Args:
            valid: how many of each row's new entries are not padding; all, if None.

        Returns everything that the new tokens may see, in the order of `new`, and where it stands.
        """
        tokens = next(iter(new.values())).shape[-2]
        if self.window is not None:  # said before it is done: an interruption must not leave a ring that `reach` trusts
            ends = [length + (valid[row] if valid else tokens) for row, length in enumerate(lengths)]
            self.oldest = [max(old, end - self.slots) for old, end in zip(self.oldest, ends, strict=True)]
        if valid is None and len(set(lengths)) == 1:
            return self._append_even(new, lengths[0], tokens)
        return self._append_ragged(new, lengths, valid or [tokens] * len(lengths), tokens)

    def _append_even(self, new: Mapping[str, Tensor], start: int, tokens: int) -> tuple[tuple[Tensor, ...], Keys]:
        """All rows have the same length."""
        end, slots = start + tokens, self.slots
        device = next(iter(new.values())).device
        if end <= slots or tokens == 1:  # nothing in reach of the new tokens is overwritten
            slot = start % slots
            for name, entries in new.items():
                self.tensors[name][..., slot : slot + tokens, :] = entries
            filled = min(end, slots)
            kept = tuple(self.tensors[name][..., :filled, :] for name in new)
            where = partial(self._positions, [end], filled, device)
            return kept, Keys(where, (end - filled, end), self.slots)
        assert self.window is not None, "capacity is checked by the model"
        first = max(0, start - self.window + 1)
        before = torch.arange(first, start, device=device) % slots
        after = torch.arange(max(start, end - slots), end, device=device)
        seen = []
        for name, entries in new.items():
            tensor = self.tensors[name]
            seen.append(torch.cat((tensor[..., before, :], entries), -2))
            tensor[..., after % slots, :] = entries[..., after - start, :]
        return tuple(seen), Keys(lambda: torch.arange(first, end, device=device)[None], (first, end), self.slots)

    def _append_ragged(
        self, new: Mapping[str, Tensor], lengths: Sequence[int], valid: Sequence[int], tokens: int
    ) -> tuple[tuple[Tensor, ...], Keys]:
        """Rows of different lengths, or with padding at their ends."""
        device = next(iter(new.values())).device
        starts = torch.tensor(lengths, device=device)[:, None]
        counts = torch.tensor(valid, device=device)[:, None]
        steps = torch.arange(tokens, device=device)[None]
        kept = (steps < counts) & (steps >= counts - self.slots)
        rows, columns = kept.nonzero(as_tuple=True)
        slots = ((starts + steps) % self.slots)[rows, columns]
        longest = max(length + count for length, count in zip(lengths, valid, strict=True))
        old = self._positions(lengths, self.slots, device)
        seen = []
        for name, entries in new.items():
            tensor = self.tensors[name]
            if self.window is not None:  # the ring as it was, then the new entries
                seen.append(torch.cat((tensor, entries), -2))
            by_slot = tensor.movedim(-2, 1)
            by_slot[rows, slots] = entries.movedim(-2, 1)[rows, columns]
            if self.window is None:
                seen.append(tensor[..., :longest, :])
        if self.window is None:
            return tuple(seen), Keys(lambda: torch.arange(longest, device=device)[None], None, self.slots)
        return tuple(seen), Keys(lambda: torch.cat((old, starts + steps), 1), None, self.slots)

    def _positions(self, ends: Sequence[int], slots: int, device: torch.device) -> Tensor:
        """(rows, slots): the position that each slot holds once a row has `ends` tokens, NOWHERE if none."""
        last = torch.tensor(ends, device=device)[:, None] - 1
        position = last - (last - torch.arange(slots, device=device)[None]) % self.slots
        return torch.where((position >= 0) & (last >= 0), position, NOWHERE)

    def reach(self, row: int, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that the row can return to: the tokens that its next query
        would see must still be there."""
        needed = 0 if self.window is None else max(0, length - self.window + 1)
        return length if self.oldest[row] <= needed else 0

    def rewind(self, row: int, length: int) -> None:
        """Forgets what comes after `length`, which `reach` allows."""
        if length == 0:
            self.oldest[row] = 0


class FixedState:
    """What a part keeps whatever the length: tensors (B, …) that each call replaces."""

    def __init__(
        self, declared: Mapping[str, spec.Fixed], batch: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.tensors = {
            name: torch.zeros(
                batch, *entry.shape, dtype=getattr(torch, entry.dtype) if entry.dtype else dtype, device=device
            )
            for name, entry in declared.items()
        }
        self.snapshots: dict[int, dict[str, Tensor]] = {}

    def replace(self, **new: Tensor) -> None:
        """What is remembered from now on."""
        for name, value in new.items():
            self.tensors[name].copy_(value)

    def snapshot(self, length: int) -> None:
        """Keeps a copy, to which `rewind` can return."""
        self.snapshots[length] = {name: tensor.clone() for name, tensor in self.tensors.items()}

    def reach(self, current: int, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that can be returned to."""
        if length >= current:
            return current
        return max((kept for kept in self.snapshots if kept <= length), default=0)

    def rewind(self, current: int, length: int) -> None:
        """Returns to a snapshot, or to nothing."""
        if length == current:
            return
        for name, tensor in self.tensors.items():
            if length == 0:
                tensor.zero_()
            else:
                tensor.copy_(self.snapshots[length][name])
        self.snapshots = {kept: value for kept, value in self.snapshots.items() if kept <= length}


class EncoderState:
    """What the parts of a decoder keep of the encoder's output: tensors (B, …, capacity, channels), filled when it has
    read a text, and then only looked at.

    Args:
        declared: canonical path -> name -> entry.
        capacity: the most tokens that the encoder may read of a sequence.

    `lengths` is how many it has read of each.
    """

    def __init__(
        self,
        declared: Mapping[str, Mapping[str, spec.Static]],
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.capacity, self.lengths = capacity, [0] * batch
        self.parts: dict[str, dict[str, Tensor]] = {path: {} for path in declared}
        for path, entries in declared.items():
            for name, entry in entries.items():
                *groups, channels = entry.shape
                kind = getattr(torch, entry.dtype) if entry.dtype else dtype
                self.parts[path][name] = torch.zeros((batch, *groups, capacity, channels), dtype=kind, device=device)

    def room(self, tokens: int) -> None:
        """Raises InputError if that many tokens would not fit."""
        if tokens > self.capacity:
            raise InputError(
                f"the state holds {self.capacity} tokens of the encoder, and {tokens} are needed: "
                f"ask for more with new_state(encoder_capacity={tokens})"
            )

    def fill(self, path: str, **new: Tensor) -> None:
        """Keeps the entries (B, …, S, channels) of the part at `path`."""
        for name, entries in new.items():
            self.parts[path][name][..., : entries.shape[-2], :] = entries

    def kept(self, path: str) -> tuple[Tensor, ...]:
        """What the part at `path` has kept."""
        return tuple(tensor[..., : max(self.lengths), :] for tensor in self.parts[path].values())


class State:
    """What a model remembers of a batch of sequences.

    Args:
        tokens: canonical path -> what that part keeps for each token.
        fixed: canonical path -> what that part keeps whatever the length.
        batch: number of sequences.
        capacity: the most tokens that a sequence may have.
        encoder: what is kept of an encoder's output, for models that have one.
    """

    def __init__(
        self,
        tokens: dict[str, TokenState],
        fixed: dict[str, FixedState],
        batch: int,
        capacity: int,
        encoder: EncoderState | None = None,
    ) -> None:
        self.tokens, self.fixed, self.capacity, self.encoder = tokens, fixed, capacity, encoder
        self.lengths = [0] * batch

    @property
    def length(self) -> int:
        """Tokens remembered, of the longest sequence."""
        return max(self.lengths)

    @property
    def recurrent(self) -> bool:
        """Whether it can only return to snapshots and to the beginning."""
        return bool(self.fixed)

    def advance(self, counts: Sequence[int]) -> None:
        """Counts the tokens that all parts have kept."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def room(self, counts: Sequence[int]) -> None:
        """Raises InputError if the sequences would not fit after `counts` more tokens."""
        for length, count in zip(self.lengths, counts, strict=True):
            if length + count > self.capacity:
                raise InputError(
                    f"the state holds {self.capacity} tokens, and {length} + {count} are needed: "
                    f"ask for more with new_state(capacity={length + count})"
                )

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here. All sequences must have the same
        length."""
        if len(set(self.lengths)) > 1:
            raise InputError(f"a snapshot needs sequences of one length, got {self.lengths}")
        for part in self.fixed.values():
            part.snapshot(self.length)

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that every sequence can return to."""
        target = min(length, *self.lengths)
        while True:
            agreed = min(
                (part.reach(row, target) for part in self.tokens.values() for row in self._rows), default=target
            )
            agreed = min(
                (part.reach(now, agreed) for part in self.fixed.values() for now in self.lengths), default=agreed
            )
            if agreed == target:
                return target
            target = agreed

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of every sequence. Raises InputError where that cannot be returned
        to."""
        if not 0 <= length <= min(self.lengths) or self.reach(length) != length:
            raise InputError(f"cannot return to {length} tokens; the nearest is {self.reach(length)}")
        for part in self.tokens.values():
            for row in self._rows:
                part.rewind(row, length)
        for recurrent in self.fixed.values():
            recurrent.rewind(self.length, length)
        self.lengths = [length] * len(self.lengths)

    @property
    def _rows(self) -> range:
        return range(len(self.lengths))

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that is held."""
        held = [part.tensors for part in self.tokens.values()] + [part.tensors for part in self.fixed.values()]
        held += [copy for part in self.fixed.values() for copy in part.snapshots.values()]
        held += self.encoder.parts.values() if self.encoder else []
        return [tensor for tensors in held for tensor in tensors.values()]

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors)
