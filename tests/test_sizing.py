"""Weights are sized as they are stored: what files have, what a config.json says, what was released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.cost.as_stored import AsStored, FileSizes
from vitruvius.sizing import as_stored

GIB = 2**30
LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "dtype": "bfloat16",
}
LLAMA_8B = LLAMA_70B | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


def weights(source: Any, **options: Any) -> int:
    return int(vt.cost(source, context=1024, **options).memory.weights_bytes)


def dynamic(kind: str = "float", bits: int = 8, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, "strategy": "channel", **more}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


# ------------------------------------------------------------------ as released


@pytest.mark.parametrize(
    ("name", "gib", "digits"),
    [
        ("gpt-oss-20b", 12.8, 1),  # arXiv 2508.10925, table 1
        ("gpt-oss-120b", 60.8, 1),
    ],
)
def test_sizes_that_were_published(name: str, gib: float, digits: int) -> None:
    assert round(weights(name) / GIB, digits) == gib


# ggml-org/llama.cpp tools/quantize/README.md (311c2c9f): the files of meta-llama/Llama-3.1-8B, in GiB
LLAMA_31_8B = """IQ1_S 1.87, IQ1_M 2.01, IQ2_XXS 2.23, IQ2_XS 2.42, IQ2_S 2.56, IQ2_M 2.74, IQ3_XXS 3.04, IQ3_XS 3.27,
    IQ3_S 3.42, IQ3_M 3.52, IQ4_XS 4.17, IQ4_NL 4.38, Q2_K_S 2.78, Q2_K 2.95, Q3_K_S 3.41, Q3_K_L 4.02, Q4_K_S 4.36,
    Q4_K_M 4.58, Q5_K_S 5.21, Q5_K_M 5.33, Q6_K 6.14, Q8_0 7.95, F16 14.96"""


def test_gguf_files_have_their_published_sizes() -> None:
    published = dict(each.split() for each in LLAMA_31_8B.split(","))
    arch = vt.architecture("llama-3.1-8b")
    assert {kind: f"{weights(arch, weights=kind) / GIB:.2f}" for kind in published} == published
    # ggml-org/llama.cpp issue 14235: "file size = 17.28 GiB (4.86 BPW)"
    assert round(weights("qwen3-30b-a3b", weights="q4_k_m") / GIB, 2) == 17.28


def test_deepseek_v3_as_released() -> None:
    """The repository's index states 688,586,727,753 bytes: ours, the layer for multi-token prediction, whose files hold
    the embedding and the head again in bf16, and 12 MB of scales kept in float32 (0.002 %)."""
    memory = vt.cost("deepseek-v3", context=1024).memory
    again = 2 * 129_280 * 7168 * 2
    assert abs(memory.weights_bytes + memory.mtp_bytes + again - 688_586_727_753) < 2e7
    assert memory.weights_format == "fp8 in blocks of 128 × 128, as released"


def test_int4_experts_of_kimi_k2_thinking() -> None:
    """Attention, shared experts and the dense layer are at bf16; every routed expert in 4 bits, a scale for each 32."""
    arch = vt.architecture("kimi-k2-thinking")
    parts = vt.cost(arch, context=1024).parameters.by_part
    routed = parts["experts"]
    others = sum(n for part, n in parts.items() if part not in ("experts", "mtp"))
    bias = parts["router selection bias"]
    shape = 3 * 60 * 384 * 16  # of each packed matrix, two integers of 64 bits
    assert weights(arch) == routed // 2 + routed // 32 * 2 + shape + 2 * (others - bias) + 4 * bias


def test_a_dtype_that_is_asked_for_is_a_choice() -> None:
    arch = vt.architecture("gpt-oss-20b")
    assert weights(arch, weights="bf16") == 2 * vt.cost(arch).parameters.total
    assert weights("smollm2-135m", dtype="f32") == 4 * vt.cost("smollm2-135m").parameters.total


# ------------------------------------------------------------------ as config.json says


def test_fp8_by_channel() -> None:
    """vLLM's log: 67.72 GiB for Llama-3.3-70B-Instruct-FP8-dynamic (llm-d/llm-d-benchmark issue 345)."""
    size = weights(LLAMA_70B | {"quantization_config": dynamic()})
    table = 128256 * 8192
    rows = 80 * (2 * 8192 + 2 * 1024 + 2 * 28672 + 8192)
    assert size == (70_553_706_496 - 2 * table) + 2 * rows + 2 * 2 * table + 2 * (161 * 8192) - 161 * 8192
    assert abs(size / GIB - 67.7) < 0.05


