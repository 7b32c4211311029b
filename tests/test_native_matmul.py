"""The native engine's packed matrices: packing and unpacking, products at every instruction set, and their ops."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from native_blocks import KINDS, SCALES, random_blocks, random_source
from native_plan import Floats, PlanOfTest, aligned, the_library
from numpy.typing import NDArray

from vitruvius.checkpoints.dequantize import dequantize
from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.native.formats import FORMATS, FROM_FLOATS
from vitruvius.spec import BLOCKS

SIMD = native.library().simd if native.library() else ("none",)  # type: ignore[union-attr]
LOSSLESS = {kind: format_ for format_, kind in KINDS.items()}
FLOATS = ("f32", "f16", "bf16")
SHAPES = [(16, 32), (37, 100), (33, 257), (130, 576)]


def random(*shape: int) -> Floats:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def pack(format_: str, kind: str, source: NDArray[Any], rows: int, cols: int) -> native.CMatrix:
    """A packed matrix, which keeps its memory."""
    library, code = the_library(), FORMATS.index(format_)
    size, panel = (library.get("vt_packed_bytes", code, n, cols) for n in (rows, 16))
    data = aligned(np.full(size, 0xAA, np.uint8))
    source = np.ascontiguousarray(source)
    at = (source.ctypes.data, source.nbytes, data.ctypes.data, size, panel)
    library.call("vt_pack", code, rows, cols, kind.encode(), *at)
    matrix = native.CMatrix(code, rows, cols, 1, data.ctypes.data, size)
    matrix.memory = data
    return matrix


def unpack(matrix: native.CMatrix) -> Floats:
    out = np.full((matrix.rows, matrix.cols), np.nan, np.float32)
    the_library().call("vt_unpack", ctypes.byref(matrix), 0, 0, matrix.rows, out.ctypes.data)
    return out


def multiply(matrix: native.CMatrix, x: Floats, simd: str, threads: int = 1) -> Floats:
    y, seconds = np.full((len(x), matrix.rows), np.nan, np.float32), ctypes.c_double()
    at = (ctypes.byref(matrix), x.ctypes.data, len(x), y.ctypes.data)
    the_library().call("vt_matmul", *at, simd.encode(), threads, 1, ctypes.byref(seconds))
    return y


def random_matrix(format_: str, rows: int, cols: int, seed: int = 0) -> native.CMatrix:
    """A packed matrix of about normal numbers."""
    kind, source, whole = random_source(format_, rows, cols, np.random.default_rng(seed))
    matrix = pack(format_, kind, source, rows, whole)
    matrix.cols = cols
    return matrix


def bfloat(x: Floats) -> Floats:
    """Rounded to bfloat16, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def quantized(x: Floats) -> NDArray[np.float64]:
    """What activations are after they have been quantised to int8 in blocks of 32: d · q, d = max |x| / 127."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    most = np.abs(padded).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 1e-30)
    d = (most / np.float32(127)).astype(np.float64)
    return (np.rint(padded * inverse) * d).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_blocks_are_kept_to_the_bit(kind: str) -> None:
    rows, cols = 37, 512
    blocks = random_blocks(kind, rows, cols, np.random.default_rng(0))
    if kind == "MXFP4":
        blocks[:, 0] = np.arange(len(blocks)) % 256
    expected = dequantize(blocks.reshape(-1), kind).reshape(rows, cols)
    found = unpack(pack(LOSSLESS[kind], kind, blocks, rows, cols))
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_floats_are_kept_or_rounded_to_even(rows: int, cols: int) -> None:
    w = random(rows, cols)
    w[0, :4] = [0.0, 1e-7, -65270.0, 2.0**-15]  # in float16 subnormal, near the largest, subnormal
    rounded = {"f32": w, "f16": w.astype(np.float16).astype(np.float32), "bf16": bfloat(w)}
    for kind, source in {
        "F32": w,
        "F16": w.astype(np.float16),
        "BF16": (bfloat(w).view(np.uint32) >> 16).astype(np.uint16),
    }.items():
        for format_ in FLOATS:
            expected = w if kind == "F32" else rounded[kind.lower()]
            expected = {
                "f32": expected,
                "f16": expected.astype(np.float16).astype(np.float32),
                "bf16": bfloat(expected),
            }[format_]
            np.testing.assert_array_equal(
                unpack(pack(format_, kind, source, rows, cols)), expected, err_msg=f"{kind} {format_}"
            )


# Root mean square errors over that of the numbers, normally distributed: a little above what was measured.
ERRORS = {
    "q8": 0.0056,
    "q4": 0.0875,
    "q4m": 0.0745,
}


@pytest.mark.parametrize("format_", ERRORS)
def test_quantised_on_load(format_: str) -> None:
    w = random(64, 512) * 0.02
    w[3] = 0.0
    found = unpack(pack(format_, "F32", w, *w.shape))
    assert np.sqrt(((found - w) ** 2).mean()) < ERRORS[format_] * w.std()
    assert not found[3].any()
    # Better than scales from min and max alone, as llama.cpp has them.
    if format_ == "q4m":
        blocks = w.reshape(-1, 32)
        low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
        step = np.maximum((high - low) / 15, 1e-9)
        plain = np.rint((blocks - low) / step) * step + low
        assert ((found - w) ** 2).mean() < 0.92 * ((plain - blocks) ** 2).mean()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_numbers_on_a_grid_stay_on_it(kind: str) -> None:
    """Dequantised weights are found again exactly: what the real test model has."""
    blocks = random_blocks(kind, 32, 128, np.random.default_rng(0))
    at = BLOCKS[kind][1] - 16  # its nibbles: the codes 0 and (with a minimum) the highest are used, as a quantiser does
    blocks[:, at], blocks[:, at + 1] = 0x00, 0xFF
    if kind.endswith("_1"):
        blocks[:, 1] &= 0x7F  # quantisers give scales that are not negative
    w = dequantize(blocks.reshape(-1), kind).reshape(32, 128)
    found = unpack(pack(LOSSLESS[kind], "F32", w, 32, 128))
    assert np.abs(found - w).max() <= 1e-6 * np.abs(w).max()


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_products(format_: str, rows: int, cols: int) -> None:
    matrix = random_matrix(format_, rows, cols)
    x = random(100, cols)
    x[2], x[3] = 0.0, 1e-38  # 127 / 1e-38 is infinite
    seen = x.astype(np.float64) if format_ in FLOATS else quantized(x)
    expected = seen @ unpack(matrix).astype(np.float64).T
    rounded = bfloat(x).astype(np.float64) @ unpack(matrix).astype(np.float64).T
    bound = 8e-6 * np.sqrt(cols)
    for simd in SIMD:
        for n in (1, 2, 3, 5, 8, 17, 64, 100):
            found = multiply(matrix, x[:n], simd, threads=1 + n % 2)
            pairs = format_ == "bf16" and simd == "avx512" and n >= 8 and np.abs(found - expected[:n]).max() > bound
            wanted = rounded[:n] if pairs else expected[:n]  # with vdpbf16ps x is rounded too
            np.testing.assert_allclose(found, wanted, 0, bound, err_msg=f"{simd} {n} rows")


def test_all_codes_of_the_integer_formats() -> None:
    """The sums in int16 and int32 hold the largest codes against the largest activations, of either sign."""
    for kind, format_ in LOSSLESS.items():
        for fill in (0x00, 0xFF, 0x80, 0x7F):
            elements, size = BLOCKS[kind]
            blocks = np.full((16 * 256 // elements, size), fill, np.uint8)
            for at in SCALES[kind]:
                blocks[:, at : at + 2] = np.float16([1.0]).view(np.uint8)
            if kind == "MXFP4":
                blocks[:, 0] = 127
            matrix = pack(format_, kind, blocks, 16, 256)
            x = np.ones((5, 256), np.float32)
            x[1], x[2, ::2], x[3, 1::4] = -1.0, -1.0, -1.0
            for simd in SIMD:
                expected = quantized(x) @ unpack(matrix).astype(np.float64).T
                np.testing.assert_allclose(
                    multiply(matrix, x, simd), expected, 1e-5, 1e-2, err_msg=f"{simd} {kind} {fill}"
                )


def add(plan: PlanOfTest, matrices: list[native.CMatrix]) -> int:
    """Packed matrices of one size as the copies of one in the plan."""
    first = matrices[0]
    data = aligned(np.concatenate([matrix.memory for matrix in matrices]))
    plan.matrices.append((first.format, first.rows, first.cols, len(matrices), data))
    return len(plan.matrices) - 1


def check_op(inputs: Floats, build: Any, expected: NDArray[Any], bound: float) -> None:
    """The rows that ops give at every instruction set, alone (decoding) and together."""
    for simd in SIMD:
        for threads in (1, 2):
            plan = PlanOfTest(inputs, max_rows=32)
            plan.out(build(plan))
            with plan.engine(simd, threads) as engine:
                np.testing.assert_allclose(engine.run(range(len(inputs))), expected, 1e-5, bound, err_msg=simd)
                np.testing.assert_allclose(engine.run([2]), expected[2:3], 1e-5, bound, err_msg=f"{simd}, one row")


def silu(x: NDArray[Any]) -> NDArray[Any]:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("format_", ["f32", "f16", "q8", "q4m", "q6k"])
def test_matmul_with_all_that_follows_it(format_: str) -> None:
    x, bias = random(21, 96), random(72)
    matrix = random_matrix(format_, 72, 96)
    w = unpack(matrix).astype(np.float64)
    product = (x if format_ in FLOATS else quantized(x)) @ w.T
    before = random(96, 72)

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(72)
        plan.op("matmul", x=plan.x, y=y, matrix=plan.matrix(np.ascontiguousarray(before.T)), scale=1.0)
        bias_ = plan.vector(bias)
        plan.op("matmul", x=plan.x, y=y, matrix=add(plan, [matrix]), bias=bias_, act="silu", skip=0.5, scale=2.0)
        return y

    check_op(x, build, 0.5 * (x @ before.astype(np.float64)) + 2 * silu(product + bias), 1e-4)


@pytest.mark.parametrize("format_", ["f32", "bf16", "q8", "q5m"])
def test_heads_have_a_copy_each(format_: str) -> None:
    """Three heads of 40 columns, 48 apart in x, to 24 rows each, 30 apart in y."""
    x = random(21, 136)
    copies = [random_matrix(format_, 24, 40, seed) for seed in range(3)]
    expected = np.zeros((21, 84))
    for h, matrix in enumerate(copies):
        part = np.ascontiguousarray(x[:, 48 * h : 48 * h + 40])
        seen = part if format_ in FLOATS else quantized(part)
        expected[:, 30 * h : 30 * h + 24] = seen @ unpack(matrix).astype(np.float64).T

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(84)
        plan.op("matmul", x=plan.x, y=y, matrix=plan.matrix(np.zeros((84, 136), np.float32)), scale=1.0)
        plan.op("matmul", x=plan.x, y=y, matrix=add(plan, copies), scale=1.0, heads=3, x_step=48, y_step=30)
        return y

    check_op(x, build, expected, 1e-4)


@pytest.mark.parametrize("format_", ["f32", "q8", "q4", "mxfp4"])
@pytest.mark.parametrize("act", ["silu", "gelu_tanh", "relu2", "clamped"])
def test_gated_products(format_: str, act: str) -> None:
    """Gate and up of 40 channels (three panels each, which alternate), with biases."""
    x, biases = random(21, 64), random(96)
    matrix = random_matrix(format_, 96, 64)
    panels = ((x if format_ in FLOATS else quantized(x)) @ unpack(matrix).astype(np.float64).T + biases).reshape(
        21, 3, 2, 16
    )
    gate, up = (panels[:, :, i].reshape(21, 48)[:, :40] for i in (0, 1))
    if act == "clamped":
        gate, up = np.minimum(gate, 3.0), np.clip(up, -3.0, 3.0)
        expected = (up + 1) * gate / (1 + np.exp(-1.7 * gate))
    else:
        gate = 0.7 * gate
        tanh = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        expected = {"silu": silu(gate), "gelu_tanh": tanh, "relu2": np.maximum(gate, 0) ** 2}[act] * up

    def build(plan: PlanOfTest) -> int:
        y = plan.buffer(40)
        more = (
            {"gate_scale": 1.0, "limit": 3.0, "alpha": 1.7, "offset": 1.0} if act == "clamped" else {"gate_scale": 0.7}
        )
        plan.op("glu", x=plan.x, y=y, matrix=add(plan, [matrix]), bias=plan.vector(biases), act=act, **more)
        return y

    check_op(x, build, expected, 1e-3)


def test_packing_refuses_what_does_not_fit() -> None:
    w = random(32, 64)
    for format_, kind, source, text in [
        ("q4", "Q8_0", np.zeros(32 * 64 // 32 * 34, np.uint8), "into other formats"),
        *((format_, "F32", w, "into other formats") for format_ in FORMATS if format_ not in FROM_FLOATS),
        ("f32", "F32", w[:31], "another size"),
        ("f32", "Q2_K", w, "cannot be packed"),
    ]:
        with pytest.raises(InputError, match=text):
            pack(format_, kind, source, 32, 64)
    with pytest.raises(InputError, match="whole blocks"):
        pack("q4", "Q4_0", np.zeros(32 * 2 * 18, np.uint8), 32, 63)
    library = the_library()
    data = np.zeros(4096, np.uint8)
    with pytest.raises(InputError, match="more memory"):
        library.call("vt_pack", 0, 32, 64, b"F32", w.ctypes.data, w.nbytes, data.ctypes.data, data.nbytes, 4096)
    assert library.get("vt_packed_bytes", 99, 32, 64) == library.get("vt_packed_bytes", 0, 0, 64) == -1
