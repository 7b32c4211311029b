"""How much of a held-out text also stands in the training text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 32  # tokens
BLOCK = 1 << 22  # tokens of the training text at a time
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def shared(held: NDArray[np.integer], training: NDArray[np.integer]) -> float:
    """The share of the held-out tokens that are part of a run of `WINDOW` which stands in the training text too.

    Every window of the held-out text is looked for. The training text is read once, in blocks.
    """
    if len(held) < WINDOW or len(training) < WINDOW:
        return 0.0
    windows = _hashes(held)
    known, places = np.unique(windows, return_inverse=True)
    found = np.zeros(len(known), bool)
    for start in range(0, len(training) - WINDOW + 1, BLOCK):
        these = _hashes(training[start : start + BLOCK + WINDOW - 1])
        at = np.searchsorted(known, these)
        at[at == len(known)] = 0
        found[at[known[at] == these]] = True
    hits = found[places].astype(np.int64)
    covered = np.zeros(len(held) + 1, np.int64)
    covered[: len(hits)] += hits
    covered[WINDOW : WINDOW + len(hits)] -= hits
    return float(np.mean(np.cumsum(covered)[:-1] > 0))


def _hashes(tokens: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Of every window: Σ t_i · f^(WINDOW − 1 − i) modulo 2⁶⁴, by Horner's rule."""
    count = len(tokens) - WINDOW + 1
    values = tokens.astype(np.uint64) + np.uint64(1)
    total = np.zeros(count, np.uint64)
    for i in range(WINDOW):
        total = total * _FACTOR + values[i : i + count]
    return total ^ (total >> np.uint64(29))
