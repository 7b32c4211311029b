"""Sequences of the native engine in company: they join, leave, fork and rewind, their tokens come in random chunks, and
each gives what it gives alone; where matrices are integers, to the last bit."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cases
import numpy as np
import pytest
from cases import TOKENS
from test_architectures import model_of
from test_native import CLOSE, engine_for, engine_of

import vitruvius as vt
from vitruvius.inference.native import Engine
from vitruvius.native import library as native
from vitruvius.native.running import Logits
from vitruvius.native.sequence import Sequence

pytestmark = pytest.mark.skipif(native.library() is None, reason="python -m vitruvius.native.build")
MOST = 4  # sequences side by side
STEPS = 25


@dataclass
class Reader:
    """A sequence, the tokens that it is to read, and what each gives alone."""

    sequence: Sequence
    ids: list[int]
    alone: Logits


class Company:
    """A random schedule of an engine's sequences."""

    def __init__(self, engine: Engine, seed: str, texts: int = 3) -> None:
        self.engine, self.chance = engine, random.Random(seed)
        self.texts = [self._text() for _ in range(texts)]
        self.alone = [engine([text])[0] for text in self.texts]
        self.readers: list[Reader] = []

    def _text(self) -> list[int]:
        return [self.chance.randrange(self.engine.spec.embedding.vocab) for _ in range(TOKENS)]

    def turn(self) -> list[tuple[Logits, Logits]]:
        """Somebody may join, leave, fork or rewind, then some read on: what they give, and give alone."""
        chance, readers = self.chance, self.readers
        if len(readers) < MOST and chance.random() < 0.6:
            text = chance.randrange(len(self.texts))
            made = self.engine.sequence(TOKENS, slack=chance.choice((0, 5, TOKENS)))
            readers.append(Reader(made, self.texts[text], self.alone[text]))
        if readers and chance.random() < 0.3:
            one = chance.choice(readers)
            readers.append(Reader(one.sequence.fork(), one.ids, one.alone))
        if readers and chance.random() < 0.3:
            chance.choice(readers).sequence.snapshot()
        if readers and chance.random() < 0.3:
            one = chance.choice(readers).sequence
            one.rewind(one.reach(chance.randint(0, one.length)))
        if len(readers) > MOST or (readers and chance.random() < 0.1):
            readers.pop(chance.randrange(len(readers)))
        return self.read([one for one in readers if one.sequence.length < TOKENS and chance.random() < 0.8])

    def read(self, readers: list[Reader]) -> list[tuple[Logits, Logits]]:
        """Some more tokens of each."""
        spans = []
        for one in readers:
            start = one.sequence.length
            spans.append((start, start + self.chance.randint(1, self.chance.choice((1, 6, TOKENS - start)))))
        spans = [(start, min(end, TOKENS)) for start, end in spans]
        outputs = self.engine.step(
            [(one.sequence, one.ids[a:b], "all") for one, (a, b) in zip(readers, spans, strict=True)]
        )
        return [(out, one.alone[a:b]) for out, one, (a, b) in zip(outputs, readers, spans, strict=True)]


@pytest.mark.parametrize("case", cases.PLAIN)
def test_each_gives_what_it_gives_alone(case: str) -> None:
    company = Company(engine_for(case), case)
    for _ in range(STEPS):
        for got, wanted in company.turn():
            worst = float(np.abs(got - wanted).max())
            assert worst <= 2 * CLOSE, f"differs by {worst:.1e}"
            best, second = np.sort(wanted, -1)[:, -1], np.sort(wanted, -1)[:, -2]
            clear = best - second > 4 * CLOSE
            assert np.array_equal(got.argmax(-1)[clear], wanted.argmax(-1)[clear])


INTEGERS = ("q8", "q4", "q4m")


@pytest.mark.parametrize("number", range(0, len(cases.PLAIN), 4))
def test_bits_are_those_of_a_sequence_alone(number: int) -> None:
    """Of one thread, with matrices of integers. (Products with floats add up in another order for one row than for
    many, and threads cut attention by all that there is to do.)"""
    case = list(cases.PLAIN)[number]
    company = Company(engine_of(model_of(case), INTEGERS[number % 3], threads=1), case)
    for _ in range(STEPS):
        for got, wanted in company.turn():
            assert np.array_equal(got, wanted)


def test_a_long_prompt_beside_those_that_decode_is_cut() -> None:
    """512 tokens at a time, so that an interruption is noticed; every row is in one of the calls only."""
    engine = engine_for("llama_no_groups")
    context, calls = engine.spec.context, []
    plain = engine._running.step

    def step(sequences: list[object], counts: list[int], *rest: object) -> None:
        calls.append(counts)
        plain(sequences, counts, *rest)  # type: ignore[arg-type]

    many = [engine.sequence(context) for _ in range(-(-1200 // context))]
    rows = [[1 + i % 80 for i in range(context)] for _ in many]
    engine._running.step = step  # type: ignore[method-assign]
    try:
        short = engine.sequence(4)
        engine.step([(short, [5], "last"), *((s, row, "none") for s, row in zip(many, rows, strict=True))])
    finally:
        del engine._running.step  # type: ignore[method-assign]
    assert len(calls) == -(-(1 + context * len(many)) // 512)
    assert max(map(sum, calls)) <= 512
    assert [sequence.length for sequence in (short, *many)] == [1, *[context] * len(many)]


def test_a_shared_prompt_is_there_once() -> None:
    engine = engine_for("llama_no_groups")
    first = engine.sequence()
    engine.step([(first, [1 + i % 80 for i in range(engine.spec.context - 8)], "none")])
    alone = first.nbytes
    forks = [first.fork() for _ in range(7)]
    assert [fork.nbytes for fork in forks] == [0] * 7
    engine.step([(fork, [3 + i], "none") for i, fork in enumerate(forks)])
    together = first.nbytes + sum(fork.nbytes for fork in forks)
    page = forks[0].nbytes
    assert together <= alone + 7 * page
    del first
    assert sum(fork.nbytes for fork in forks) == alone - page + 7 * page
    with pytest.raises(vt.InputError, match="cannot return to"):
        forks[0].rewind(engine.spec.context)
