"""Matrices stored in a few bits: each format, written here element by element as its package lays it out, and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vitruvius as vt
from vitruvius.checkpoints.codecs import Unpacked
from vitruvius.checkpoints.safetensors import Safetensors
from vitruvius.errors import InputError

RNG = np.random.default_rng(7)


def opened(folder: Path, tensors: Mapping[str, Any], **settings: Any) -> Unpacked:
    arrays = {
        name: value if isinstance(value, torch.Tensor) else torch.from_numpy(value) for name, value in tensors.items()
    }
    save_file({name: value.contiguous() for name, value in arrays.items()}, str(folder / "model.safetensors"))
    return Unpacked(Safetensors(folder), settings)


def read(folder: Path, tensors: Mapping[str, Any], name: str = "a.weight", **settings: Any) -> np.ndarray:
    container = opened(folder, tensors, **settings)
    assert set(container.shapes()) == {name}, "nothing of the packed form is left to see"
    values = container.stored(name).floats()
    assert values.dtype == np.float32
    assert values.shape == container.shapes()[name]
    return values


def words(values: np.ndarray, bits: int, axis: int, order: tuple[int, ...] | None = None) -> np.ndarray:
    """Integers along an axis put together in words of 32 bits, element by element."""
    values, per = np.moveaxis(values, axis, 0), 32 // bits
    out = np.zeros((-(-len(values) // per), *values.shape[1:]), np.uint32)
    for i in range(len(values)):
        block = [order[k] for k in range(per)] if order else list(range(per))
        out[i // per] |= values[i].astype(np.uint32) << np.uint32(bits * block.index(i % per))
    return np.moveaxis(out, 0, axis).view(np.int32).copy()


def halves(*shape: int) -> np.ndarray:
    return (RNG.random(shape) * 0.1 + 0.01).astype(np.float16)


# ------------------------------------------------------------------ FP8


@pytest.mark.parametrize(
    ("name", "scales", "settings"),
    [
        ("weight_scale_inv", (3, 2), {}),
        ("weight_scale_inv", (5, 3), {"weight_block_size": [64, 64]}),
        ("weight_scale_inv", (), {"weight_block_size": None}),
        ("weight_scale", (1,), {}),
        ("weight_scale", (1, 1), {}),
        ("weight_scale", (300, 1), {}),
        ("weight_scale", (300,), {}),
    ],
)
def test_fp8(tmp_path: Path, name: str, scales: tuple[int, ...], settings: dict[str, Any]) -> None:
    weight = torch.randn(300, 136).to(torch.float8_e4m3fn)
    scale = torch.rand(scales) + 0.5
    tall, wide = settings.get("weight_block_size") or (128, 128)
    expected = torch.empty(300, 136)
    for i in range(300):
        for j in range(136):
            at = {0: (), 1: (i,), 2: (i, 0)}[scale.ndim]
            if scales in ((3, 2), (5, 3)):
                at = (i // tall, j // wide)
            at = (0,) * len(scales) if scale.numel() == 1 else at
            expected[i, j] = weight[i, j].float() * scale[at]
    tensors = {
        "a.weight": weight,
        f"a.{name}": scale,
        "a.input_scale": torch.ones(()),
        "a.activation_scale": torch.ones(()),
    }
    assert np.array_equal(read(tmp_path, tensors, **settings), expected.numpy())


def test_fp8_without_scales_is_meant_as_it_is(tmp_path: Path) -> None:
    weight = torch.randn(4, 8).to(torch.float8_e4m3fn)
    assert np.array_equal(read(tmp_path, {"a.weight": weight}), weight.float().numpy())


def test_fp8_scales_of_no_kind_are_refused(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(300, 136).to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(7)}
    with pytest.raises(
        InputError, match=r"a.weight \(300, 136\) needs scales \(3, 2\) for blocks of 128 × 128, got \(7,\)"
    ):
        opened(tmp_path, tensors)


# ------------------------------------------------------------------ FP4

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def nvfp4(rows: int, columns: int) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Packed values, E4M3 scales, and values times scales."""
    codes = RNG.integers(0, 16, (rows, columns))
    scales = (torch.rand(rows, columns // 16) * 10 + 1).to(torch.float8_e4m3fn)
    packed = np.zeros((rows, columns // 2), np.uint8)
    expected = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            packed[i, j // 2] |= codes[i, j] << 4 * (j % 2)
            expected[i, j] = FP4[codes[i, j] & 7] * (-1 if codes[i, j] & 8 else 1)
    return packed, scales, expected


def test_nvfp4_of_model_optimizer(tmp_path: Path) -> None:
    packed, scales, values = nvfp4(6, 64)
    whole = torch.tensor(0.37)
    tensors = {"a.weight": packed, "a.weight_scale": scales, "a.weight_scale_2": whole, "a.input_scale": torch.ones(())}
    expected = values * (scales.float() * whole).numpy().repeat(16, 1)
    assert np.array_equal(read(tmp_path, tensors, quant_method="modelopt"), expected)


def test_nvfp4_of_compressed_tensors(tmp_path: Path) -> None:
    packed, scales, values = nvfp4(6, 64)
    whole = torch.tensor([2.7])
    tensors = {"a.weight_packed": packed, "a.weight_scale": scales, "a.weight_global_scale": whole}
    expected = values * (scales.float() / whole).numpy().repeat(16, 1)
    assert np.array_equal(read(tmp_path, tensors, quant_method="compressed-tensors"), expected)


# ------------------------------------------------------------------ GPTQ, AWQ


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [False, True])
def test_gptq(tmp_path: Path, bits: int, form: str, act_order: bool) -> None:
    inputs, outputs, group = 64, 24, 16
    q, zeros = RNG.integers(0, 1 << bits, (inputs, outputs)), RNG.integers(1, 1 << bits, (inputs // group, outputs))
    scales = halves(inputs // group, outputs)
    groups = RNG.permutation(inputs) // group if act_order else np.arange(inputs) // group
    expected = np.zeros((outputs, inputs), np.float32)
    for i in range(inputs):
        for o in range(outputs):
            g = groups[i]
            expected[o, i] = np.float32(scales[g, o]) * np.float32(q[i, o] - zeros[g, o])
    tensors = {
        "a.qweight": words(q, bits, 0),
        "a.qzeros": words(zeros - (form == "gptq"), bits, 1),
        "a.scales": scales,
        "a.g_idx": groups.astype(np.int32),
    }
    found = read(tmp_path, tensors, quant_method="gptq", bits=bits, group_size=group, checkpoint_format=form)
    assert np.array_equal(found, expected)
    if not act_order:
        del tensors["a.g_idx"]
        assert np.array_equal(read(tmp_path, tensors, bits=bits, checkpoint_format=form), expected)


def test_awq(tmp_path: Path) -> None:
    inputs, outputs, group, order = 32, 16, 8, (0, 2, 4, 6, 1, 3, 5, 7)
    q, zeros = RNG.integers(0, 16, (inputs, outputs)), RNG.integers(0, 16, (inputs // group, outputs))
    scales = halves(inputs // group, outputs)
    expected = np.zeros((outputs, inputs), np.float32)
    for i in range(inputs):
        for o in range(outputs):
            expected[o, i] = np.float32(scales[i // group, o]) * np.float32(q[i, o] - zeros[i // group, o])
    tensors = {"a.qweight": words(q, 4, 1, order), "a.qzeros": words(zeros, 4, 1, order), "a.scales": scales}
    assert np.array_equal(read(tmp_path, tensors, quant_method="awq", bits=4, group_size=group), expected)


def test_gptq_that_contradicts_itself(tmp_path: Path) -> None:
    tensors = {
        "a.qweight": np.zeros((4, 8), np.int32),
        "a.qzeros": np.zeros((2, 1), np.int32),
        "a.scales": halves(2, 8),
        "a.g_idx": np.full(32, 5, np.int32),
    }
    with pytest.raises(InputError, match=r"a.g_idx \(32,\) must name one of 2 groups for each of 32 inputs"):
        opened(tmp_path, tensors, bits=4).stored("a.weight")
    with pytest.raises(InputError, match="bits of the quantisation must be one of 2, 4, 8, got 7"):
        opened(tmp_path, tensors, bits=7)
    with pytest.raises(InputError, match="needs scales and qzeros beside it"):
        opened(tmp_path, {"a.qweight": np.zeros((4, 8), np.int32)})


# ------------------------------------------------------------------ compressed-tensors


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("act_order", [False, True])
def test_pack_quantized(tmp_path: Path, bits: int, asymmetric: bool, act_order: bool) -> None:
    rows, columns, group, offset = 10, 44, 11, 1 << bits - 1
    q = RNG.integers(-offset, offset, (rows, columns))
    scales, zeros = halves(rows, columns // group), RNG.integers(-offset, offset, (rows, columns // group))
    groups = RNG.permutation(columns) // group if act_order else np.arange(columns) // group
    expected = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            zero = zeros[i, groups[j]] if asymmetric else 0
            expected[i, j] = np.float32(scales[i, groups[j]]) * np.float32(q[i, j] - zero)
    tensors = {
        "a.weight_packed": words(q + offset, bits, 1),
        "a.weight_scale": scales,
        "a.weight_shape": np.array([rows, columns]),
        **({"a.weight_zero_point": words(zeros + offset, bits, 0)} if asymmetric else {}),
        **({"a.weight_g_idx": groups.astype(np.int32)} if act_order else {}),
    }
    assert np.array_equal(read(tmp_path, tensors, quant_method="compressed-tensors"), expected)


@pytest.mark.parametrize("scales", [(10, 1), (1,), (10, 4)])
def test_int_quantized(tmp_path: Path, scales: tuple[int, ...]) -> None:
    q, scale = RNG.integers(-128, 128, (10, 16)).astype(np.int8), halves(*scales)
    factor = scale.astype(np.float32) if len(scales) < 2 else scale.astype(np.float32).repeat(16 // scales[1], 1)
    tensors = {"a.weight": q, "a.weight_scale": scale, "a.input_scale": halves(1), "b.k_scale": halves(1)}
    assert np.array_equal(read(tmp_path, tensors), q * factor)


# ------------------------------------------------------------------ bitsandbytes


def test_llm_int8(tmp_path: Path) -> None:
    q, largest = RNG.integers(-127, 128, (6, 8)).astype(np.int8), RNG.random(6).astype(np.float32)
    tensors = {"a.weight": q, "a.SCB": largest, "a.weight_format": np.zeros((), np.uint8)}
    assert np.array_equal(read(tmp_path, tensors), q * largest[:, None] * np.float32(7.874015718698502e-3))


@pytest.mark.parametrize("nested", [False, True])
def test_nf4(tmp_path: Path, nested: bool) -> None:
    rows, columns, block, inner = 9, 64, 64, 4
    codes, table = RNG.integers(0, 16, rows * columns), np.sort(RNG.standard_normal(16)).astype(np.float32)
    count = rows * columns // block
    sizes = RNG.random(count).astype(np.float32)
    facts: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16", "shape": [rows, columns]}
    more: dict[str, Any] = {"a.weight.absmax": sizes}
    if nested:
        index, other = RNG.integers(0, 256, count).astype(np.uint8), RNG.standard_normal(256).astype(np.float32)
        scale = RNG.random(-(-count // inner)).astype(np.float32)
        facts |= {"nested_blocksize": inner, "nested_offset": 0.25, "nested_dtype": "float32"}
        more = {"a.weight.absmax": index, "a.weight.nested_absmax": scale, "a.weight.nested_quant_map": other}
        sizes = np.array([other[index[i]] * scale[i // inner] + np.float32(0.25) for i in range(count)], np.float32)
    packed = np.array([codes[2 * i] << 4 | codes[2 * i + 1] for i in range(len(codes) // 2)], np.uint8)
    expected = np.array([table[code] * sizes[i // block] for i, code in enumerate(codes)], np.float32)
    state = np.frombuffer(json.dumps(facts).encode(), np.uint8).copy()
    tensors = {
        "a.weight": packed[:, None],
        "a.weight.quant_map": table,
        "a.weight.quant_state.bitsandbytes__nf4": state,
        **more,
    }
    assert np.array_equal(read(tmp_path, tensors), expected.reshape(rows, columns))


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"blocksize": 0, "shape": [2, 4]}', b'{"shape": [2, 4]}'])
def test_nf4_with_a_damaged_state(tmp_path: Path, text: bytes) -> None:
    state = np.frombuffer(text, np.uint8).copy()
    tensors = {"a.weight": np.zeros((4, 1), np.uint8), "a.weight.quant_state.bitsandbytes__nf4": state}
    with pytest.raises(InputError, match=r"is not the JSON that bitsandbytes writes|has sizes that are none"):
        opened(tmp_path, tensors)


# ------------------------------------------------------------------ MLX


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_mlx(tmp_path: Path, bits: int, dtype: Any) -> None:
    rows, columns, group = 5, 128, 64
    q = RNG.integers(0, 1 << bits, (rows, columns))
    scales, biases = halves(rows, 2).astype(dtype), -halves(rows, 2).astype(dtype)
    packed = np.zeros((rows, columns * bits // 32), np.uint32)
    expected = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            for k in range(bits):  # a stream of bits, the lowest first
                at = j * bits + k
                packed[i, at // 32] |= np.uint32((q[i, j] >> k & 1) << at % 32)
            g = j // group
            expected[i, j] = np.float32(scales[i, g]) * np.float32(q[i, j]) + np.float32(biases[i, g])
    tensors = {"a.weight": packed, "a.scales": scales, "a.biases": biases}
    container = opened(tmp_path, tensors, bits=4, group_size=32, a={"bits": bits, "group_size": group})
    assert np.array_equal(container.stored("a.weight").floats(), expected)
    assert container.stored("a.weight").kind == ("Q4_1" if (bits, dtype) == (4, np.float16) else "F32")
    if bits != 4:
        with pytest.raises(InputError, match="is no matrix of 4 bits in 2 groups of 64"):
            opened(tmp_path, tensors, bits=4, group_size=64)


# ------------------------------------------------------------------ whole models

LLAMA = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}


@pytest.mark.parametrize("form", ["gptq", "mlx"])
def test_a_packed_model_gives_the_logits_of_what_it_stands_for(tmp_path: Path, form: str) -> None:
    """Both executors, and what is saved is no longer packed."""
    from safetensors.torch import load_file

    vt.save(vt.build(LLAMA, seed=3), tmp_path / "plain")
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    plain, packed = dict(tensors), dict(tensors)
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        rows, columns = tensors[name].shape
        stem, q = name.removesuffix(".weight"), RNG.integers(0, 16, (rows, columns))
        scales = halves(rows, columns // 64 if form == "mlx" else columns // 32)
        wide = scales.astype(np.float32).repeat(columns // scales.shape[1], 1)
        del packed[name]
        if form == "mlx":
            biases = (-8 * scales).astype(np.float16)
            values = wide * q.astype(np.float32) + biases.astype(np.float32).repeat(64, 1)
            packed[name] = torch.from_numpy(words(q, 4, 1).view(np.uint32))
            packed |= {f"{stem}.scales": torch.from_numpy(scales), f"{stem}.biases": torch.from_numpy(biases)}
        else:
            values = wide * (q - 8).astype(np.float32)
            packed[f"{stem}.qweight"] = torch.from_numpy(words(np.ascontiguousarray(q.T), 4, 0))
            zeros = words(np.full((columns // 32, rows), 7), 4, 1)
            packed |= {f"{stem}.qzeros": torch.from_numpy(zeros), f"{stem}.scales": torch.from_numpy(scales.T.copy())}
        plain[name] = torch.from_numpy(values)
    method = {"bits": 4, "group_size": 64} if form == "mlx" else {"quant_method": "gptq", "bits": 4, "group_size": 32}
    key = "quantization" if form == "mlx" else "quantization_config"
    config = json.loads((tmp_path / "plain" / "config.json").read_text()) | {key: method}
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    for folder, content in (("plain", plain), ("packed", packed)):
        save_file({k: v.contiguous() for k, v in content.items()}, str(tmp_path / folder / "model.safetensors"))
    ids = torch.arange(20)[None] % 61
    want = vt.load(tmp_path / "plain")(ids)
    assert torch.equal(vt.load(tmp_path / "packed")(ids), want)
    engine = vt.engine(tmp_path / "packed", weights="f32")
    assert np.abs(engine(ids.numpy()) - want.detach().numpy()).max() < 1e-4
    vt.save(vt.load(tmp_path / "packed"), tmp_path / "again")
    assert key not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert torch.equal(vt.load(tmp_path / "again")(ids), want)
