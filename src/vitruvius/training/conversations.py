"""Rows of whole documents, for conversations: none is cut, so each answer stands below all that it answers.

Documents are put into rows by best fit: the longest first, each into the fullest row that has room for it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from .batches import IGNORED, Held, TokenBatch


@dataclass(frozen=True, eq=False)
class WholeDocuments:
    """Rows that hold whole documents, each row once an epoch, in an order that the seed gives. What is longer than a
    row loses its end.

    Args:
        tokens: (N,), all documents. ends: where each ends. learned: (N,), whether each token is learned.
        batch, sequence: the rows and tokens of a batch. seed: of the order.
    """

    tokens: NDArray[np.integer]
    ends: NDArray[np.int64]
    batch: int
    sequence: int
    seed: int
    learned: NDArray[np.bool_]

    @cached_property
    def rows(self) -> list[list[int]]:
        """The documents of each row. Raises InputError where there is none."""
        lengths = np.minimum(np.diff(self.ends, prepend=0), self.sequence)
        if not len(lengths):
            raise InputError("data: no conversation to learn from")
        return best_fit(lengths.tolist(), self.sequence)

    @property
    def cut(self) -> int:
        """How many documents lose their end."""
        return int((np.diff(self.ends, prepend=0) > self.sequence).sum())

    def __call__(self, i: int) -> TokenBatch:
        """Batch i. The last rows of an epoch and the first of the next may stand together."""
        places = [divmod(i * self.batch + k, len(self.rows)) for k in range(self.batch)]
        return self.at([int(_order(self.seed, epoch, len(self.rows))[place]) for epoch, place in places])

    def in_order(self, most: int) -> Held:
        """The first rows, in at most so many batches: what is evaluated."""
        rows = range(min(len(self.rows), most * self.batch))
        return Held([self.at(rows[k : k + self.batch]) for k in range(0, len(rows), self.batch)])

    def at(self, rows: Sequence[int]) -> TokenBatch:
        """Some rows. After the last document of each there is nothing to learn."""
        shape = len(rows), self.sequence
        ids, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
        documents = np.full(shape, -1, np.int64)
        begins = np.concatenate(([0], self.ends[:-1]))
        for row, number in enumerate(rows):
            at = 0
            for k, document in enumerate(self.rows[number]):
                begin, end = int(begins[document]), int(self.ends[document])
                end = min(end, begin + self.sequence)
                here = slice(at, at + end - begin)
                ids[row, here], documents[row, here] = self.tokens[begin:end], k
                wanted = self.tokens[begin + 1 : end].astype(np.int64)
                targets[row, at : at + end - begin - 1] = np.where(self.learned[begin + 1 : end], wanted, IGNORED)
                at += end - begin
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(documents))


@lru_cache(4)
def _order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(rows)


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which of the lengths go into each row of `room`: the longest first, each where the least room is left for it."""
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room that is left, row), in order
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        at = bisect_left(free, (lengths[item], 0))
        if at == len(free):
            left, row = room, len(rows)
            rows.append([])
        else:
            left, row = free.pop(at)
        rows[row].append(item)
        if left > lengths[item]:
            insort(free, (left - lengths[item], row))
    return rows
