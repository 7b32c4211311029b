"""What a step learns from: rows of tokens, as a function of the step.

Data are functions, not iterators: batch `i` of a seed is always the same, whoever asks and when. So a run resumes by
its step alone, and several processes take their parts without talking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .losses import IGNORED


@dataclass(frozen=True)
class TokenBatch:
    """Rows of a step.

    Args:
        ids: (B, T), what the model reads.
        targets: (B, T), the token that comes after each, `IGNORED` where none is learned.
        documents: (B, T), which document of its row each token belongs to; None where each row is one document.
    """

    ids: Tensor
    targets: Tensor
    documents: Tensor | None = None

    @property
    def learned(self) -> int:
        """How many targets are learned."""
        return int((self.targets != IGNORED).sum())

    def parts(self, count: int) -> list[TokenBatch]:
        """The same rows in so many equal parts."""
        rows = len(self.ids) // count
        return [self.rows(slice(i * rows, (i + 1) * rows)) for i in range(count)]

    def rows(self, which: slice) -> TokenBatch:
        """Some of its rows."""
        documents = None if self.documents is None else self.documents[which]
        return TokenBatch(self.ids[which], self.targets[which], documents)

    def to(self, device: torch.device) -> TokenBatch:
        """The same on a device."""
        documents = None if self.documents is None else self.documents.to(device, non_blocking=True)
        return TokenBatch(self.ids.to(device, non_blocking=True), self.targets.to(device, non_blocking=True), documents)


class Batches(Protocol):
    """What `train` learns from: batch `i`, counted from 0; the same for the same `i`."""

    def __call__(self, i: int) -> TokenBatch:
        """The batch of step i + 1."""
        ...


@dataclass(frozen=True)
class Held:
    """A few batches, in a fixed order: what is evaluated."""

    batches: Sequence[TokenBatch]

    def __call__(self, i: int) -> TokenBatch:
        """Batch i; after the last the first comes again."""
        return self.batches[i % len(self.batches)]


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Documents one after the other, cut into rows: every token of an epoch once, in an order that the seed gives.

    Each epoch cuts elsewhere. A row may hold the end of one document and the beginning of the next, which do not see
    each other.

    Args:
        tokens: (N,), all documents, each with the token that ends it.
        ends: where each document ends in `tokens`; the last is N.
        batch, sequence: the rows and tokens of a batch.
        seed: of the order.
    """

    tokens: NDArray[np.integer]
    ends: NDArray[np.int64]
    batch: int
    sequence: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(
                f"the text has {len(self.tokens):,} tokens, and sequence={self.sequence} needs at least "
                f"{2 * self.sequence:,}: take a shorter sequence or more text"
            )

    @property
    def rows(self) -> int:
        """Of an epoch: as many as any cut leaves."""
        return (len(self.tokens) - self.sequence) // self.sequence

    def __call__(self, i: int) -> TokenBatch:
        """Batch i. The last rows of an epoch and the first of the next may stand together."""
        first = i * self.batch
        return self.at([self._begin(first + k) for k in range(self.batch)])

    def in_order(self, most: int) -> Held:
        """The rows as they follow, in at most so many batches: what is evaluated."""
        rows = max(1, (len(self.tokens) - 1) // self.sequence)
        chosen = np.linspace(0, rows - 1, min(rows, most * self.batch)).astype(int)
        begins = [int(row) * self.sequence for row in chosen]
        return Held([self.at(begins[k : k + self.batch]) for k in range(0, len(begins), self.batch)])

    def at(self, begins: Sequence[int]) -> TokenBatch:
        """The rows that begin at these tokens."""
        rows = np.stack([self._row(begin) for begin in begins])
        last = np.searchsorted(self.ends, rows, side="right")  # the document that each token belongs to
        ids = np.take(self.tokens, rows).astype(np.int64)
        targets = ids[:, 1:].copy()
        targets[last[:, 1:] != last[:, :-1]] = IGNORED  # what begins a document follows from nothing
        inside = last[:, :-1] - last[:, :1]
        documents = torch.from_numpy(inside) if inside.any() else None
        return TokenBatch(torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(targets), documents)

    def _row(self, begin: int) -> NDArray[np.int64]:
        return np.arange(begin, begin + self.sequence + 1)

    def _begin(self, row: int) -> int:
        """Where row number `row` of the run begins."""
        epoch, place = divmod(row, self.rows)
        spare = len(self.tokens) - 1 - self.rows * self.sequence
        offset, order = _epoch(self.seed, epoch, self.rows, spare)
        return int(order[place]) * self.sequence + offset


@lru_cache(4)
def _epoch(seed: int, epoch: int, rows: int, spare: int) -> tuple[int, NDArray[np.int64]]:
    """Where an epoch's first row begins, and the order of its rows."""
    random = np.random.default_rng((seed, epoch))
    return int(random.integers(spare + 1)), random.permutation(rows)
