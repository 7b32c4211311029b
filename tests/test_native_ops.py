"""The native engine's ops on single rows against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_plan import SIMD, Floats, PlanOfTest, random
from numpy.typing import NDArray


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
