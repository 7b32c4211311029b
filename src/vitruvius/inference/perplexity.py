"""Perplexity of a text by a sliding window: how many tokens a model hesitates between, on average."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from ..errors import InputError
from .runner import Logits, Runner

AT_ONCE = 256  # tokens whose logits are in memory at a time


@dataclass(frozen=True)
class Perplexity:
    """What a model makes of a text.

    Args:
        tokens: of the text; `scored` of them were predicted, all but the first.
        nats: −Σ ln p of the scored tokens.
        nbytes: the text's, in UTF-8.
        context: tokens of a window; `stride` is how much further the next one begins.
    """

    tokens: int
    scored: int
    nats: float
    nbytes: int
    context: int
    stride: int

    @property
    def loss(self) -> float:
        """Nats per token, the mean cross-entropy."""
        return self.nats / self.scored

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return exp(self.loss) if self.loss < 700 else float("inf")

    @property
    def bits_per_byte(self) -> float:
        """Bits for each byte of the text, which tokenizers of any size can be compared by; the first token is free."""
        return self.nats / log(2) / self.nbytes


def windows(tokens: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first scored, end) of windows of at most `context` tokens, each `stride` further: every token but the
    first is scored once, in the first window that holds it (as in transformers' guide to perplexity of models of fixed
    length)."""
    scored = 1
    for begin in range(0, tokens, stride):
        end = min(begin + context, tokens)
        if end > scored:
            yield begin, scored, end
        scored = max(scored, end)
        if end == tokens:
            return


def nats(logits: Logits, targets: Sequence[int]) -> float:
    """−Σ ln softmax(logits)[target], in float64; logits (T, V)."""
    x = logits.astype(np.float64)
    top = x.max(-1, keepdims=True)
    normalizer = np.log(np.exp(x - top).sum(-1)) + top[:, 0]
    return float((normalizer - x[np.arange(len(x)), np.asarray(targets)]).sum())


def perplexity(
    runner: Runner,
    ids: Sequence[int],
    nbytes: int,
    context: int,
    stride: int | None = None,
    progress: Callable[[int], None] = lambda scored: None,
) -> Perplexity:
    """Scores a text's tokens.

    Args:
        runner: what runs the model.
        ids: the tokens of the text.
        nbytes: its bytes.
        context: the tokens of a window; a model's own context at most.
        stride: how much further the next window begins; half of the context, if None.
        progress: is told how many tokens are scored.

    Raises InputError for fewer than two tokens and for windows that leave tokens out.
    """
    stride = max(1, context // 2) if stride is None else stride
    if len(ids) < 2:
        raise InputError(f"a text of {len(ids)} tokens cannot be scored: the first is only read, so it takes two")
    if context < 2 or context > runner.spec.context:
        raise InputError(f"--context must be 2 to {runner.spec.context:,}, the model's own, got {context:,}")
    if not 1 <= stride < context:
        raise InputError(f"--stride must be 1 to {context - 1:,}, less than the context, got {stride:,}")
    if not runner.spec.writes or runner.spec.encoder:
        raise InputError(f"{runner.spec.name} does not predict the next token of a text, which perplexity is about")
    total, scored = 0.0, 0
    for begin, first, end in windows(len(ids), context, stride):
        sequence = runner.sequence(end - begin)
        before = list(ids[begin : first - 1])  # read without scores
        if before:
            runner.step([(sequence, before, "none")])
        for start in range(first - 1, end - 1, AT_ONCE):
            stop = min(start + AT_ONCE, end - 1)
            (logits,) = runner.step([(sequence, list(ids[start:stop]), "all")])
            assert logits is not None
            total += nats(logits, ids[start + 1 : stop + 1])
            scored += stop - start
            progress(scored)
    return Perplexity(len(ids), scored, total, nbytes, context, stride)
