"""Sequences and steps made of states of one row: until both executors have their own."""

from __future__ import annotations

from collections import abc
from typing import Any

import numpy as np


class InterimSequence:
    def __init__(self, owner: Any, capacity: int, slack: int, encoder_capacity: int | None = None) -> None:
        self.owner, self.capacity, self.slack, self.ids = owner, capacity, slack, []
        self.state = owner.new_state(1, capacity, slack, encoder_capacity)
        self.recurrent = self.state.recurrent

    length = property(lambda self: self.state.length)
    nbytes = property(lambda self: self.state.nbytes)

    def reach(self, length: int) -> int:
        return self.state.reach(min(length, self.length))

    def rewind(self, length: int) -> None:
        self.state.rewind(length)
        self.ids = self.ids[:length]

    def snapshot(self) -> None:
        self.state.snapshot()

    def fork(self) -> Any:
        copy = InterimSequence(self.owner, self.capacity, self.slack)
        at = 0
        fixed = getattr(self.state, "fixed", None)
        marks = {len(self.ids), *(next(iter(fixed.values())).snapshots if fixed else ())}
        for mark in sorted(marks):
            if self.ids[at:mark]:
                self.owner.feed([self.ids[at:mark]], copy.state)
                copy.snapshot()
            at = mark
        copy.ids = list(self.ids)
        return copy


class Interim:
    def sequence(self, capacity: int | None = None, slack: int = 0) -> Any:
        return InterimSequence(self, capacity or self.spec.context, slack)

    def sequence_bytes(self, capacity: int, slack: int, snapshots: int) -> int:
        state = self.new_state(1, capacity, slack)
        before = state.nbytes
        if not state.recurrent:
            return before
        self.feed([[1]], state)
        state.snapshot()
        return before + snapshots * (state.nbytes - before)

    def step(self, parts: abc.Sequence[Any]) -> Any:
        outs = []
        for s, ids, wanted in parts:
            before = s.length
            if wanted == "all":
                out = np.concatenate([self.feed([[i]], s.state) for i in ids])
            else:
                out = self.feed([ids], s.state)
            s.ids = [*s.ids[:before], *ids]
            outs.append(None if wanted == "none" else out)
        return outs
