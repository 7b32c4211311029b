"""Damaged checkpoints: small models as GGUF and safetensors, with wrong bytes in their headers, configs and tensors."""

from __future__ import annotations

import json
import random
import struct
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import cases
import gguf
import numpy as np

import vitruvius as vt
from vitruvius import architecture
from vitruvius.checkpoints.matching import plain
from vitruvius.checkpoints.steps import file_shapes
from vitruvius.errors import InputError

from . import one_line
from .plans import INTS

Kind = gguf.GGMLQuantizationType
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "MXFP4", "Q2_K", "Q3_K")
FORMATS = ("as-is", "as-is", "f32", "bf16", "q8", "q4")
CASES = [case for case, config in cases.PLAIN.items() if "quantization_config" not in config]
NUMBERS: tuple[Any, ...] = (*INTS, 2**63 - 1, 2**64 - 1, -(2**63), 2**70, 0.0, -1.0, 0.5, 1e-300, 1e300)
NUMBERS += (float("nan"), float("inf"), float("-inf"))
OTHERS: tuple[Any, ...] = (None, True, False, "", "x", "silu", [], [1], {}, {"a": 1}, [[]], [None], ["full_attention"])


# ---------------------------------------------------------------- files that are right


@cache
def gguf_file(arch: str, kind: str, seed: int) -> bytes:
    """A model with experts or without, whose width fits the kind's blocks; in memory."""
    elements, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    width, heads, kv, vocab, experts = max(32, elements), 4, 2, 24, 3
    dim, wide = width // heads, width
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(None, arch)
    sizes = {"context_length": 96, "embedding_length": width, "block_count": 1, "feed_forward_length": wide}
    sizes |= {"attention.head_count": heads, "attention.head_count_kv": kv, "attention.key_length": dim}
    sizes |= {"attention.value_length": dim}
    if arch == "qwen3moe":
        sizes |= {"expert_count": experts, "expert_used_count": 2, "expert_feed_forward_length": wide}
    for key, value in sizes.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", rng.standard_normal(shape).astype(np.float32), raw_dtype=Kind.F32)
            return
        bytes_of = (*shape[:-1], shape[-1] // elements * size)
        data = rng.integers(0, 256, bytes_of, np.uint8)
        if kind == "F32":
            data = rng.standard_normal(shape).astype(np.float32).view(np.uint8)
        writer.add_tensor(f"{name}.weight", data, raw_shape=bytes_of, raw_dtype=Kind[kind])

    add("token_embd", vocab, width)
    add("output_norm", width)
    for norm in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{norm}", width)
    for part, rows in (("q", heads * dim), ("k", kv * dim), ("v", kv * dim), ("output", width)):
        add(f"blk.0.attn_{part}", rows, width)
    if arch != "llama":
        add("blk.0.attn_q_norm", dim)
        add("blk.0.attn_k_norm", dim)
    several = (experts,) if arch == "qwen3moe" else ()
    for part in ("gate", "up", "down"):
        add(f"blk.0.ffn_{part}{'_exps' if several else ''}", *several, wide, width)
    if several:
        add("blk.0.ffn_gate_inp", experts, width)
    return _written(writer)


def _written(writer: gguf.GGUFWriter) -> bytes:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        writer.write_header_to_file(Path(file.name))
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return Path(file.name).read_bytes()


@cache
def safetensors_file(case: str, dtype: str, seed: int) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A model's config.json, and the header and the tensors of its file."""
    config = cases.PLAIN[case]
    rng = np.random.default_rng(seed)
    header: dict[str, Any] = {}
    data = b""
    for entry in plain(architecture(config)):
        for name, shape in file_shapes(entry).items():
            values = 0.2 * rng.standard_normal(shape).astype(np.float32)
            raw = values.tobytes() if dtype == "F32" else values.astype(np.float16).tobytes()
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    return config, header, data


def spelled(header: dict[str, Any], data: bytes, spaces: int = 0) -> bytes:
    """A safetensors file; with spaces after its header no tensor need be where its elements are aligned."""
    text = json.dumps(header).encode() + b" " * spaces
    return struct.pack("<Q", len(text)) + text + data


def right(folder: Path, case: str, dtype: str = "F32") -> Path:
    """A folder with a tiny model."""
    config, header, data = safetensors_file(case, dtype, 0)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(spelled(header, data))
    return folder


# ---------------------------------------------------------------- files that are wrong


def damaged(data: bytes, limit: int, chance: random.Random) -> bytes:
    """Bytes with one to four mistakes, most of them among the first `limit`."""
    wrong = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(max(1, min(limit, len(wrong)) if chance.random() < 0.9 else len(wrong)))
        match chance.randrange(7):
            case 0:
                wrong[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                wrong[at : at + 1] = bytes([(wrong[at] if at < len(wrong) else 0) ^ 1 << chance.randrange(8)])
            case 2:
                wrong[at : at + 8] = struct.pack("<Q", chance.choice(INTS) % 2**64)
            case 3:
                wrong[at : at + 4] = struct.pack("<I", chance.choice(INTS) % 2**32)
            case 4:
                del wrong[at : at + chance.choice((1, 4, 8, 100))]
            case 5:
                wrong[at:at] = chance.randbytes(chance.choice((1, 4, 8, 100)))
            case _:
                del wrong[at if chance.random() < 0.5 else chance.randrange(len(wrong) + 1) :]
    return bytes(wrong)


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one other number, text, list or key somewhere in it; the value itself stays as it is."""
    if isinstance(value, dict) and value and chance.random() < 0.97:
        key = chance.choice(list(value))
        if chance.random() < 0.06:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], changed(value[at], chance), *value[at + 1 :]]
    if isinstance(value, int | float) and chance.random() < 0.7:
        return chance.choice((value + 1, value - 1, value * 2, -value, value // 2, chance.choice(NUMBERS)))
    return chance.choice((*NUMBERS, *OTHERS))


def gguf_input(folder: Path, chance: random.Random) -> Path:
    """A damaged GGUF file."""
    data = gguf_file(chance.choice(("llama", "qwen3", "qwen3moe")), chance.choice(KINDS), chance.randrange(2))
    path = folder / "model.gguf"
    path.write_bytes(damaged(data, data.index(b"blk.0.ffn_down") + 200, chance))
    return path


def safetensors_input(folder: Path, chance: random.Random) -> Path:
    """A folder with a damaged config.json or safetensors file, or with any bits as weights."""
    config, header, data = safetensors_file(chance.choice(CASES), chance.choice(("F32", "F16")), 0)
    way = chance.randrange(5)
    for _ in range(chance.choice((1, 1, 2))):
        config = changed(config, chance) if way == 0 else config
        header = changed(header, chance) if way == 1 else header
    text = json.dumps(config).encode()
    whole = spelled(header, chance.randbytes(len(data)) if way == 4 else data, chance.choice((0, 0, 0, 1, 2, 4, 7)))
    (folder / "config.json").write_bytes(damaged(text, len(text), chance) if way == 2 else text)
    (folder / "model.safetensors").write_bytes(damaged(whole, len(whole) - len(data), chance) if way == 3 else whole)
    return folder


def run(folder: Path, chance: random.Random) -> Counter[str]:
    """Loads a damaged checkpoint and feeds it some tokens. Returns the file's type if that was possible. Anything but
    InputError is a failure."""
    path = gguf_input(folder, chance) if chance.random() < 0.5 else safetensors_input(folder, chance)
    try:
        engine = vt.engine(path, weights=chance.choice(FORMATS), threads=chance.choice((1, 2)))
        logits = engine([[0, 1, 2, 1, 0]])
        state = engine.new_state(1, capacity=8)
        engine.feed([[1, 2]], state)
        engine.feed([[1, 2]], engine.new_state())  # as long as the context that the file claims
    except InputError as error:
        one_line(error)
        return Counter()
    assert logits.shape == (1, 5, engine.spec.head.vocab)
    return Counter(("gguf" if path.is_file() else "safetensors",))
