"""Sequences and steps made of torch states of one row, until the torch models have their own."""

from __future__ import annotations

from collections import abc
from typing import Any

import numpy as np


class InterimSequence:
    """A state of one row."""

    def __init__(self, owner: Any, capacity: int, slack: int, encoder_capacity: int | None = None) -> None:
        self.owner, self.capacity, self.slack = owner, capacity, slack
        self.ids: list[int] = []
        self.state = owner.new_state(1, capacity, slack, encoder_capacity)
        self.recurrent: bool = self.state.recurrent

    @property
    def length(self) -> int:
        """Tokens remembered."""
        return int(self.state.length)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return int(self.state.nbytes)

    def reach(self, length: int) -> int:
        """See `Sequence`."""
        return int(self.state.reach(min(length, self.length)))

    def rewind(self, length: int) -> None:
        """See `Sequence`."""
        self.state.rewind(length)
        self.ids = self.ids[:length]

    def snapshot(self) -> None:
        """See `Sequence`."""
        self.state.snapshot()

    def fork(self) -> InterimSequence:
        """Reads the text again, with snapshots where this one has them."""
        copy, at = InterimSequence(self.owner, self.capacity, self.slack), 0
        kept = [part.snapshots for part in self.state.fixed.values()]
        for mark in sorted({len(self.ids), *(kept[0] if kept else ())}):
            if self.ids[at:mark]:
                self.owner.feed([self.ids[at:mark]], copy.state)
                copy.snapshot()
            at = mark
        copy.ids = list(self.ids)
        return copy


def step(owner: Any, parts: abc.Sequence[Any]) -> list[Any]:
    """See `Runner.step`."""
    outs = []
    for sequence, ids, wanted in parts:
        before = sequence.length
        rows = [[i] for i in ids] if wanted == "all" else [ids]
        out = np.concatenate([owner.feed([row], sequence.state) for row in rows])
        sequence.ids = [*sequence.ids[:before], *ids]
        outs.append(None if wanted == "none" else out)
    return outs


def sequence_bytes(owner: Any, capacity: int, slack: int, snapshots: int) -> int:
    """See `Runner.sequence_bytes`."""
    state = owner.new_state(1, capacity, slack)
    before = int(state.nbytes)
    if state.recurrent:
        owner.feed([[1]], state)
        state.snapshot()
    return before + snapshots * (int(state.nbytes) - before)