@pytest.mark.parametrize(
    ("method", "per_matrix"),
    [
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            lambda r, c: r * c + 4 * -(-r // 128) * -(-c // 128),
        ),
        ({"quant_method": "fp8", "activation_scheme": "static"}, lambda r, c: r * c + 4 + 4),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, lambda r, c: r * c + 4),
        ({"quant_method": "fbgemm_fp8"}, lambda r, c: r * c + 4 * r),
        (dynamic(), lambda r, c: r * c + 2 * r),
        (dynamic(strategy="tensor"), lambda r, c: r * c + 2),
        (
            dynamic("int", 4, strategy="group", group_size=128) | {"format": "pack-quantized"},
            lambda r, c: r * c // 2 + r * c // 128 * 2 + 16,
        ),
        (
            dynamic("int", 4, strategy="group", group_size=64, symmetric=False),
            lambda r, c: (4 * r * c + r * c // 64 * 20) // 8,
        ),
        (dynamic("float", 4, strategy="tensor_group", group_size=16), lambda r, c: r * c // 2 + r * c // 16 + 4),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128},
            lambda r, c: r * c // 2 + (r * c // 128 * 20) // 8 + 4 * c,
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, lambda r, c: r * c + 3 * r + 4 * c),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, lambda r, c: r * c // 2 + (r * c // 128 * 20) // 8),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, lambda r, c: r * c + 4 * r),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            lambda r, c: r * c // 2 + r * c // 64 * 4,
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            lambda r, c: r * c // 2 + r * c // 64 + r * c // (64 * 256) * 4,
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
            lambda r, c: r * c // 2 + r * c // 16 + 4,
        ),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, lambda r, c: r * c + 4),
    ],
)
def test_every_method(method: dict[str, Any], per_matrix: Any) -> None:
    """Matrices of the layers in the method's form; embedding, head and norms in bf16."""
    width, wide, table = 4096, 14336, 128256 * 4096
    matrices = [(width, width)] * 2 + [(1024, width)] * 2 + [(wide, width)] * 2 + [(width, wide)]
    expected = 32 * sum(per_matrix(*shape) for shape in matrices) + 2 * (2 * table + 65 * width)
    assert weights(LLAMA_8B | {"quantization_config": method}) == expected


def test_mlx_packs_the_embedding_too() -> None:
    mlx = {"group_size": 64, "bits": 4}
    matrices = 8_030_261_248 - 65 * 4096
    assert weights(LLAMA_8B | {"quantization": mlx}) == matrices * 9 // 16 + 65 * 4096 * 2
    apart = mlx | {"model.embed_tokens": {"group_size": 32, "bits": 8}, "lm_head": False}
    table = 128256 * 4096
    expected = (matrices - 2 * table) * 9 // 16 + table * 9 // 8 + table * 2 + 65 * 4096 * 2
    assert weights(LLAMA_8B | {"quantization": apart}) == expected


def test_modules_that_are_left_alone() -> None:
    whole = weights(LLAMA_8B | {"quantization_config": {"quant_method": "fp8"}})
    left = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0", "down_proj"]}
    layer = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 2 * 14336 * 4096
    down = 4096 * 14336
    assert weights(LLAMA_8B | {"quantization_config": left}) - whole == (layer + 32 * down) - 4 * (6 + 32)
    groups = dynamic() | {"ignore": ["lm_head", "re:.*self_attn.*"]}
    attention = 2 * 4096 * 4096 + 2 * 1024 * 4096
    more = weights(LLAMA_8B | {"quantization_config": groups}) - weights(LLAMA_8B | {"quantization_config": dynamic()})
    assert more == 32 * (attention - 2 * (2 * 4096 + 2 * 1024))


def test_modules_that_gptq_leaves_alone() -> None:
    """GPTQModel's `dynamic`: "-:" and a pattern of modules that stay as they were."""
    method = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*down_proj": {}, "+:.*up_proj": {}}}
    plain = {key: value for key, value in method.items() if key != "dynamic"}
    rows, columns = 4096, 14336
    packed = rows * columns // 2 + rows * columns // 128 * 20 // 8 + 4 * columns
    left, all_packed = (weights(LLAMA_8B | {"quantization_config": each}) for each in (method, plain))
    assert left - all_packed == 32 * (2 * rows * columns - packed)


