"""The native engine's experts and indexer against numpy and the torch router, at every instruction set."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from native_blocks import random_source
from native_plan import Floats, PlanOfTest
from numpy.typing import NDArray

from vitruvius import spec
from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.native.formats import FORMATS, FROM_FLOATS
from vitruvius.nn.feedforward import Router, taken

SIMD = native.library().simd if native.library() else ("none",)  # type: ignore[union-attr]
rng = np.random.default_rng(0)
Ints = NDArray[np.int32]


def random(*shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def route(
    plan: PlanOfTest, s: spec.Router, logits: int, selection_bias: Any = None, scale: Any = None
) -> dict[str, int]:
    """The buffers that `route` fills."""
    k = s.active
    made = {"chosen": plan.buffer(k), "weights": plan.buffer(k), "groups": plan.buffer(-(-(2 + 4 * k) // 16) * 16)}
    groups = (
        {"group_count": s.groups.count, "group_active": s.groups.active, "group_score": s.groups.score}
        if s.groups
        else {}
    )
    plan.op(
        "route",
        logits=logits,
        **made,
        selection_bias=plan.vector(selection_bias),
        expert_scale=plan.vector(scale),
        active=k,
        score=s.score,
        **groups,
        norm_topk_eps=-1.0 if s.norm_topk_eps is None else s.norm_topk_eps,
        scale=s.scale,
        softcap=s.softcap or 0.0,
        capacity=-1 if s.capacity is None else s.capacity,
    )
    return made


def routed(s: spec.Router, logits: Floats, selection_bias: Floats, scale: Floats) -> tuple[Floats, Ints]:
    """Weights and experts (N, K) of the torch router, whose matrix is the identity."""
    router = Router(s, s.experts)
    with torch.no_grad():
        router.weight.copy_(torch.eye(s.experts))
        if s.selection_bias:
            router.selection_bias.copy_(torch.from_numpy(selection_bias))
        if s.expert_scale:
            router.expert_scale.copy_(torch.from_numpy(scale))
        weights, experts, _ = router(torch.from_numpy(logits))
        if s.capacity is not None:
            weights = weights * taken(experts[None], s.experts, s.capacity)[0]
    return weights.numpy(), experts.numpy().astype(np.int32)


BEST_TWO, BEST = (
    spec.ExpertGroups(count=4, active=2, score="top2_sum"),
    spec.ExpertGroups(count=5, active=3, score="max"),
)
ROUTERS = {
    "plain": spec.Router(experts=8, active=2),
    "normalised": spec.Router(experts=40, active=5, norm_topk_eps=0.0),
    "sigmoid": spec.Router(experts=37, active=3, score="sigmoid", norm_topk_eps=1e-3, scale=2.5),
    "corrected": spec.Router(experts=33, active=4, score="sigmoid", selection_bias=True, norm_topk_eps=1e-20),
    "best two of each group": spec.Router(experts=32, active=4, score="sigmoid", selection_bias=True, groups=BEST_TWO),
    "best of each group": spec.Router(experts=30, active=6, groups=BEST, scale=16.0),
    "capped": spec.Router(experts=64, active=2, softcap=0.7, expert_scale=True),
    "full": spec.Router(experts=2, active=1, capacity=3),
    "many": spec.Router(experts=512, active=10, norm_topk_eps=0.0),
    "all": spec.Router(experts=5, active=5),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_route(name: str) -> None:
    s = ROUTERS[name]
    logits, selection_bias, scale = random(13, s.experts), random(s.experts), random(s.experts)
    weights, experts = routed(s, logits, selection_bias, scale)
    for simd in SIMD:
        for field, wanted in (("weights", weights), ("chosen", experts)):
            plan = PlanOfTest(logits, max_rows=16)
            made = route(
                plan, s, plan.x, selection_bias if s.selection_bias else None, scale if s.expert_scale else None
            )
            plan.out(made[field])
            with plan.engine(simd, 3) as engine:
                got = engine.run(range(13))
                if field == "chosen":
                    np.testing.assert_array_equal(got.view(np.int32), wanted, err_msg=simd)
                else:
                    np.testing.assert_allclose(got, wanted, 1e-5, 1e-6, err_msg=simd)


def test_capacity_counts_each_sequence_by_itself() -> None:
    s = replace(ROUTERS["full"], experts=1)
    for simd in SIMD:
        plan = PlanOfTest(random(4, 1), max_rows=16)
        plan.out(route(plan, s, plan.x)["weights"])
        with plan.engine(simd, 2) as engine:
            first, second = engine.sequence(), engine.sequence()
            got = engine.step((first, [0, 1, 2, 3]), (second, [0, 1]))
            np.testing.assert_array_equal(got[:, 0], [1, 1, 1, 0, 1, 1])


def add_matrix(plan: PlanOfTest, values: Floats, form: str) -> int:
    """Copies (copies, rows, cols) of a matrix, packed in that format; others of their size if it only holds blocks."""
    copies, rows, cols = values.shape
    number = FORMATS.index(form)
    size = plan.library.get("vt_packed_bytes", number, rows, cols)
    raw = np.zeros(copies * size + 64, np.uint8)
    data = raw[-raw.ctypes.data % 64 :][: copies * size]
    for i, copy in enumerate(np.ascontiguousarray(values)):
        panel = plan.library.get("vt_packed_bytes", number, 16, cols)
        kind, source, whole = "F32", copy, cols
        if form not in FROM_FLOATS:
            kind, source, whole = random_source(form, rows, cols, np.random.default_rng(i), float(copy.std()))
        at, to = ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(data.ctypes.data + i * size)
        plan.library.call("vt_pack", number, rows, whole, kind.encode(), at, source.nbytes, to, size, panel)
    plan.matrices.append((number, rows, cols, copies, data))
    return len(plan.matrices) - 1


def alternating(gate: Floats, up: Floats) -> Floats:
    """(E, dim, …) of each -> (E, 2 · ⌈dim⌉₁₆, …), 16 rows of the one and 16 of the other in turn."""
    missing = [(0, 0), (0, -gate.shape[1] % 16), *[(0, 0)] * (gate.ndim - 2)]
    parts = [np.pad(x, missing).reshape(len(x), -1, 16, *x.shape[2:]) for x in (gate, up)]
    return np.stack(parts, 2).reshape(len(gate), -1, *gate.shape[2:])


class Experts:
    """Random experts, their plan and what they give."""

    def __init__(self, tokens: int, experts: int, active: int, width: int, dim: int, gated: bool, weigh: str) -> None:
        self.router = spec.Router(experts=experts, active=active, norm_topk_eps=0.0)
        self.gated, self.weigh, self.width, self.dim = gated, weigh, width, dim
        self.inputs = random(tokens, experts + width)
        self.gate, self.up = random(experts, dim, width) / width**0.5, random(experts, dim, width) / width**0.5
        self.down = random(experts, width, dim) / dim**0.5
        self.gate_bias, self.up_bias, self.down_bias = (
            random(experts, dim),
            random(experts, dim),
            random(experts, width),
        )

    def build(self, plan: PlanOfTest, form: str = "f32") -> int:
        experts, active = self.router.experts, self.router.active
        logits, x = plan.cut(experts, self.width)
        made = route(plan, self.router, logits)
        hidden, y = plan.buffer(active * -(-self.dim // 16) * 16), plan.buffer(self.width)
        plan.op("copy", x=x, y=y, heads=1, width=self.width)
        into = {"x": x, "y": hidden, "groups": made["groups"], "active": active}
        into["weights"] = made["weights"] if self.weigh == "input" else -1
        if self.gated:
            matrix = add_matrix(plan, alternating(self.gate, self.up), form)
            clamp = {"act": "clamped", "limit": 0.8, "alpha": 1.7, "offset": 1.0, "gate_scale": 0.9}
            bias = plan.vector(alternating(self.gate_bias, self.up_bias))
            plan.op("experts_glu", **into, matrix=matrix, bias=bias, **clamp)
        else:
            plan.op(
                "experts_up",
                **into,
                matrix=add_matrix(plan, self.up, form),
                bias=plan.vector(self.up_bias),
                act="relu2",
            )
        back = {"x": hidden, "y": y, "groups": made["groups"], "active": active}
        back["weights"] = made["weights"] if self.weigh == "output" else -1
        down, bias = add_matrix(plan, self.down, form), plan.vector(self.down_bias)
        plan.op("experts_down", **back, matrix=down, bias=bias, skip=0.5, scale=2.0)
        return y

    def expected(self) -> NDArray[np.float64]:
        logits, x = np.split(self.inputs, [self.router.experts], 1)
        weights, chosen = routed(self.router, logits, random(1), random(1))
        y = 0.5 * x.astype(np.float64)
        for row, (each, experts) in enumerate(zip(weights, chosen, strict=True)):
            for weight, e in zip(each, experts, strict=True):
                given, after = (x[row] * weight, 1.0) if self.weigh == "input" else (x[row], weight)
                y[row] += 2 * after * (self.down[e] @ self.hidden(e, given) + self.down_bias[e])
        return y

    def hidden(self, e: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        up = self.up[e] @ x + self.up_bias[e]
        if not self.gated:
            return np.maximum(up, 0) ** 2
        gate = np.minimum(0.9 * (self.gate[e] @ x + self.gate_bias[e]), 0.8)
        return (up.clip(-0.8, 0.8) + 1) * gate / (1 + np.exp(-1.7 * gate))


@pytest.mark.parametrize("weigh", ["output", "input"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [(1, 6, 2, 40, 24), (13, 6, 2, 40, 24), (150, 2, 2, 20, 37), (30, 16, 3, 100, 7)],
    ids=["one row", "few rows", "more rows than are gathered at once", "narrow experts"],
)
def test_experts(sizes: tuple[int, int, int, int, int], gated: bool, weigh: str) -> None:
    case = Experts(*sizes, gated, weigh)
    expected = case.expected()
    for simd in SIMD:
        for threads in (1, 3):
            plan = PlanOfTest(case.inputs, max_rows=160)
            plan.out(case.build(plan))
            with plan.engine(simd, threads) as engine:
                got = engine.run(range(len(case.inputs)))
                np.testing.assert_allclose(got, expected, 2e-5, 2e-5, err_msg=f"{simd}, {threads} threads")


def test_rows_that_are_no_numbers_harm_no_other() -> None:
    case = Experts(9, 40, 3, 40, 24, True, "output")
    expected = case.expected()
    case.inputs[4] = np.nan
    for simd in SIMD:
        plan = PlanOfTest(case.inputs, max_rows=16)
        plan.out(case.build(plan))
        with plan.engine(simd, 2) as engine:
            got = engine.run(range(9))
            assert np.isnan(got[4]).all()
            np.testing.assert_allclose(np.delete(got, 4, 0), np.delete(expected, 4, 0), 2e-5, 2e-5, err_msg=simd)


@pytest.mark.parametrize("form", ["bf16", "q8", "q4m", "q6k", "mxfp4"])
def test_experts_of_packed_formats(form: str) -> None:
    case = Experts(40, 6, 2, 300, 70, True, "output")
    bound = 0.03 if form == "bf16" else 2e-4  # many rows are rounded to bfloat16, where there are products of such
    results = []
    for simd in sorted(SIMD, key=lambda name: name != "naive"):
        plan = PlanOfTest(case.inputs, max_rows=64)
        plan.out(case.build(plan, form))
        with plan.engine(simd, 2) as engine:
            sequence = engine.sequence()
            one_by_one = np.concatenate([engine.step((sequence, [i])) for i in range(4)])
            results.append(engine.run(range(40)))
            np.testing.assert_allclose(one_by_one, results[-1][:4], bound, bound, err_msg=simd)
    for simd, other in zip(SIMD, results[1:], strict=False):
        np.testing.assert_allclose(other, results[0], bound, bound, err_msg=simd)
    if form in FROM_FLOATS:
        off = np.abs(results[0] - case.expected()).mean() / np.abs(case.expected()).mean()
        assert off < {"bf16": 0.005, "q8": 0.01}.get(form, 0.2)


def indexed(
    inputs: Floats, sizes: tuple[int, int, int], first: int, simd: str, threads: int, dtype: str, chunks: Any
) -> list[set[int]]:
    """The positions that each row's indexer chooses, of a sequence that is read in these chunks."""
    heads, dim, topk = sizes
    plan = PlanOfTest(inputs, max_rows=32)
    q, k, weights = plan.cut(heads * dim, dim, heads)
    state, selection = plan.state(heads=1, k_dim=dim), plan.buffer(1 + topk)
    plan.op("keep", k=k, state=state)
    fields = {"heads": heads, "topk": topk, "first": first}
    plan.op("index", q=q, weights=weights, state=state, selection=selection, **fields)
    plan.out(selection)
    with plan.engine(simd, threads) as engine:
        sequence = engine.sequence(len(inputs), dtype=dtype)
        parts = np.split(np.arange(len(inputs)), np.cumsum(chunks))
        chosen = np.concatenate([engine.step((sequence, ids.tolist())) for ids in parts]).view(np.int32)
    for count, *positions in chosen:
        assert list(positions[:count]) == sorted(set(positions[:count]))
    return [set(positions[:count]) for count, *positions in chosen]


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("sizes", [(9, 24, 17), (2, 7, 1), (64, 16, 80)])
def test_index(sizes: tuple[int, int, int], first: int) -> None:
    heads, dim, topk = sizes
    inputs = random(200, heads * dim + dim + heads)
    q, k, weights = np.split(inputs.astype(np.float64), np.cumsum([heads * dim, dim]), 1)
    products = np.maximum(q.reshape(-1, heads, dim) @ k.T, 0)
    scores = (weights[:, :, None] * products).sum(1)
    for simd in SIMD:
        for threads, chunks in ((1, []), (3, [1, 150, 1, 3])):
            chosen = indexed(inputs, sizes, first, simd, threads, "f32", chunks)
            for p, (row, positions) in enumerate(zip(scores, chosen, strict=True)):
                best = np.sort(row[first : p + 1])[::-1][:topk]  # by their scores: those without any product are equal
                got = np.sort(row[list(positions)])[::-1]
                assert all(first <= at <= p for at in positions)
                np.testing.assert_allclose(got, best, 1e-5, 1e-5, err_msg=f"{simd}, {threads} threads, position {p}")


