"""From logits to the next token.

Logits are changed in this order: the request's own processors, the bias of single tokens, the repetition penalty
(transformers, generation/logits_process.py), the frequency and the presence penalty (OpenAI's, which count new tokens
only), the temperature, then top-k, top-p and min-p, each on what the one before has left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Logits = NDArray[np.floating]
Floats = NDArray[np.float64]
Processor = Callable[[Sequence[int], Logits], Logits]
"""The ids of a sequence so far and the logits (V,) of what comes next -> changed logits; -inf forbids a token."""


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
        presence_penalty: is subtracted from the logits of tokens that were written.
        frequency_penalty: is subtracted as often as they were written.
        logit_bias: token id -> what is added to its logit.
        seed: of the random numbers, which belong to one request: see `generator`.

    Raises InputError for values outside their range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        top_p, min_p = self.top_p, self.min_p
        _require(_finite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "at least 0")
        _require(self.top_k is None or _whole(self.top_k, 1), "top_k", self.top_k, "a whole number of at least 1")
        _require(top_p is None or (_finite(top_p) and 0 < top_p <= 1), "top_p", top_p, "above 0 and at most 1")
        _require(min_p is None or (_finite(min_p) and 0 <= min_p <= 1), "min_p", min_p, "from 0 to 1")
        penalty = self.repetition_penalty
        _require(_finite(penalty) and penalty > 0, "repetition_penalty", penalty, "above 0")
        for name, value in (("presence", self.presence_penalty), ("frequency", self.frequency_penalty)):
            _require(_finite(value), f"{name}_penalty", value, "a number")
        bias = self.logit_bias
        ok = isinstance(bias, Mapping) and all(_whole(i, 0) and _finite(b) for i, b in bias.items())
        _require(ok, "logit_bias", bias, "token ids with a number for each")
        _require(self.seed is None or _whole(self.seed, 0), "seed", self.seed, "a whole number of at least 0")

    def generator(self) -> np.random.Generator:
        """The random numbers of one request, the same each time where there is a seed."""
        return np.random.default_rng(self.seed)

    def choose(self, logits: Logits, ids: Sequence[int], new: int, random: np.random.Generator) -> int:
        """The next token.

        Args:
            logits: (V,).
            ids: the tokens so far, prompt included; the last `new` of them were written.
            random: gives one number, if the temperature is above 0.

        Raises InputError where logits are not numbers, or all are -inf.
        """
        logits = self.adjusted(logits, ids, new)
        best = int(logits.argmax())
        if np.isnan(logits[best]):  # argmax finds the first NaN, if there is one
            raise InputError("the model's logits are not numbers (NaN); a wider dtype such as float32 may help")
        if logits[best] == -np.inf:
            raise InputError("no token is left to choose from: every logit is -inf")
        if self.temperature == 0:
            return best
        tokens, probabilities = self.distribution(logits)
        reached = probabilities.cumsum()
        return int(tokens[np.searchsorted(reached[:-1], random.random() * reached[-1], "right")])

    def adjusted(self, logits: Logits, ids: Sequence[int], new: int) -> Logits:
        """The logits (V,) after bias and penalties: see `choose`."""
        if self.logit_bias:
            logits = logits.copy()
            for token, bias in self.logit_bias.items():
                if token >= len(logits):
                    raise InputError(f"logit_bias names the token {token}, and ids run from 0 to {len(logits) - 1}")
                logits[token] += bias
        if self.repetition_penalty != 1.0:
            logits = penalize(logits, ids, self.repetition_penalty)
        if new and (self.frequency_penalty or self.presence_penalty):
            counts = np.bincount(ids[-new:], minlength=len(logits))[: len(logits)]
            change = self.frequency_penalty * counts + self.presence_penalty * (counts > 0)
            logits = (logits - change).astype(logits.dtype)
        return logits

    def distribution(self, logits: Logits) -> tuple[NDArray[np.int64], Floats]:
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


def penalize(logits: Logits, seen: Sequence[int], penalty: float) -> Logits:
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


def log_softmax(logits: Logits) -> Floats:
    """Logits (…, V) -> log-probabilities, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _normalized(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())


def _finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise InputError(f"{name} must be {rule}, got {value!r}")