def test_a_router_stays_as_it_is() -> None:
    moe = LLAMA_8B | {"model_type": "qwen3_moe", "head_dim": 128, "num_experts": 8, "num_experts_per_tok": 2}
    moe |= {"moe_intermediate_size": 1024, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
    method = {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    parts = vt.cost(moe, context=1024).parameters.by_part
    matrices = 32 * (4 + 8 * 3)
    packed = parts["attention"] - 32 * 2 * 128 + parts["experts"]  # the norms of queries and keys are no matrices
    others = sum(parts.values()) - packed
    assert weights(moe | {"quantization_config": method}) == packed + 4 * matrices + 2 * others


def test_mixed_precision_by_module() -> None:
    layers = {
        f"model.layers.{i}.mlp.{name}_proj": {"quant_algo": "NVFP4"} for i in range(32) for name in ("gate", "up")
    }
    layers |= {"model.layers.3.mlp.down_proj": {"quant_algo": "FP8"}}
    method = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    matrix = 14336 * 4096
    saved = 64 * (2 * matrix - (matrix // 2 + matrix // 16 + 4)) + 2 * matrix - (matrix + 4)
    assert 2 * 8_030_261_248 - weights(LLAMA_8B | {"quantization_config": method}) == saved


def test_the_dtype_of_the_file() -> None:
    assert weights(LLAMA_8B | {"dtype": "float32"}) == 2 * 2 * 8_030_261_248
    assert weights({key: value for key, value in LLAMA_8B.items() if key != "dtype"}) == 2 * 8_030_261_248


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (
            {"quant_method": "fp8", "weight_block_size": [0, 128]},
            r"weight_block_size .* two whole numbers above 0, got",
        ),
        ({"quant_method": "fp8", "weight_block_size": "x"}, r"weight_block_size .* two whole numbers above 0, got 'x'"),
        ({"quant_method": "gptq", "bits": "4"}, r"bits .* a whole number above 0, got '4'"),
        (dynamic(bits=0), r"num_bits .* a whole number above 0, got 0"),
        (dynamic(strategy="group", group_size=None), r"group_size .* a whole number above 0, got None"),
        (dynamic(strategy="odd"), r"packed by 'odd', which is not known"),
        ({"quant_method": "compressed-tensors"}, r"without config_groups"),
        ({"quant_method": "modelopt", "quant_algo": "W1"}, r"ModelOpt's W1"),
        ({"group_size": 0, "bits": 4}, r"group_size .* a whole number above 0, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(method: dict[str, Any], problem: str) -> None:
    with pytest.raises(vt.InputError, match=problem):
        weights(LLAMA_8B | {"quantization_config": method})


def test_methods_that_are_not_known_are_named() -> None:
    config = LLAMA_8B | {"quantization_config": {"quant_method": "aqlm"}}
    with pytest.raises(vt.InputError, match="weights are quantized with aqlm: say their size with --weights"):
        weights(config)
    assert weights(config, weights="bf16") == 2 * 8_030_261_248


def test_names_of_a_wrapper_are_those_of_its_text_model() -> None:
    """nvidia/Qwen3.5-122B-A10B-NVFP4, nvidia/Kimi-K2.6-NVFP4 and mlx-vlm name modules as the wrapper does."""
    plain = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "model.layers.3.self_attn*"]}
    whole = weights(LLAMA_8B | {"quantization_config": plain})
    for start in ("model.language_model.layers", "language_model.model.layers"):
        own = plain | {"ignore": ["lm_head", f"{start}.3.self_attn*"]}
        assert weights(LLAMA_8B | {"quantization_config": own}) == whole
    mlx = {"group_size": 64, "bits": 4}
    apart = {"language_model.model.embed_tokens": False, "language_model.lm_head": False}
    table = 128256 * 4096
    difference = weights(LLAMA_8B | {"quantization": mlx | apart}) - weights(LLAMA_8B | {"quantization": mlx})
    assert difference == 2 * (2 * table - table * 9 // 16)


def test_experts_of_a_layer_named_as_one() -> None:
    """nvidia/Qwen3.6-35B-A3B-NVFP4: "…mlp.experts", with weights of 4 bits and products in bf16."""
    moe = LLAMA_8B | {"model_type": "qwen3_moe", "head_dim": 128, "num_experts": 8, "num_experts_per_tok": 2}
    moe |= {"moe_intermediate_size": 1024, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
    layers = {"model.layers.2.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
    method = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    matrix = 1024 * 4096
    assert weights(moe) - weights(moe | {"quantization_config": method}) == 8 * 3 * (
        2 * matrix - (matrix // 2 + matrix // 16 + 4)
    )


def test_a_format_beside_the_config(tmp_path: Path) -> None:
    """ModelOpt's hf_quant_config.json, as beside nvidia/Llama-3.1-70B-Instruct-FP8's config.json."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_8B))
    format_of = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": format_of}))
    table, norms, matrices = 128256 * 4096, 65 * 4096, 7 * 32
    expected = 8_030_261_248 - 2 * table - norms + 4 * matrices + 2 * (2 * table + norms)
    for source in (tmp_path, file):
        assert weights(source) == expected
        assert vt.cost(source, context=1024).memory.weights_format == "ModelOpt FP8, as config.json says"


# ------------------------------------------------------------------ as the files have it


def tiny(folder: Path, **more: Any) -> Path:
    config = LLAMA_8B | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 96}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, **more}
    vt.save(vt.build(config, dtype="bfloat16"), folder)
    return folder


def test_a_folder_is_measured(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[f"{name}_scale_inv"] = torch.ones(2, 1)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, str(folder / "model.safetensors"))
    found = as_stored(folder, vt.architecture(folder))
    assert isinstance(found, FileSizes)
    assert weights(folder) == sum(tensor.nbytes for tensor in tensors.values())
    assert vt.cost(folder, context=1024).memory.weights_format == "as stored (BF16, F8_E4M3)"


def test_a_tensor_of_several_weights_is_shared_by_them(tmp_path: Path) -> None:
    """Phi-3 stores queries, keys and values in one tensor, gate and up in another."""
    folder = tiny(
        tmp_path, model_type="phi3", rope_scaling=None, original_max_position_embeddings=131072, pad_token_id=0
    )
    assert weights(folder) == sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    found = as_stored(folder, vt.architecture(folder))
    assert isinstance(found, FileSizes)
    sizes = [found.sizes[f"layers.0.mixer.body.{name}.weight"] for name in ("q", "kv.k", "kv.v")]
    assert sizes == [128 * 128 * 2, 64 * 128 * 2, 64 * 128 * 2]


def test_a_gguf_file_is_measured(tmp_path: Path) -> None:
    import gguf

    width, wide, rows = 64, 128, 96
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    facts = {"block_count": 1, "context_length": 64, "embedding_length": width, "feed_forward_length": wide}
    for key, value in (facts | {"attention.head_count": 2, "attention.head_count_kv": 1, "vocab_size": rows}).items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint32("llama.rope.dimension_count", 32)
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    shapes |= {"ffn_gate": (wide, width), "ffn_up": (wide, width), "ffn_down": (width, wide)}
    tensors = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    tensors |= {"token_embd.weight": (rows, width), "output.weight": (rows, width)}
    for name, shape in tensors.items():
        packed = gguf.quants.quantize(np.ones(shape, np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    elements = sum(rows * columns for rows, columns in tensors.values())
    assert weights(tmp_path / "a.gguf") == elements * 34 // 32 + 3 * width * 4


# ------------------------------------------------------------------ on the command line


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_the_command_line_sizes_as_stored(tmp_path: Path) -> None:
    """`vitruvius cost gpt-oss-120b --device h100-sxm`: it fits one."""
    found = run("cost", "gpt-oss-120b", "-c", "8k", "--device", "h100-sxm")
    assert found["memory"]["fits"] is True
    assert found["memory"]["weights_format"] == "mxfp4, as released"
    assert (
        run("cost", "gpt-oss-120b", "-c", "8k", "--device", "h100-sxm", "--weights", "bf16")["memory"]["fits"] is False
    )
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_70B | {"quantization_config": dynamic(), "private": 1}))
    assert (
        round(run("cost", str(file), "-c", "1k", "--ignore-key", "private")["memory"]["weights_bytes"] / GIB, 2)
        == 67.68
    )
    assert run("show", "gpt-oss-20b")["cost"]["memory"]["weights_bytes"] == weights("gpt-oss-20b")
    costs = run("compare", "gpt-oss-20b", "gpt-oss-120b")["costs"]
    assert [cost["memory"]["weights_bytes"] for cost in costs] == [weights("gpt-oss-20b"), weights("gpt-oss-120b")]


def test_packed_names_say_which_matrices() -> None:
    found = as_stored("gpt-oss-20b", vt.architecture("gpt-oss-20b"))
    assert isinstance(found, AsStored)
    assert {name.split(".", 2)[2] for name in found.forms} == {
        "mlp.body.experts.gate.weight",
        "mlp.body.experts.up.weight",
        "mlp.body.experts.down.weight",
    }