def test_index_of_what_are_no_numbers() -> None:
    inputs = random(150, 6 * 40 + 40 + 6)
    inputs[20:120, 6 * 40 : 7 * 40] = np.nan  # keys
    for simd in SIMD:
        chosen = indexed(inputs, (6, 40, 20), 0, simd, 2, "f32", [100, 1])
        assert all(len(positions) == min(20, p + 1) for p, positions in enumerate(chosen))


@pytest.mark.parametrize("dtype", ["f16", "q8"])
def test_index_of_smaller_keys(dtype: str) -> None:
    sizes = (6, 40, 20)
    inputs = random(150, 6 * 40 + 40 + 6)
    results = [indexed(inputs, sizes, 0, simd, 2, dtype, [100, 1]) for simd in SIMD]
    exact = indexed(inputs, sizes, 0, SIMD[0], 2, "f32", [100, 1])
    for result in results:
        assert sum(len(a ^ b) for a, b in zip(result, results[0], strict=True)) <= 2  # sums in another order
        assert sum(len(a & b) for a, b in zip(result, exact, strict=True)) > 0.9 * sum(map(len, exact))


def refused(build: Callable[[PlanOfTest], None], text: str) -> None:
    plan = PlanOfTest(random(4, 64))
    build(plan)
    plan.out(plan.x)
    with pytest.raises(InputError, match=text):
        plan.engine(SIMD[0])


