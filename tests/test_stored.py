"""Tensors as files hold them, in numpy: equal to what PyTorch loads, and in their own blocks where those can stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_architectures import Checkpoint, checkpoint  # noqa: F401, a fixture
from test_packed import DEEPSEEK, GPT_OSS, pack_fp8, random_model, rewrite

import vitruvius as vt
from vitruvius.checkpoints.checkpoint import Checkpoint as Opened
from vitruvius.checkpoints.reading import kind_of, read
from vitruvius.checkpoints.safetensors import Mapped
from vitruvius.checkpoints.stored import Stored
from vitruvius.native import library as native

BUILT = pytest.mark.skipif(native.library() is None, reason="the native library is not built")
Kind = gguf.GGMLQuantizationType


def loaded(folder: Path) -> dict[str, list[tuple[int | None, Stored]]]:
    """Canonical name -> what `read` gives; the announced kinds are checked on the way."""
    opened = Opened.open(folder)
    found: dict[str, list[tuple[int | None, Stored]]] = {}
    for entry in opened.plan(mtp=True).entries:
        for name, copy, tensor in read(entry, opened.tensors):
            found.setdefault(name, []).append((copy, tensor))
            assert kind_of(entry, opened.tensors) in (tensor.kind, "F8_E4M3")
    return found


def assert_same_values(found: dict[str, list[tuple[int | None, Stored]]], model: Any) -> None:
    wanted = model.state_dict()
    assert found.keys() == wanted.keys()
    for name, tensors in found.items():
        for copy, tensor in tensors:
            value = wanted[name] if copy is None else wanted[name][copy]
            assert np.array_equal(tensor.floats(), value.float().numpy()), name
        copies = [copy for copy, _ in tensors]
        assert copies == ([None] if None in copies else list(range(len(wanted[name])))), name


KINDS = ["gpt2", "gpt_oss", "mixtral", "olmo_hybrid_implied", "qwen3_next", "llama4"]


@pytest.mark.parametrize("case", [case for case in KINDS if case in cases.COMPARED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_safetensors_equal_what_torch_loads(
    case: str,
    dtype: torch.dtype,
    checkpoint: Checkpoint,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = checkpoint(case).folder
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value.to(dtype).contiguous() for name, value in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    found = loaded(tmp_path)
    assert {tensor.kind for tensors in found.values() for _, tensor in tensors} == {
        {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    }
    assert_same_values(found, vt.load(tmp_path, mtp=True))


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp8")
    vt.save(random_model(DEEPSEEK), folder)  # type: ignore[arg-type]
    tensors = load_file(folder / "model.safetensors")
    for name in list(tensors):
        if tensors[name].ndim == 2 and "embed" not in name and "head" not in name and ".gate.weight" not in name:
            tensors[name], tensors[f"{name}_scale_inv"] = pack_fp8(tensors[name])
    rewrite(folder, tensors, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]})
    return folder


@pytest.fixture(scope="module")
def mxfp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mxfp4")
    vt.save(random_model(GPT_OSS), folder)  # type: ignore[arg-type]
    tensors, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(3)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, out, into // 32, 16), dtype=torch.uint8, generator=generator)
        scales = torch.randint(121, 126, (experts, out, into // 32), dtype=torch.uint8, generator=generator)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    rewrite(folder, tensors, {"quant_method": "mxfp4"})
    return folder


def test_fp8_and_mxfp4_equal_what_torch_loads(fp8: Path, mxfp4: Path) -> None:
    assert_same_values(loaded(fp8), vt.load(fp8))
    found = loaded(mxfp4)
    assert_same_values(found, vt.load(mxfp4))
    experts = [tensor.kind for name, tensors in found.items() if ".experts." in name for _, tensor in tensors]
    assert sorted(set(experts)) == ["F32", "MXFP4"], "gate and up are cut apart in their blocks; biases are as they are"


@BUILT
@torch.no_grad()
def test_packed_checkpoints_run_natively(fp8: Path, mxfp4: Path) -> None:
    ids = torch.arange(20)[None] % 61
    for folder, formats in ((fp8, {"f32", "bf16"}), (mxfp4, {"f32", "mxfp4"})):
        wanted = vt.load(folder)(ids).numpy()
        exact, own = vt.engine(folder, "f32"), vt.engine(folder)
        assert np.abs(exact(ids.numpy()) - wanted).max() < 1e-4
        assert set(own.weights) == formats
        assert 1e-6 < np.abs(own(ids.numpy()) - wanted).mean() < 0.02 * wanted.std()


def llama(path: Path, kind: Kind) -> Path:
    """A GGUF file of a tiny Llama whose matrices are of one kind."""
    random, writer = np.random.default_rng(0), gguf.GGUFWriter(path, "llama")
    width, heads, groups, hidden, vocab = 256, 8, 4, 512, 61
    numbers = {"embedding_length": width, "block_count": 2, "attention.head_count": heads, "context_length": 99}
    numbers |= {"attention.head_count_kv": groups, "feed_forward_length": hidden}
    for key, number in numbers.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    matrices = {"token_embd": (vocab, width), "output": (vocab, width)}
    for i in range(2):
        part = width * groups // heads
        matrices |= {f"blk.{i}.attn_q": (width, width), f"blk.{i}.attn_k": (part, width)}
        matrices |= {f"blk.{i}.attn_v": (part, width), f"blk.{i}.attn_output": (width, width)}
        matrices |= {f"blk.{i}.ffn_gate": (hidden, width), f"blk.{i}.ffn_up": (hidden, width)}
        matrices |= {f"blk.{i}.ffn_down": (width, hidden)}
    for name, shape in matrices.items():
        values = (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("output_norm", *(f"blk.{i}.{part}_norm" for i in range(2) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", random.standard_normal(width).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


OWN = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8", "Q4_0": "q4", "Q4_1": "q4m", "Q5_0": "q5"}
OWN |= {"Q5_1": "q5m"}


@pytest.mark.parametrize("kind", OWN)
def test_gguf_blocks_stay_and_rows_are_reordered_in_them(kind: str, tmp_path: Path) -> None:
    path = llama(tmp_path / "a.gguf", Kind[kind])
    found = loaded(path)
    matrices = [tensor for tensors in found.values() for _, tensor in tensors if tensor.array.ndim > 1]
    assert {tensor.kind for tensor in matrices} == {kind}
    assert len(matrices) == 16
    assert_same_values(found, vt.load(path))


@BUILT
@pytest.mark.parametrize("kind", OWN)
@torch.no_grad()
def test_gguf_runs_natively_in_its_own_format(kind: str, tmp_path: Path) -> None:
    path, ids = llama(tmp_path / "a.gguf", Kind[kind]), torch.arange(40)[None] % 61
    wanted = vt.load(path)(ids).numpy()
    engine = vt.engine(path, state="f32")
    assert set(engine.weights) == {OWN[kind]}
    got = engine(ids.numpy())
    # integer formats multiply with activations of 8 bits, bfloat16 with bfloat16 ones
    bound = {"F32": 1e-4, "F16": 1e-3}.get(kind, 0.2)
    assert np.abs(got - wanted).max() < bound * wanted.std()


def broken(change: Callable[[dict[str, Any]], object]) -> bytes:
    header: dict[str, Any] = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(24)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff" * 8, "a header of"),
        ((9).to_bytes(8, "little") + b"{", "a header of 9 bytes"),
        ((2).to_bytes(8, "little") + b"[]", "is not an object"),
        ((2).to_bytes(8, "little") + b"{x", "is not JSON"),
        (broken(lambda h: h.clear()), "not described"),
        (broken(lambda h: h["a"].update(dtype="F4")), "holds F4"),
        (broken(lambda h: h["a"].update(shape=[2, 4])), "does not fit its bytes 0 to 24"),
        (broken(lambda h: h["a"].update(shape=[-2, -3])), "does not fit"),
        (broken(lambda h: h["a"].update(data_offsets=[8, 32])), "does not fit"),
        (broken(lambda h: h["a"].update(data_offsets=[0, 2**70])), "does not fit"),
        (broken(lambda h: h["a"].update(shape=3)), "not described"),
    ],
)
def test_damaged_safetensors_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(vt.InputError, match=message):
        Mapped(path).stored("a")
