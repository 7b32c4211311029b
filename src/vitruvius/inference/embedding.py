"""Vectors of texts: the hidden states of a model without a head, pooled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.pooling import Pooling
from .runner import Runner, Wanted

CHUNK = 512  # tokens of one step


class Embedder:
    """Texts on their way to vectors, a step at a time.

    Args:
        runner: a model without a head.
        rows: the ids of each text.
        pooling: what becomes of a text's hidden states.
    """

    def __init__(self, runner: Runner, rows: Sequence[Sequence[int]], pooling: Pooling) -> None:
        self._runner, self._rows, self._pooling = runner, rows, pooling
        self._sequences = [runner.sequence(len(ids)) for ids in rows]
        self._sums = np.zeros((len(rows), runner.spec.width), np.float64)
        self.bytes = sum(runner.sequence_bytes(len(ids), 0, 0) for ids in rows)

    def step(self) -> bool:
        """Reads at most `CHUNK` tokens; whether all have been read."""
        left, parts, places = CHUNK, [], []
        for i, (ids, sequence) in enumerate(zip(self._rows, self._sequences, strict=True)):
            chunk = ids[sequence.length : sequence.length + left]
            if chunk:
                parts.append((sequence, chunk, self._wanted(sequence.length, len(ids) - len(chunk))))
                places.append((i, sequence.length))
                left -= len(chunk)
        for (i, begun), out in zip(places, self._runner.step(parts), strict=True):
            if out is not None:
                match self._pooling.mode:
                    case "mean":
                        self._sums[i] += out.sum(0, dtype=np.float64) / len(self._rows[i])
                    case "last":
                        self._sums[i] = out[-1]
                    case "first" if begun == 0:
                        self._sums[i] = out[0]
        return all(s.length == len(ids) for s, ids in zip(self._sequences, self._rows, strict=True))

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, W), once all have been read."""
        found = self._sums.astype(np.float32)
        return self._pooling.normalized(found) if self._pooling.normalize else found

    def _wanted(self, begun: int, last: int) -> Wanted:
        """Of a chunk that begins at `begun`, where the last chunk begins at `last`."""
        match self._pooling.mode:
            case "mean":
                return "all"
            case "last":
                return "last" if begun == last else "none"
        return "all" if begun == 0 else "none"