def test_wrong_sizes_are_refused() -> None:
    groups = spec.ExpertGroups(count=4, active=2, score="max")
    refused(lambda p: _ignore(route(p, spec.Router(experts=64, active=2, groups=groups), p.cut(30)[0])), "equal groups")
    narrow = spec.Router(experts=64, active=3)

    def no_room(plan: PlanOfTest) -> None:
        made = {"chosen": plan.buffer(2), "weights": plan.buffer(3), "groups": plan.buffer(16)}
        plan.op("route", logits=plan.x, **made, active=narrow.active, norm_topk_eps=-1.0, scale=1.0, capacity=-1)

    refused(no_room, "no room")

    def gaps(plan: PlanOfTest) -> None:
        hidden = plan.columns(plan.buffer(64), 0, 32)
        fields = {"x": plan.x, "y": hidden, "groups": plan.buffer(16), "active": 2}
        plan.op("experts_up", **fields, matrix=add_matrix(plan, random(2, 16, 64), "f32"), act="silu")

    refused(gaps, "gaps")


HARM = {
    "count": {0: 2**30},
    "pair": {5: 99},
    "expert": {18: 4},
    "begin": {19: -1},
    "end": {20: 17},
    "negative": {18: -1},
}


@pytest.mark.parametrize("name", [None, *HARM])
def test_groups_that_are_not_what_route_leaves_do_no_harm(name: str | None) -> None:
    words = np.zeros(128, np.int32)  # one expert with all 16 pairs
    words[:21] = [1, 0, *range(16), 0, 0, 16]
    for place, value in (HARM[name] if name else {}).items():
        words[place] = value
    inputs = np.concatenate([words.view(np.float32).reshape(8, 16), random(8, 64)], 1)
    for simd in SIMD:
        plan = PlanOfTest(inputs)
        groups, hidden, y = plan.buffer(16), plan.buffer(32), plan.buffer(64)
        plan.op("copy", x=plan.x, y=groups, heads=1, width=16)
        into = {"groups": groups, "active": 2, "weights": -1}
        up, down = add_matrix(plan, random(4, 16, 64), "f32"), add_matrix(plan, random(4, 64, 16), "f32")
        plan.op("experts_up", x=plan.columns(plan.x, 16, 64), y=hidden, **into, matrix=up, act="silu")
        plan.op("experts_down", x=hidden, y=y, **into, matrix=down, scale=1.0)
        plan.out(y)
        with plan.engine(simd, 2) as engine:
            assert engine.run(range(8)).any() == (name is None)


def _ignore(_: object) -> None:
    """For a lambda that returns nothing."""
