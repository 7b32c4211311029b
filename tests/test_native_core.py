"""The native engine's core: attention against numpy, sequences, threads, refusals."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_plan import SIMD, Engine, Floats, PlanOfTest, random
from numpy.typing import NDArray

from vitruvius.errors import InputError

# ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────

PLAIN: dict[str, Any] = {"heads": 6, "kv": 2, "k_dim": 24, "v_dim": 16, "mask": "causal", "size": 0}
ATTENTION: dict[str, dict[str, Any]] = {
    "causal": {},
    "many heads share a key": {"heads": 20, "kv": 1},
    "own keys": {"heads": 4, "kv": 4, "k_dim": 10, "v_dim": 12},
    "wide": {"heads": 3, "kv": 3, "k_dim": 64, "v_dim": 80, "scale": 0.125},
    "window": {"mask": "window", "size": 21},
    "window of one": {"mask": "window", "size": 1},
    "chunk": {"mask": "chunk", "size": 24},
    "softcap": {"softcap": 1.5, "scale": 0.9},
    "sinks": {"sinks": True, "mask": "window", "size": 9},
    "bias": {"bias": 13},
    "length": {"length": 20},
    "first": {"first": 3},
    "latent": {"heads": 5, "kv": 1, "k_dim": 40, "v_dim": 0, "shared": 28},
    "latent, many heads": {"heads": 18, "kv": 1, "k_dim": 24, "v_dim": 0, "shared": 18, "mask": "window", "size": 30},
    "selected": {"mask": "selected", "size": 6},
}


class Case:
    """Random queries, keys and values of some tokens, and what attention gives for them."""

    def __init__(self, tokens: int, **options: Any) -> None:
        rng = np.random.default_rng(tokens)
        self.o = o = PLAIN | {"softcap": 0.0, "scale": 0.3, "shared": 0, "length": 0, "first": 0, "bias": 0} | options
        self.tokens, self.value_dim = tokens, o["v_dim"] or o["shared"]
        self.widths = [o["heads"] * o["k_dim"], o["kv"] * o["k_dim"], max(1, o["kv"] * o["v_dim"])]
        picks = o["size"] + 1 if o["mask"] == "selected" else 0
        self.inputs = random(tokens, sum(self.widths) + max(1, picks), rng=rng)
        self.sinks = random(o["heads"], rng=rng) if o.get("sinks") else None
        self.bias = random(o["heads"], o["bias"], rng=rng) if o["bias"] else None
        self.chosen = np.zeros((tokens, picks), np.int32)
        for p in range(tokens if picks else 0):
            chosen = np.sort(rng.permutation(p + 1)[: o["size"]])
            self.chosen[p, 0], self.chosen[p, 1 : 1 + len(chosen)] = len(chosen), chosen
        if picks:
            self.inputs[:, sum(self.widths) :] = self.chosen.view(np.float32)

    def plan(self, max_rows: int) -> PlanOfTest:
        o, plan = self.o, PlanOfTest(self.inputs, max_rows)
        q, k, v, chosen = plan.cut(*self.widths, self.inputs.shape[1] - sum(self.widths))
        window = o["size"] if o["mask"] in ("window", "chunk") else 0
        state = plan.state(o["kv"], o["k_dim"], o["v_dim"], o["shared"], window)
        y = plan.buffer(o["heads"] * self.value_dim)
        plan.op("keep", k=k, v=v if o["v_dim"] else -1, state=state)
        plan.op(
            "attend",
            q=q,
            y=y,
            state=state,
            sinks=plan.vector(self.sinks),
            bias=plan.vector(self.bias),
            selection=chosen if o["mask"] == "selected" else -1,
            **{name: o[name] for name in ("heads", "scale", "softcap", "mask", "length", "first")},
            size=window,
        )
        plan.out(y)
        return plan

    def seen(self, p: int) -> NDArray[np.intp]:
        """The positions that the query at p sees."""
        o, k = self.o, np.arange(p + 1)
        seen = k >= o["first"]
        if o["mask"] == "window":
            seen &= p - k < o["size"]
        if o["mask"] == "chunk":
            seen &= p // o["size"] == k // o["size"]
        if o["mask"] == "selected":
            seen &= np.isin(k, self.chosen[p, 1 : 1 + self.chosen[p, 0]])
        return np.flatnonzero(seen)

    def expected(self) -> NDArray[np.float64]:
        """softmax over absolute positions, (tokens, heads · value_dim)."""
        o, x = self.o, self.inputs.astype(np.float64)
        q, k, v = np.split(x[:, : sum(self.widths)], np.cumsum(self.widths)[:2], 1)
        q, k = q.reshape(self.tokens, o["heads"], -1), k.reshape(self.tokens, o["kv"], -1)
        v = v.reshape(self.tokens, o["kv"], -1) if o["v_dim"] else k[..., : o["shared"]]
        y = np.zeros((self.tokens, o["heads"], self.value_dim))
        for p in range(self.tokens):
            seen = self.seen(p)
            for head in range(o["heads"] if len(seen) else 0):
                group = head * o["kv"] // o["heads"]
                scores = o["scale"] * (k[seen, group] @ q[p, head])
                if self.bias is not None:
                    scores = scores + self.bias[head, np.minimum(p - seen, o["bias"] - 1)]
                if o["softcap"]:
                    scores = o["softcap"] * np.tanh(scores / o["softcap"])
                if o["length"] and p > o["length"]:
                    scores = scores * np.log(p) / np.log(o["length"])
                sink = self.sinks[head] if self.sinks is not None else -np.inf
                weights = np.exp(scores - max(scores.max(), sink))
                y[p, head] = weights @ v[seen, group] / (weights.sum() + np.exp(sink - max(scores.max(), sink)))
        return y.reshape(self.tokens, -1)


def feed(engine: Engine, sequence: ctypes.c_void_p, chunks: list[int]) -> Floats:
    """The tokens 0, 1, 2 … in chunks."""
    starts = np.cumsum([0, *chunks])
    return np.concatenate([engine.step((sequence, range(a, a + n))) for a, n in zip(starts, chunks, strict=False)])


# a float16 is wrong by up to 1/2048 of a number; an int8 by up to 1/254 of the largest of its 32 numbers (here 2 to 3)
BOUNDS = {"f32": 3e-6, "f16": 4e-3, "q8": 6e-2}


@pytest.mark.parametrize("simd", SIMD)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, simd: str) -> None:
    case = Case(150, **ATTENTION[name])
    expected = case.expected()
    for dtype, bound in BOUNDS.items():
        with case.plan(max_rows=32).engine(simd, threads=2) as engine:
            for chunks in ([150], [1, 31, 1, 60, 17, 1, 39], [149, 1]):
                y = feed(engine, engine.sequence(160, dtype=dtype), chunks)
                np.testing.assert_allclose(y, expected, 0, bound, err_msg=f"{dtype} {chunks}")
                if dtype != "f32":
                    assert np.abs(y - expected).mean() < bound / 10


@pytest.mark.parametrize("simd", SIMD)
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["causal", "window", "latent"])
def test_sequences_of_different_lengths(name: str, simd: str, threads: int) -> None:
    """Each stands where it stands, whatever the others do."""
    case = Case(140, **ATTENTION[name])
    expected = case.expected()
    with case.plan(max_rows=24).engine(simd, threads) as engine:
        a, b, c = (engine.sequence(140) for _ in range(3))
        feed(engine, a, [70])
        feed(engine, b, [3])
        for counts in ([1, 1, 1], [5, 40, 1], [1, 1, 60], [1, 1, 1]):
            starts = [engine.library.get("vt_sequence_length", s) for s in (a, b, c)]
            spans = [range(start, start + n) for start, n in zip(starts, counts, strict=True)]
            y = engine.step(*zip((a, b, c), spans, strict=True))
            np.testing.assert_allclose(y, np.concatenate([expected[list(span)] for span in spans]), 0, 3e-6)


@pytest.mark.parametrize("simd", SIMD)
def test_rewinding(simd: str) -> None:
    case = Case(120, **ATTENTION["window"])
    expected = case.expected()
    with case.plan(max_rows=16).engine(simd) as engine:
        sequence = engine.sequence(120, slack=32)  # a ring of 21 + 32, rounded up to 64
        feed(engine, sequence, [100])
        assert engine.library.get("vt_sequence_reach", sequence, 70) == 70
        assert engine.library.get("vt_sequence_reach", sequence, 40) == 0  # its query would see 20 … 40
        with pytest.raises(InputError, match="cannot return to 40 tokens; the nearest is 0"):
            engine.library.call("vt_sequence_rewind", sequence, 40)
        engine.library.call("vt_sequence_rewind", sequence, 70)
        np.testing.assert_allclose(engine.step((sequence, range(70, 120))), expected[70:], 0, 3e-6)
        engine.library.call("vt_sequence_rewind", sequence, 0)
        np.testing.assert_allclose(feed(engine, sequence, [90, 1]), expected[:91], 0, 3e-6)


def convolving(tokens: int) -> PlanOfTest:
    """A plan whose state cannot go back: y is the sum of the last four inputs."""
    plan = PlanOfTest(random(tokens, 24))
    y = plan.buffer(24)
    plan.op("conv", x=plan.x, y=y, state=plan.state(fixed=3 * 24), weight=plan.vector(np.ones((4, 24))), kernel=4)
    plan.out(y)
    return plan


def test_snapshots() -> None:
    x = random(30, 24).astype(np.float64)
    expected = sum(np.pad(x, ((i, 0), (0, 0)))[:30] for i in range(4))
    with convolving(30).engine(SIMD[0]) as engine:
        sequence, library = engine.sequence(), engine.library
        for end in (10, 15, 20):
            feed_from(engine, sequence, end)
            library.call("vt_sequence_snapshot", sequence, 2)
        feed_from(engine, sequence, 27)
        assert [library.get("vt_sequence_reach", sequence, n) for n in (27, 26, 19, 14)] == [27, 20, 15, 0]
        for target in (20, 15, 0):
            library.call("vt_sequence_rewind", sequence, target)
            np.testing.assert_allclose(feed_from(engine, sequence, 30), expected[target:], 0, 1e-5)


def feed_from(engine: Engine, sequence: ctypes.c_void_p, end: int) -> Floats:
    """The tokens from where the sequence stands to `end`."""
    return engine.step((sequence, range(engine.library.get("vt_sequence_length", sequence), end)))


def again_and_again(engine: Engine, sequence: ctypes.c_void_p) -> None:
    """On a busy machine the thread that interrupts may not run before one step is done."""
    for _ in range(1000):
        engine.step((sequence, [7] * 4096))
        engine.library.call("vt_sequence_rewind", sequence, 0)


def test_interruption() -> None:
    """What was finished is kept; a state that cannot go back must be rewound."""
    plan = convolving(30)
    with plan.engine(SIMD[0], threads=2) as engine:
        sequence, library = engine.sequence(4096), engine.library
        done = threading.Event()

        def interrupting() -> None:
            while not done.is_set():
                library.get("vt_interrupt", engine.handle)

        other = threading.Thread(target=interrupting)
        other.start()
        try:
            with pytest.raises(InputError, match=r"^interrupted$"):
                again_and_again(engine, sequence)
        finally:
            done.set()
            other.join()
        assert library.get("vt_sequence_length", sequence) % plan.max_rows == 0
        with pytest.raises(InputError, match="was interrupted: rewind it first"):
            engine.step((sequence, [1]))
        library.call("vt_sequence_rewind", sequence, 0)
        assert engine.step((sequence, range(30))).shape == (30, 24)


def bytes_of(engine: Engine, sequence: ctypes.c_void_p) -> int:
    return engine.library.get("vt_sequence_bytes", sequence)


def test_bytes_of_a_sequence() -> None:
    """Pages of 64 tokens, once something is in them; windows keep what they see and what a pass needs; the dtypes
    take what they say."""
    for window, slots in ((0, 320), (64, 128)):
        options = {"mask": "window", "size": 64} if window else {}
        case = Case(300, heads=4, kv=4, k_dim=64, v_dim=64, **options)
        with case.plan(max_rows=17).engine(SIMD[0]) as engine:
            for dtype, number in (("f32", 128 * 4), ("f16", 128 * 2), ("q8", 128 * 34 // 32)):
                sequence = engine.sequence(4096, dtype=dtype)
                assert bytes_of(engine, sequence) == 0
                feed(engine, sequence, [10])
                assert bytes_of(engine, sequence) == 64 * 4 * number
                feed_from(engine, sequence, 300)
                assert bytes_of(engine, sequence) == slots * 4 * number
                engine.library.call("vt_sequence_rewind", sequence, 0)
                assert bytes_of(engine, sequence) == 0


# ── forks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def forked(engine: Engine, sequence: ctypes.c_void_p) -> ctypes.c_void_p:
    engine.sequences.append(engine.library.make("vt_sequence_fork", sequence))
    return engine.sequences[-1]


def freed(engine: Engine, sequence: ctypes.c_void_p) -> None:
    engine.sequences.remove(sequence)
    engine.library.get("vt_sequence_free", sequence)


@pytest.mark.parametrize("simd", SIMD)
@pytest.mark.parametrize("writer", ["the sequence", "its fork"])
def test_who_writes_disturbs_nobody(writer: str, simd: str) -> None:
    """Two that share a prefix go on in turn with different tokens; each gives what it gives alone."""
    case = Case(200, **ATTENTION["causal"])
    case.inputs = np.concatenate((case.inputs, np.roll(case.inputs, 1, 0)))  # ids from 200 on are other tokens
    with case.plan(32).engine(simd, threads=2) as engine:
        sequence, alone = engine.sequence(200), engine.sequence(200)
        feed(engine, sequence, [100])
        fork = forked(engine, sequence)
        first, second = (sequence, fork) if writer == "the sequence" else (fork, sequence)
        others = [engine.step((first, range(300, 350)))]
        own = [engine.step((second, range(100, 110)))]
        others.append(engine.step((first, range(350, 400))))
        own.append(engine.step((second, range(110, 200))))
        for ids, got in (([*range(100), *range(300, 400)], others), (range(200), own)):
            engine.library.call("vt_sequence_rewind", alone, 0)
            np.testing.assert_allclose(np.concatenate(got), engine.step((alone, ids))[100:], 0, 3e-6)


def test_a_shared_prefix_is_there_once() -> None:
    case = Case(300)
    page = 64 * 2 * (24 + 16) * 4
    with case.plan(32).engine(SIMD[0]) as engine:
        sequence = engine.sequence(300)
        feed(engine, sequence, [200])  # three pages and a part of the fourth
        forks = [forked(engine, sequence) for _ in range(3)]
        everyone = [sequence, *forks]
        assert [bytes_of(engine, s) for s in everyone] == [4 * page, 0, 0, 0]
        engine.step((forks[0], [200]))
        assert [bytes_of(engine, s) for s in everyone] == [4 * page, page, 0, 0], "it has the fourth for itself"
        engine.step((sequence, range(200, 260)))
        assert sum(bytes_of(engine, s) for s in everyone) == 3 * page + (1 + 2 + 1) * page
        freed(engine, sequence)
        assert sum(bytes_of(engine, s) for s in forks) == 3 * page + 2 * page, "the prefix is still there, once"
        y = engine.step((forks[1], range(200, 300)))
        np.testing.assert_allclose(y, case.expected()[200:], 0, 3e-6)


def test_pages_that_were_let_go_are_used_again() -> None:
    case = Case(300)
    with case.plan(32).engine(SIMD[0]) as engine:

        def turn() -> int:
            sequence = engine.sequence(300)
            feed(engine, sequence, [250])
            fork = forked(engine, sequence)
            engine.step((fork, range(250, 300)))
            held = bytes_of(engine, sequence) + bytes_of(engine, fork)
            freed(engine, sequence)
            freed(engine, fork)
            return held

        alone = engine.library.get("vt_engine_bytes", engine.handle)
        held = turn()
        after = engine.library.get("vt_engine_bytes", engine.handle)
        for _ in range(50):
            assert turn() == held
            assert engine.library.get("vt_engine_bytes", engine.handle) == after
        assert alone < after <= alone + 3 * held


@pytest.mark.parametrize("slack", [0, 60])
def test_rings_of_forks(slack: int) -> None:
    """A window's pages go round: a fork reaches what its sequence does, and neither sees the other's tokens."""
    case = Case(300, **ATTENTION["window"])
    expected = case.expected()
    with case.plan(16).engine(SIMD[0]) as engine:
        sequence = engine.sequence(300, slack=slack)
        feed(engine, sequence, [150])
        fork = forked(engine, sequence)
        reaches = [[engine.library.get("vt_sequence_reach", s, n) for n in range(150)] for s in (sequence, fork)]
        assert reaches[0] == reaches[1]
        back = max(reaches[0][:140])
        np.testing.assert_allclose(engine.step((sequence, range(150, 300))), expected[150:], 0, 3e-6)
        engine.library.call("vt_sequence_rewind", fork, back)
        third = forked(engine, fork)
        np.testing.assert_allclose(engine.step((fork, range(back, 300))), expected[back:], 0, 3e-6)
        for end in (back + 1, back + 30, 300):
            start = engine.library.get("vt_sequence_length", third)
            np.testing.assert_allclose(feed_from(engine, third, end), expected[start:end], 0, 3e-6)


def test_snapshots_of_forks() -> None:
    """What is recurrent goes with a fork, and its snapshots do; each goes its own way."""
    x = random(30, 24).astype(np.float64)
    expected = sum(np.pad(x, ((i, 0), (0, 0)))[:30] for i in range(4))
    with convolving(30).engine(SIMD[0]) as engine:
        sequence, library = engine.sequence(), engine.library
        feed_from(engine, sequence, 10)
        library.call("vt_sequence_snapshot", sequence, 2)
        one = bytes_of(engine, sequence)
        feed_from(engine, sequence, 20)
        assert bytes_of(engine, sequence) == 2 * one
        fork = forked(engine, sequence)
        assert bytes_of(engine, fork) == 0
        engine.step((fork, [3] * 7))
        assert bytes_of(engine, fork) == one
        library.call("vt_sequence_rewind", fork, 10)
        np.testing.assert_allclose(feed_from(engine, sequence, 30), expected[20:], 0, 1e-5)
        np.testing.assert_allclose(feed_from(engine, fork, 30), expected[10:], 0, 1e-5)
        freed(engine, sequence)
        library.call("vt_sequence_rewind", fork, 10)
        np.testing.assert_allclose(feed_from(engine, fork, 30), expected[10:], 0, 1e-5)


def test_results_that_are_wanted() -> None:
    x = random(30, 10)
    plan = PlanOfTest(x, max_rows=8)
    plan.out(plan.x)
    with plan.engine(SIMD[0], threads=2) as engine:
        wanted = np.random.default_rng(0).integers(0, 2, 30)
        y = engine.step((engine.sequence(), range(20)), (engine.sequence(), range(20, 30)), wanted=wanted)
        np.testing.assert_array_equal(y, x[wanted == 1])
        assert engine.step((engine.sequence(), range(20)), wanted=[0] * 20).shape == (0, 10)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refuses_what_cannot_be_done() -> None:
    case = Case(40)
    with case.plan(8).engine(SIMD[0]) as engine, case.plan(8).engine(SIMD[0]) as other:
        sequence = engine.sequence(10)
        for parts, text in (
            ([(sequence, range(11))], "sequence 0 holds 10 tokens, and 11 are needed"),
            ([(sequence, [40])], "token ids run from 0 to 39, got 40"),
            ([(sequence, [1]), (sequence, [2])], "sequence 1 is given twice"),
            ([(other.sequence(), [1])], "sequence 0 belongs to another engine"),
            ([(sequence, [])], "sequence 0 needs at least one token"),
        ):
            with pytest.raises(InputError, match=text):
                engine.step(*parts)
        for arguments in ((0, 0, "f32"), (5000, 0, "f32"), (10, -1, "f32")):
            with pytest.raises(InputError):
                engine.sequence(*arguments)
        np.testing.assert_allclose(engine.step((sequence, range(10))), case.expected()[:10], 0, 3e-6)


def test_one_call_at_a_time() -> None:
    """Calls from several threads: each is right or refused."""
    case = Case(150)
    expected, refused, errors = case.expected(), [], []
    with case.plan(32).engine(SIMD[0], threads=2) as engine:

        def work(sequence: ctypes.c_void_p) -> None:
            for _ in range(30):
                try:
                    engine.library.call("vt_sequence_rewind", sequence, 0)
                    y = engine.step((sequence, range(150)))
                    errors.append(float(np.abs(y - expected).max()))
                except InputError as error:
                    refused.append(str(error))

        threads = [threading.Thread(target=work, args=(engine.sequence(150),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors
    assert max(errors) < 3e-6
    assert {text.split(":")[0] for text in refused} <= {"the engine is in use by another thread"} | {
        text.split(":")[0] for text in refused if "tokens" in text
    }


def test_refuses_wrong_plans() -> None:
    def refused(text: str, change: Callable[[PlanOfTest], None]) -> None:
        plan = Case(4).plan(4)
        change(plan)
        with pytest.raises(InputError, match=text), plan.engine(SIMD[0]):
            pass

    def add(name: str, **fields: Any) -> Callable[[PlanOfTest], None]:
        return lambda plan: plan.op(name, **fields)

    def word(index: int, value: int) -> Callable[[PlanOfTest], None]:
        return lambda plan: plan.words.__setitem__(index, value)

    def buffer(index: int, value: tuple[int, int, int]) -> Callable[[PlanOfTest], None]:
        return lambda plan: plan.buffers.__setitem__(index, value)

    refused("op 0 is unknown", word(0, 99))
    refused(r"op 0 \(embed\): bad table", word(2, 1))
    refused(r"op 0 \(embed\): bad scale", word(4, 0x7FC00000))
    refused("is cut off", lambda plan: plan.words.pop())
    refused("buffer 0: beyond the arena", buffer(0, (10**6, 273, 288)))
    refused("buffer 0: bad width or stride", buffer(0, (0, 273, 100)))
    refused("widths differ", buffer(0, (0, 272, 288)))
    refused("the plan selects no rows", lambda plan: plan.words.__delitem__(slice(-3, None)))
    refused("comes after select", add("keep", k=1, v=2, state=0))
    refused("state 0: bad sizes", lambda plan: plan.states.__setitem__(0, (0, 1, 1, 0, 0, 0)))
    refused(
        "matrix 0: its memory is too small", lambda plan: plan.matrices.__setitem__(0, (0, 400, *plan.matrices[0][2:]))
    )
    refused("a vector has a wrong size|bad", add("norm", x=0, y=0, group=273, weight=0))
