"""Whether guesses of the next tokens pay: by how many of the latest ones were right.

A guess that is checked in a step is one more row of it, so it costs about as much as its share of a step's work, and
is worth a whole step where it is right.
"""

from __future__ import annotations

from collections import deque

LEAST = 0.3  # of the latest guesses must be right, each of which is a row more
LATEST = 24  # guesses that are remembered
PAUSE = 64  # tokens written without guesses, before a few are tried again
MOST_ROWS = 16  # guesses of a step, of all requests: beyond, its matrices are busy with those who write anyway


class Payoff:
    """Of one request."""

    def __init__(self) -> None:
        self._latest: deque[bool] = deque(maxlen=LATEST)
        self._pause = 0

    def pays(self) -> bool:
        """Whether to guess the next tokens; asked once for each token that is written in a step of its own."""
        if self._pause:
            self._pause -= 1
        return not self._pause

    def told(self, guessed: int, right: int) -> None:
        """So many tokens were guessed, of which the first `right` were right."""
        self._latest.extend([True] * right + [False] * (guessed - right))
        if len(self._latest) == LATEST and sum(self._latest) < LEAST * LATEST:
            self._latest.clear()
            self._pause = PAUSE
