"""The native engine's core: ops on single rows and attention against numpy, sequences, threads, refusals."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_plan import Engine, Floats, PlanOfTest
from numpy.typing import NDArray

from vitruvius.errors import InputError
from vitruvius.native import library as native

SIMD = native.library().simd if native.library() else ("none",)  # type: ignore[union-attr]


def random(*shape: int, rng: np.random.Generator | None = None) -> Floats:
    return (rng or np.random.default_rng(sum(shape))).standard_normal(shape).astype(np.float32)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def silu(x: NDArray[Any]) -> NDArray[Any]:
    return x * sigmoid(x)


def check_rows(inputs: Floats, build: Callable[[PlanOfTest], int], expected: NDArray[Any], bound: float = 2e-6) -> None:
    """What the ops of `build` make of the inputs, at every instruction set, with one thread and two."""
    for simd in SIMD:
        for threads in (1, 2):
            plan = PlanOfTest(inputs)
            plan.out(build(plan))
            with plan.engine(simd, threads) as engine:
                np.testing.assert_allclose(engine.run(range(len(inputs))), expected, bound, bound, err_msg=simd)


def build_op(name: str, width: int, **fields: Any) -> Callable[[PlanOfTest], int]:
    """A function that adds an op from x to a new buffer; vectors are given as arrays."""

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(width)
        given = {k: plan.vector(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        plan.op(name, x=plan.x, y=y, **given)
        return y

    return build


def group_norm(x: Floats, kind: str, group: int, eps: float) -> NDArray[np.float64]:
    grouped = x.astype(np.float64).reshape(len(x), -1, group)
    if kind == "layer":
        grouped = grouped - grouped.mean(-1, keepdims=True)
    square = (grouped**2).sum(-1, keepdims=True)
    factor = np.sqrt(square + group * eps if kind == "unit" else square / group + eps)
    return (grouped / factor).reshape(x.shape)


@pytest.mark.parametrize("kind", ["rms", "layer", "unit"])
@pytest.mark.parametrize(("width", "group", "own"), [(40, 40, True), (96, 24, False), (60, 10, False), (64, 16, True)])
def test_norm(kind: str, width: int, group: int, own: bool) -> None:
    x, w, b = random(11, width) + 3, random(width if own else group), random(width if own else group)
    expected = group_norm(x, kind, group, 1e-3) * np.resize(w, width) + np.resize(b, width)
    build = build_op("norm", width, kind=kind, weight=w, bias=b, eps=1e-3, group=group, skip=0.0, scale=1.0)
    check_rows(x, build, expected, 1e-5)


def test_norm_adds_to_its_target() -> None:
    x = random(5, 33)

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(33)
        plan.op("copy", x=plan.x, y=y, heads=1, width=33)
        plan.op("norm", x=plan.x, y=y, eps=1e-6, group=33, skip=0.5, scale=2.0)
        return y

    check_rows(x, build, 0.5 * x + 2 * group_norm(x, "rms", 33, 1e-6))


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize("act", ["silu", "sigmoid"])
def test_gated_norm(gate_first: bool, act: str) -> None:
    x, w = random(6, 96), random(24)

    def build(plan: PlanOfTest) -> int:
        a, z = plan.cut(48, 48)
        y = plan.buffer(48)
        plan.op("gated_norm", x=a, z=z, y=y, weight=plan.vector(w), act=act, gate_first=gate_first, eps=1e-5, group=24)
        return y

    gate = silu(x[:, 48:]) if act == "silu" else sigmoid(x[:, 48:])
    inner = (x[:, :48] * gate).astype(np.float32) if gate_first else x[:, :48]
    expected = group_norm(inner, "rms", 24, 1e-5) * np.resize(w, 48)
    check_rows(x, build, expected if gate_first else expected * gate, 1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dim", [6, 24, 32])
def test_rope(interleaved: bool, dim: int) -> None:
    heads, step, x = 3, 40, random(9, 120)
    freqs = (10000.0 ** (-np.arange(0, dim, 2) / dim)).astype(np.float32)

    def build(plan: PlanOfTest) -> int:
        table, y = plan.buffer(dim), plan.buffer(120)
        plan.op("rotary", y=table, freqs=plan.vector(freqs), factor=1.25, shift=2)
        plan.op("copy", x=plan.x, y=y, heads=1, width=120)
        plan.op(
            "rope", x=plan.x, y=y, table=table, heads=heads, x_step=step, y_step=step, dim=dim, interleaved=interleaved
        )
        return y

    angle = (np.arange(9, dtype=np.float32) + 2)[:, None] * freqs
    cos, sin = 1.25 * np.cos(angle)[:, None], 1.25 * np.sin(angle)[:, None]
    expected = x.reshape(9, heads, step).astype(np.float64)
    first, second = (slice(0, dim, 2), slice(1, dim, 2)) if interleaved else (slice(0, dim // 2), slice(dim // 2, dim))
    a, b = expected[..., first].copy(), expected[..., second].copy()
    expected[..., first], expected[..., second] = a * cos - b * sin, b * cos + a * sin
    check_rows(x, build, expected.reshape(9, -1), 1e-5)


def test_temper() -> None:
    x = random(12, 20)

    def build(plan: PlanOfTest) -> int:
        plan.op("temper", x=plan.x, scale=0.3, floor=4, shift=1)
        return plan.x

    check_rows(x, build, x * (1 + 0.3 * np.log1p((np.arange(12) + 1) // 4))[:, None])


POINTWISE: dict[str, tuple[dict[str, Any], Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]]] = {
    "add": ({"skip": 0.5, "scale": 2.0}, lambda a, b: 0.5 * a + 2 * b),
    "mul": ({"scale": 2.0}, lambda a, b: 2 * a * b),
    "gate": ({"scale": 1.0, "act": "silu"}, lambda a, b: silu(a) * b),
    "act": ({"scale": 0.5, "act": "relu2"}, lambda a, b: 0.5 * np.maximum(a, 0) ** 2),
    "softcap": ({"scale": 3.0, "cap": 2.0}, lambda a, b: 2 * np.tanh(3 * a / 2)),
    "gaussian_topk": (
        {"scale": 0.7},
        lambda a, b: np.maximum(a - a.mean(-1, keepdims=True) - 0.7 * a.std(-1, keepdims=True), 0),
    ),
}


@pytest.mark.parametrize("kind", POINTWISE)
def test_pointwise(kind: str) -> None:
    x, (fields, function) = random(10, 74), POINTWISE[kind]

    def build(plan: PlanOfTest) -> int:
        a, b = plan.cut(37, 37)
        y = plan.buffer(37)
        two = kind in ("add", "mul", "gate")
        plan.op("pointwise", kind=kind, a=a, y=y, **fields, **({"b": b} if two else {}))
        return y

    check_rows(x, build, function(x[:, :37].astype(np.float64), x[:, 37:].astype(np.float64)), 1e-5)


def test_gate_of_each_head() -> None:
    x = random(7, 4 + 40)

    def build(plan: PlanOfTest) -> int:
        gate, y = plan.cut(4, 40)
        plan.op("pointwise", kind="gate", a=gate, b=y, y=y, act="sigmoid", scale=1.0)
        return y

    check_rows(x, build, x[:, 4:] * sigmoid(x[:, :4]).repeat(10, -1))


def test_vector_repeats() -> None:
    x, v = random(7, 36), random(12)

    def build(plan: PlanOfTest) -> int:
        plan.op("pointwise", kind="vector", a=plan.x, y=plan.x, vector=plan.vector(v), scale=1.0)
        return plan.x

    check_rows(x, build, x * np.tile(v, 3))


def test_tables() -> None:
    """A second table with fewer rows, whose row 0 unknown tokens get, scaled and added; and learned positions."""
    x, table, learned = random(12, 20), random(5, 20), random(64, 20)

    def build(plan: PlanOfTest) -> int:
        plan.context = 64
        plan.op("embed", y=plan.x, table=plan.matrix(table), skip=1.0, scale=0.5, known=5)
        plan.op("learned", y=plan.x, table=plan.matrix(learned))
        return plan.x

    rows = np.where(np.arange(12) < 5, np.arange(12), 0)

    for simd in SIMD:
        plan = PlanOfTest(x)
        plan.out(build(plan))
        with plan.engine(simd) as engine:
            sequence = engine.sequence(64)
            np.testing.assert_allclose(
                engine.step((sequence, range(12))), x + 0.5 * table[rows] + learned[:12], 1e-6, 1e-6
            )


# ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────

PLAIN: dict[str, Any] = {"heads": 6, "kv": 2, "k_dim": 24, "v_dim": 16, "sees": "causal", "size": 0}
ATTENTION: dict[str, dict[str, Any]] = {
    "causal": {},
    "many heads share a key": {"heads": 20, "kv": 1},
    "own keys": {"heads": 4, "kv": 4, "k_dim": 10, "v_dim": 12},
    "wide": {"heads": 3, "kv": 3, "k_dim": 64, "v_dim": 80, "scale": 0.125},
    "window": {"sees": "window", "size": 21},
    "window of one": {"sees": "window", "size": 1},
    "chunk": {"sees": "chunk", "size": 24},
    "softcap": {"softcap": 1.5, "scale": 0.9},
    "sinks": {"sinks": True, "sees": "window", "size": 9},
    "bias": {"bias": 13},
    "length": {"length": 20},
    "first": {"first": 3},
    "latent": {"heads": 5, "kv": 1, "k_dim": 40, "v_dim": 0, "shared": 28},
    "latent, many heads": {"heads": 18, "kv": 1, "k_dim": 24, "v_dim": 0, "shared": 18, "sees": "window", "size": 30},
    "selected": {"sees": "selected", "size": 6},
}


class Case:
    """Random queries, keys and values of some tokens, and what attention gives for them."""

    def __init__(self, tokens: int, **options: Any) -> None:
        rng = np.random.default_rng(tokens)
        self.o = o = PLAIN | {"softcap": 0.0, "scale": 0.3, "shared": 0, "length": 0, "first": 0, "bias": 0} | options
        self.tokens, self.value_dim = tokens, o["v_dim"] or o["shared"]
        self.widths = [o["heads"] * o["k_dim"], o["kv"] * o["k_dim"], max(1, o["kv"] * o["v_dim"])]
        picks = o["size"] + 1 if o["sees"] == "selected" else 0
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
        window = o["size"] if o["sees"] in ("window", "chunk") else 0
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
            selection=chosen if o["sees"] == "selected" else -1,
            **{name: o[name] for name in ("heads", "scale", "softcap", "sees", "length", "first")},
            size=window,
        )
        plan.out(y)
        return plan

    def seen(self, p: int) -> NDArray[np.intp]:
        """The positions that the query at p sees."""
        o, k = self.o, np.arange(p + 1)
        seen = k >= o["first"]
        if o["sees"] == "window":
            seen &= p - k < o["size"]
        if o["sees"] == "chunk":
            seen &= p // o["size"] == k // o["size"]
        if o["sees"] == "selected":
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


# a float16 is wrong by up to 1/2048 of the number; an int8 by up to 1/254 of the largest of its 32 numbers (here 2 to 3)
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


def test_bytes_of_a_sequence() -> None:
    """Windowed states keep their window and what a pass needs; the dtypes take what they say."""
    sizes = {}
    for window in (0, 64):
        options = {"sees": "window", "size": 64} if window else {}
        case = Case(2, heads=4, kv=4, k_dim=64, v_dim=64, **options)
        with case.plan(max_rows=17).engine(SIMD[0]) as engine:
            for dtype in native.STATE_DTYPES:
                sequence = engine.sequence(4096, dtype=dtype)
                sizes[window, dtype] = engine.library.get("vt_sequence_bytes", sequence)
    for window, slots in ((0, 4096), (64, 80)):
        assert sizes[window, "f32"] == slots * 4 * 128 * 4
        assert sizes[window, "f16"] == slots * 4 * 128 * 2
        assert sizes[window, "q8"] == slots * 4 * 128 * 34 // 32


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
    refused("the table has another width", buffer(0, (0, 272, 288)))
    refused("the plan selects no rows", lambda plan: plan.words.__delitem__(slice(-3, None)))
    refused("comes after select", add("keep", k=1, v=2, state=0))
    refused("state 0: bad sizes", lambda plan: plan.states.__setitem__(0, (0, 1, 1, 0, 0, 0)))
    refused(
        "matrix 0: its memory is too small", lambda plan: plan.matrices.__setitem__(0, (0, 400, *plan.matrices[0][2:]))
    )
    refused("a vector has a wrong size|bad", add("norm", x=0, y=0, group=273, weight=0))
