"""From logits to the next token.

Logits are changed in the order of transformers' `GenerationMixin` (generation/utils.py): the repetition penalty, the
temperature, then top-k, top-p and min-p, each on what the one before has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the next token is chosen.

    Args:
        temperature: logits are divided by it before they become probabilities; 0 takes the most probable token.
        top_k: only the k most probable tokens (and what ties with the last of them).
        top_p: only the most probable tokens that together reach this probability (Holtzman et al. 2020, arXiv
            1904.09751).
        min_p: only tokens at least this likely relative to the most probable one (Nguyen et al. 2024, arXiv
            2407.01082).
        repetition_penalty: positive logits of tokens that the sequence already holds are divided by it, negative ones
            multiplied. Keskar et al. 2019, arXiv 1909.05858, section 4.1.
        seed: of the random numbers; a row of a batch has its own, which do not depend on the other rows.

    Raises InputError for values outside their range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    _rows: list[np.random.Generator] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        top_p, min_p = self.top_p, self.min_p
        _require(_finite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "at least 0")
        _require(self.top_k is None or _whole(self.top_k, 1), "top_k", self.top_k, "a whole number of at least 1")
        _require(top_p is None or (_finite(top_p) and 0 < top_p <= 1), "top_p", top_p, "above 0 and at most 1")
        _require(min_p is None or (_finite(min_p) and 0 <= min_p <= 1), "min_p", min_p, "from 0 to 1")
        penalty = self.repetition_penalty
        _require(_finite(penalty) and penalty > 0, "repetition_penalty", penalty, "above 0")
        _require(self.seed is None or _whole(self.seed, 0), "seed", self.seed, "a whole number of at least 0")

    def choose(self, logits: NDArray[np.floating], history: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """The next token of each row.

        Args:
            logits: (B, V).
            history: the tokens of each row so far, prompt included.

        Returns ids (B,). Raises InputError where logits are not numbers.
        """
        rows = zip(logits, history, self._generators(len(logits)), strict=True)
        return np.array([self._choose(row, seen, random) for row, seen, random in rows], np.int64)

    def _choose(self, logits: NDArray[np.floating], seen: Sequence[int], random: np.random.Generator) -> int:
        if self.repetition_penalty != 1.0:
            logits = penalize(logits, seen, self.repetition_penalty)
        best = int(logits.argmax())
        if np.isnan(logits[best]):  # argmax finds the first NaN, if there is one
            raise InputError("the model's logits are not numbers (NaN); a wider dtype such as float32 may help")
        if self.temperature == 0:
            return best
        tokens, probabilities = self.distribution(logits)
        reached = probabilities.cumsum()
        return int(tokens[np.searchsorted(reached[:-1], random.random() * reached[-1], "right")])

    def distribution(self, logits: NDArray[np.floating]) -> tuple[NDArray[np.int64], Floats]:
        """What may come after one row of logits (V,), and their probabilities; for a temperature above 0."""
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        tokens = np.arange(len(scaled))
        if self.top_k is not None and self.top_k < len(scaled):
            tokens = np.flatnonzero(scaled >= np.partition(scaled, -self.top_k)[-self.top_k])
        probabilities = _normalized(np.exp(scaled[tokens]))
        if self.top_p is not None:
            kept = nucleus(probabilities, self.top_p)
            tokens, probabilities = tokens[kept], _normalized(probabilities[kept])
        if self.min_p is not None:
            kept = np.flatnonzero(probabilities >= self.min_p * probabilities.max())
            tokens, probabilities = tokens[kept], _normalized(probabilities[kept])
        return tokens, probabilities

    def _generators(self, rows: int) -> list[np.random.Generator]:
        """A generator of random numbers for each row."""
        for row in range(len(self._rows), rows):
            self._rows.append(np.random.default_rng(None if self.seed is None else (self.seed, row)))
        return self._rows[:rows]


def penalize(logits: NDArray[np.floating], seen: Sequence[int], penalty: float) -> NDArray[np.floating]:
    """The logits (V,) with those of tokens already seen made less likely."""
    tokens = np.unique(np.asarray(seen, np.int64))
    tokens = tokens[tokens < len(logits)]  # an embedding may have more rows than the head
    changed = logits.copy()
    changed[tokens] = np.where(logits[tokens] < 0, logits[tokens] * penalty, logits[tokens] / penalty)
    return changed


def nucleus(probabilities: Floats, top_p: float) -> NDArray[np.int64]:
    """Places in `probabilities` (N,) of the fewest tokens that together reach `top_p`, the most probable first."""
    tail = 1 - top_p
    # what is at most tail / N is cut in any case, since N such tokens stay within the tail: only others need sorting
    likely = np.flatnonzero(probabilities > tail / len(probabilities))
    likely = likely[probabilities[likely].argsort(kind="stable")]
    below = 1 - probabilities[likely].sum() + probabilities[likely].cumsum()
    cut = int(np.searchsorted(below, tail, "right"))
    return likely[min(cut, len(likely) - 1) :][::-1]


def _normalized(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())


def _finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise InputError(f"{name} must be {rule}, got {value!r}")
