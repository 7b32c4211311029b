"""Guesses of the next tokens by what followed the last ones where they stood before.

Prompt look-up decoding (A. Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): texts that repeat their prompt,
summaries and edits of code, are guessed well, and a guess costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 3, 2  # tokens that must be the same before a guess


class Lookup:
    """Where each run of tokens of one text was seen last."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._seen = 0

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `ids`, of which those of earlier calls are the beginning."""
        for end in range(self._seen + 1, len(ids)):  # the run at the very end has nothing after it yet
            for n in range(SHORTEST, min(LONGEST, end) + 1):
                self._ends[tuple(ids[end - n : end])] = end
        self._seen = max(self._seen, len(ids) - 1)
        for n in range(min(LONGEST, len(ids)), SHORTEST - 1, -1):
            if (found := self._ends.get(tuple(ids[-n:]))) is not None:
                return list(ids[found : found + count])
        return []
