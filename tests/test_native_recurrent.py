"""The native engine's recurrent operations against the naive torch forms, at every instruction set, in any chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from native_plan import Engine, Floats, PlanOfTest
from torch import Tensor
from torch.nn import functional as F

from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.nn.ops.conv import naive_causal_conv
from vitruvius.nn.ops.delta import naive_delta_rule
from vitruvius.nn.ops.ssm import naive_state_space
from vitruvius.nn.recurrent import unit

SIMD = native.library().simd if native.library() else ("none",)  # type: ignore[union-attr]
TOKENS = 45
CHUNKS = ((3, 1), (1, 20), (19, 1), (1, 1), (16, 2))  # tokens of two sequences in each step
rng = np.random.default_rng(0)


def random(*shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def up(n: int) -> int:
    return -(-n // 16) * 16


def check(
    inputs: Floats, build: Callable[[PlanOfTest], int], expected: Callable[[Tensor], Tensor], bound: float = 3e-6
) -> None:
    """What the ops of `build` make of two sequences of inputs: whole, and both side by side in chunks. `expected` does
    the same for one (T, width) in float64."""
    first = np.arange(len(inputs))
    second = rng.permutation(first)[: sum(chunk for _, chunk in CHUNKS)]
    wanted = [expected(torch.from_numpy(inputs[ids]).double()).numpy() for ids in (first, second)]
    scale = np.abs(wanted[0]).max()
    for simd in SIMD:
        for threads in (1, 3):
            plan = PlanOfTest(inputs)
            plan.out(build(plan))
            with plan.engine(simd, threads) as engine:
                parts = in_chunks(engine, first, second)
                for got, want in (
                    (engine.run(first.tolist()), wanted[0]),
                    (parts[0], wanted[0][: len(parts[0])]),
                    (parts[1], wanted[1]),
                ):
                    np.testing.assert_allclose(got, want, bound, bound * scale, err_msg=f"{simd}, {threads} threads")


def in_chunks(engine: Engine, *ids: Any) -> list[Floats]:
    """The results of several sequences that go on side by side."""
    sequences = [engine.sequence() for _ in ids]
    at = [0] * len(ids)
    results: list[list[Floats]] = [[] for _ in ids]
    for chunk in CHUNKS:
        out = engine.step(*((s, x[a : a + n]) for s, x, a, n in zip(sequences, ids, at, chunk, strict=True)))
        for i, part in enumerate(np.split(out, np.cumsum(chunk)[:-1])):
            results[i].append(part)
            at[i] += chunk[i]
    return [np.concatenate(parts) for parts in results]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("channels", "kernel"), [(40, 4), (16, 2), (7, 3), (100, 5)])
def test_conv(channels: int, kernel: int, bias: bool) -> None:
    weight, b = random(channels, 1, kernel), random(channels) if bias else None

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(channels)
        state = plan.state(fixed=channels * (kernel - 1))
        taps = plan.vector(weight[:, 0].T)
        plan.op("conv", x=plan.x, y=y, state=state, weight=taps, bias=plan.vector(b), kernel=kernel, act="silu")
        return y

    def expected(x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, kernel - 1, 0))[None]
        own = None if b is None else torch.from_numpy(b).double()
        return F.silu(naive_causal_conv(padded, torch.from_numpy(weight).double(), own))[0]

    check(random(TOKENS, channels), build, expected)


def test_short_conv_between_two_gates() -> None:
    dim, kernel = 24, 3
    weight = random(dim, 1, kernel)

    def build(plan: PlanOfTest) -> int:
        b, c, x = plan.cut(dim, dim, dim)
        y = plan.buffer(dim)
        state, taps = plan.state(fixed=dim * (kernel - 1)), plan.vector(weight[:, 0].T)
        plan.op("conv", x=x, y=y, state=state, weight=taps, kernel=kernel, act="none", before=b, after=c)
        return y

    def expected(inputs: Tensor) -> Tensor:
        b, c, x = inputs.split(dim, -1)
        padded = F.pad(b * x, (0, 0, kernel - 1, 0))[None]
        return c * naive_causal_conv(padded, torch.from_numpy(weight).double(), None)[0]

    check(random(TOKENS, 3 * dim), build, expected)


def heads(x: Tensor, n: int) -> Tensor:
    """(T, n · D) -> (1, n, T, D)."""
    return x.unflatten(-1, (n, -1)).transpose(0, 1)[None]


@pytest.mark.parametrize("strength", [-6.0, 0.0, 5.0])  # the memory keeps nearly all, some, nothing from token to token
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("sizes", [(2, 4, 24, 40), (1, 1, 128, 64), (3, 3, 10, 100), (1, 2, 16, 5)])
def test_delta(sizes: tuple[int, int, int, int], per_channel: bool, strength: float) -> None:
    k_heads, v_heads, k_dim, v_dim = sizes
    q, v, steps = k_heads * k_dim, v_heads * v_dim, v_heads * (k_dim if per_channel else 1)
    a_log, dt_bias = random(v_heads) + np.float32(strength), random(steps)

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(v)
        fields = dict(zip(("q", "k", "v", "decay", "beta"), plan.cut(q, q, v, steps, v_heads), strict=True))
        plan.op(
            "delta",
            **fields,
            y=y,
            state=plan.state(fixed=v_heads * k_dim * up(v_dim)),
            a_log=plan.vector(a_log),
            dt_bias=plan.vector(dt_bias),
            k_heads=k_heads,
            v_heads=v_heads,
            k_dim=k_dim,
            v_dim=v_dim,
            per_channel=int(per_channel),
            beta_scale=1.5,
        )
        return y

    def expected(x: Tensor) -> Tensor:
        qs, ks, vs, decay, beta = x.split([q, q, v, steps, v_heads], -1)
        decay = heads(F.softplus(decay + torch.from_numpy(dt_bias)), v_heads)
        decay = -torch.from_numpy(a_log).double().exp()[:, None, None] * decay
        y, _ = naive_delta_rule(
            unit(heads(qs, k_heads)) * k_dim**-0.5,
            unit(heads(ks, k_heads)),
            heads(vs, v_heads),
            decay if per_channel else decay[..., 0],
            1.5 * heads(beta, v_heads)[..., 0].sigmoid(),
            torch.zeros(1, v_heads, k_dim, v_dim, dtype=torch.float64),
        )
        return y[0].transpose(0, 1).flatten(1)

    check(random(TOKENS, 2 * q + v + steps + v_heads), build, expected, 1e-5)


@pytest.mark.parametrize("strength", [-6.0, 0.0, 5.0])
@pytest.mark.parametrize("limits", [(0.0, np.inf), (0.3, 0.9)])
@pytest.mark.parametrize("sizes", [(4, 2, 24, 40), (3, 3, 64, 128), (2, 1, 5, 10)])
def test_ssm(sizes: tuple[int, int, int, int], limits: tuple[float, float], strength: float) -> None:
    n, groups, head_dim, state_dim = sizes
    inner, group = n * head_dim, groups * state_dim
    a_log, dt_bias, d = random(n) + np.float32(strength), random(n), random(n)

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(inner)
        fields = dict(zip(("x", "b", "c", "dt"), plan.cut(inner, group, group, n), strict=True))
        plan.op(
            "ssm",
            **fields,
            y=y,
            state=plan.state(fixed=n * state_dim * up(head_dim)),
            a_log=plan.vector(a_log),
            dt_bias=plan.vector(dt_bias),
            d=plan.vector(d),
            heads=n,
            groups=groups,
            head_dim=head_dim,
            state_dim=state_dim,
            dt_min=limits[0],
            dt_max=limits[1],
        )
        return y

    def expected(inputs: Tensor) -> Tensor:
        x, b, c, raw = inputs.split([inner, group, group, n], -1)
        dt = F.softplus(raw + torch.from_numpy(dt_bias)).clamp(*limits).T[None]
        values = heads(x, n)
        decay = -torch.from_numpy(a_log).double().exp()[:, None] * dt
        memory = torch.zeros(1, n, state_dim, head_dim, dtype=torch.float64)
        y, _ = naive_state_space(heads(c, groups), heads(b, groups), values * dt[..., None], decay, memory)
        return (y + torch.from_numpy(d)[:, None, None] * values)[0].transpose(0, 1).flatten(1)

    check(random(TOKENS, inner + 2 * group + n), build, expected, 1e-5)


def test_streams() -> None:
    n, width, active = 3, 20, 1
    inputs = random(6, n * width + n * n + n + width)
    x, p, c, output = np.split(inputs.astype(np.float64), np.cumsum([n * width, n * n, n]), 1)
    streams = x.reshape(-1, n, width)
    predicted = streams + np.einsum("rij,rjw->riw", p.reshape(-1, n, n), streams)
    gain = output - predicted[:, active]
    corrected = predicted + (1 + c[:, :, None]) * gain[:, None]
    size = np.sqrt((output**2).mean(-1, keepdims=True))
    matched = corrected[:, 2] * size / np.sqrt((corrected[:, 2] ** 2).mean(-1, keepdims=True))
    mean = (corrected[:, 0] + corrected[:, 1] + matched) / n
    for simd in SIMD:
        plan = PlanOfTest(inputs)
        given, coefficients, selection_bias, out = plan.cut(n * width, n * n, n, width)
        y, result = plan.buffer(n * width), plan.buffer(width)
        plan.op("streams_predict", x=given, coefficients=coefficients, y=y, n=n)
        plan.op("streams_correct", x=y, output=out, coefficients=selection_bias, n=n, active=active)
        plan.op("streams_match", x=out, y=plan.columns(y, 2 * width, width))
        plan.op("streams_mean", x=y, y=result, n=n)
        plan.out(result)
        with plan.engine(simd, 2) as engine:
            np.testing.assert_allclose(engine.run(range(6)), mean, 1e-5, 1e-5, err_msg=simd)


REFUSED = {
    "delta": "a state has a wrong size",
    "ssm": "a state has a wrong size",
    "conv": "a vector has a wrong size",
}


@pytest.mark.parametrize(("name", "text"), REFUSED.items())
def test_wrong_sizes_are_refused(name: str, text: str) -> None:
    plan = PlanOfTest(random(4, 64))
    y, one = plan.buffer(64), plan.vector([1.0])
    if name == "delta":
        parts = dict(zip(("q", "k", "v", "decay", "beta"), plan.cut(8, 8, 8, 1, 1), strict=True))
        sizes = {"k_heads": 1, "v_heads": 1, "k_dim": 8, "v_dim": 8}
        plan.op(name, **parts, y=y, state=plan.state(fixed=64), a_log=one, dt_bias=one, **sizes, beta_scale=1.0)
    elif name == "ssm":
        parts = dict(zip(("x", "b", "c", "dt"), plan.cut(8, 8, 8, 1), strict=True))
        sizes = {"heads": 1, "groups": 1, "head_dim": 8, "state_dim": 8}
        plan.op(name, **parts, y=y, state=plan.state(fixed=64), a_log=one, dt_bias=one, d=one, **sizes)
    else:
        plan.op(name, x=plan.x, y=y, state=plan.state(fixed=64), weight=one, kernel=2)
    plan.out(y)
    with pytest.raises(InputError, match=text):
        plan.engine(SIMD[0])
