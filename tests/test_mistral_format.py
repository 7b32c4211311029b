"""Mistral's own format: params.json and consolidated.safetensors hold what a Hugging Face folder holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import reference
import torch
from safetensors.numpy import load_file, save_file

import vitruvius as vt
from vitruvius.cost import cost

# Hugging Face's name -> Mistral's (convert_mistral_weights_to_hf.py; vLLM, mistral_large_3.py)
RENAMED = {
    r"model\.embed_tokens": "tok_embeddings",
    r"model\.norm": "norm",
    r"lm_head": "output",
    r"model\.layers": "layers",
    r"input_layernorm": "attention_norm",
    r"post_attention_layernorm": "ffn_norm",
    r"self_attn\.kv_a_proj_with_mqa": "attention.wkv_a_with_mqa",
    r"self_attn\.(q|kv)_a_layernorm": r"attention.\1_a_norm",
    r"self_attn\.(\w+)_proj": r"attention.w\1",
    r"block_sparse_moe": "feed_forward",
    r"mlp\.gate\.": "gate.",
    r"mlp\.(shared_experts|experts)": r"\1",
    r"mlp\.": "feed_forward.",
    r"gate_proj": "w1",
    r"up_proj": "w3",
    r"down_proj": "w2",
}


def theirs(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A Hugging Face model's tensors in Mistral's format."""
    found = {}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, value in apart(tensors).items():
        count, new = heads.get(name.split(".")[-2]), name
        for old, other in RENAMED.items():
            new = re.sub(old, other, new)
        turned = count and "kv_lora_rank" not in config  # a head's halves become neighbours
        wide = value.reshape(count, 2, -1, value.shape[-1]).swapaxes(1, 2) if turned else value
        found[new] = np.ascontiguousarray(wide.reshape(value.shape))
    return found


def apart(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts one by one."""
    found = {}
    for name, value in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            for e, both in enumerate(value):
                base = name.replace("gate_up_proj", str(e))
                found[f"{base}.gate_proj.weight"], found[f"{base}.up_proj.weight"] = np.split(both, 2)
        elif name.endswith("experts.down_proj"):
            found |= {name.replace("down_proj", f"{e}.down_proj.weight"): down for e, down in enumerate(value)}
        else:
            found[name] = value
    return found


def params(config: dict[str, Any]) -> dict[str, Any]:
    """What params.json says of it."""
    said = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "hidden_dim": config["intermediate_size"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        "norm_eps": config["rms_norm_eps"],
        "vocab_size": config["vocab_size"],
        "tied_embeddings": config.get("tie_word_embeddings", False),
        "max_position_embeddings": config["max_position_embeddings"],
    }
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    said["rope_theta"] = rope.get("rope_theta") or config.get("rope_theta")
    if config.get("sliding_window"):
        said["sliding_window"] = config["sliding_window"]
    if rope.get("rope_type") == "yarn":
        context = rope["original_max_position_embeddings"]
        said["yarn"] = {"factor": rope["factor"], "original_max_position_embeddings": context, "apply_scale": False}
        said["yarn"] |= {"beta": rope["beta_fast"], "alpha": rope["beta_slow"]}
        beta = rope["llama_4_scaling_beta"]
        said["llama_4_scaling"] = {"original_max_position_embeddings": context, "beta": beta}
    if "num_local_experts" in config:
        said["moe"] = {"num_experts": config["num_local_experts"], "num_experts_per_tok": config["num_experts_per_tok"]}
    if "kv_lora_rank" in config:
        latent = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        said |= {key: config[key] for key in latent}
        said["moe"] = {
            "num_experts": config["n_routed_experts"],
            "num_experts_per_tok": config["num_experts_per_tok"],
            "num_shared_experts": config["n_shared_experts"],
            "expert_hidden_dim": config["moe_intermediate_size"],
            "first_k_dense_replace": config["first_k_dense_replace"],
            "routed_scale": config["routed_scaling_factor"],
            "num_expert_groups": config["n_group"],
            "num_expert_groups_per_tok": config["topk_group"],
            "route_every_n": 1,
        }
    return said


ROPE = cases.TEXT["ministral3"]["rope_parameters"] | {"mscale": 1.0, "mscale_all_dim": 1.0}
MODELS = {
    "mistral": cases.TEXT["mistral"],
    "mistral_window": cases.TEXT["mistral_window"],
    "mixtral": cases.TEXT["mixtral"],
    "ministral3": cases.TEXT["ministral3"] | {"rope_parameters": ROPE},
    "mistral4": cases.TEXT["mistral4"] | {"attention_bias": False},
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_it_computes_what_the_folder_does(name: str, tmp_path: Path) -> None:
    config, own = MODELS[name], tmp_path / "own"
    made = reference.make(config, tmp_path / "folder")
    own.mkdir()
    tensors = theirs(config, load_file(made.folder / "model.safetensors"))
    half = sorted(tensors)[::2]
    save_file({name: tensors[name] for name in half}, own / "consolidated-00001-of-00002.safetensors")
    rest = {name: value for name, value in tensors.items() if name not in half}
    save_file(rest | {"vision_encoder.x": np.ones(3)}, own / "consolidated-00002-of-00002.safetensors")
    (own / "params.json").write_text(json.dumps(params(config) | {"vision_encoder": {"dim": 4}}), "utf-8")
    model = vt.load(own)
    assert model.spec == vt.architecture(made.folder)
    assert float((model(made.input_ids) - made.logits).abs().max()) < 2e-4
    assert vt.save(model, tmp_path / "saved") == ["vision_encoder.x"]
    assert float((vt.load(tmp_path / "saved")(made.input_ids) - made.logits).abs().max()) < 2e-4


def test_weights_in_fp8_are_named(tmp_path: Path) -> None:
    config = MODELS["mistral"]
    fp8 = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}
    (tmp_path / "params.json").write_text(json.dumps(params(config) | {"quantization": fp8}), "utf-8")
    tensors = {"tok_embeddings.weight": np.ones((83, 60)), "layers.0.attention.wq.qscale_weight": np.ones(1)}
    save_file(tensors, tmp_path / "consolidated.safetensors")
    assert cost(vt.architecture(tmp_path)).parameters.total == cost(vt.architecture(config)).parameters.total
    with pytest.raises(vt.InputError, match="weights in FP8 are not loaded from Mistral's own format"):
        vt.load(tmp_path)


MIXTRAL = {"dim": 6144, "n_layers": 56, "head_dim": 128, "hidden_dim": 16384, "n_heads": 48, "n_kv_heads": 8}


def test_mixtral_8x22b(tmp_path: Path) -> None:
    """The parameters of mistralai/Mixtral-8x22B-v0.1, 140,620,634,112 in its safetensors."""
    experts = {"moe": {"num_experts_per_tok": 2, "num_experts": 8}}
    said = MIXTRAL | experts | {"norm_eps": 1e-5, "vocab_size": 32000, "rope_theta": 1e6}
    (tmp_path / "params.json").write_text(json.dumps(said), "utf-8")
    assert cost(vt.architecture(tmp_path)).parameters.total == 140_620_634_112
