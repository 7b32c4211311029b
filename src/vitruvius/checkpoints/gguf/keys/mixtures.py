"""Models of attention and experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..metadata import Metadata
from .dense import qwen2, qwen3
from .shared import biased, dense, experts, gated_shared, latent, outside, present, rope, routed

SIGMOID = 2  # enum llama_expert_gating_func_type


def qwen3_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3 with experts in every layer and normalised weights, as llama.cpp has it (src/models/qwen3moe.cpp)."""
    return {
        **qwen3(meta),
        "model_type": "qwen3_moe",
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def qwen2_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen1.5 and Qwen2 with experts in every layer, their weights as they are (src/models/qwen2moe.cpp)."""
    return {
        **qwen2(meta),
        "model_type": "qwen2_moe",
        **gated_shared(meta),
        "qkv_bias": biased(meta),
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def olmoe(meta: Metadata) -> dict[str, Any]:
    """OLMoE, whose experts are weighed as they are (src/models/olmoe.cpp)."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    return {"model_type": "olmoe", **base, **experts(meta), "norm_topk_prob": False}


def gpt_oss(meta: Metadata) -> dict[str, Any]:
    """gpt-oss: every second layer is windowed, the first one too."""
    meta.get("feed_forward_length")
    base = dense(meta)
    base["rope_parameters"]["truncate"] = False
    return {
        "model_type": "gpt_oss",
        **base,
        **experts(meta, "num_local_experts"),
        "intermediate_size": meta.whole("expert_feed_forward_length"),
        "attention_bias": biased(meta),
        "sliding_window": meta.whole("attention.sliding_window"),
    }


def deepseek2(meta: Metadata) -> dict[str, Any]:
    """DeepSeek V2, and V3 and its kin where a sigmoid scores."""
    base = {
        **outside(meta),
        **latent(meta),
        **routed(meta),
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, meta.whole("rope.dimension_count")),
    }
    if "rope.scaling.yarn_log_multiplier" in meta:  # a tenth of mscale_all_dim, which mscale equals
        mscale = round(10 * meta.number("rope.scaling.yarn_log_multiplier"), 6)
        base["rope_parameters"] |= {"mscale": mscale, "mscale_all_dim": mscale}
    if meta.get("expert_gating_func") == SIGMOID or any(present(meta, "exp_probs_b.bias")):
        return {"model_type": "deepseek_v3", **base, "num_nextn_predict_layers": 0}
    grouped = base["n_group"] > 1
    return {"model_type": "deepseek_v2", **base, "topk_method": "group_limited_greedy" if grouped else "greedy"}


def glm4_moe(meta: Metadata) -> dict[str, Any]:
    """GLM-4.5 and what follows. Its layers for multi-token prediction are the last of the file's."""
    meta.get("expert_gating_func")
    return {
        "model_type": "glm4_moe",
        **dense(meta, partial=True),
        **routed(meta),
        "attention_bias": biased(meta),
        "use_qk_norm": present(meta, "attn_q_norm.weight")[0],
        "num_nextn_predict_layers": meta.whole_or("nextn_predict_layers", 0),
    }


def minimax_m2(meta: Metadata) -> dict[str, Any]:
    """MiniMax-M2."""
    meta.get("expert_gating_func")
    meta.get("feed_forward_length")
    base = {**dense(meta, partial=True), **experts(meta, "num_local_experts")}
    return {"model_type": "minimax_m2", **base, "intermediate_size": meta.whole("expert_feed_forward_length")}


def llama4(meta: Metadata) -> dict[str, Any]:
    """Llama 4. The file does not say the chunk, the temperature and which layers go without RoPE, and that 128 experts
    mean no norms of queries and keys (src/models/llama4.cpp, llama-model.cpp)."""
    meta.get("leading_dense_block_count")
    meta.get("expert_gating_func")
    base = {**dense(meta), **experts(meta, "num_local_experts")}
    step = meta.whole("interleave_moe_layer_step", 1)
    return {
        "model_type": "llama4_text",
        **base,
        "intermediate_size": meta.whole("expert_feed_forward_length"),
        "intermediate_size_mlp": base["intermediate_size"],
        "interleave_moe_layer_step": step,
        "attention_bias": biased(meta),
        "no_rope_layer_interval": 4,
        "attention_chunk_size": 8192,
        "attn_temperature_tuning": True,
        "attn_scale": 0.1,
        "floor_scale": 8192,
        "use_qk_norm": base["num_local_experts"] != 128,
    }


def afmoe(meta: Metadata) -> dict[str, Any]:
    """Trinity. Every fourth layer sees everything (src/models/afmoe.cpp)."""
    meta.get("expert_gating_func")
    return {
        "model_type": "afmoe",
        **dense(meta),
        **experts(meta),
        "attention_bias": biased(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "num_shared_experts": meta.whole_or("expert_shared_count", 0),
        "num_dense_layers": meta.whole_or("leading_dense_block_count", 0),
        "route_norm": bool(meta.get("expert_weights_norm", True)),
        "route_scale": meta.number("expert_weights_scale", 1.0),
        "sliding_window": meta.whole("attention.sliding_window"),
        "global_attn_every_n_layers": 4,
        "mup_enabled": True,
    }


ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "qwen3moe": qwen3_moe,
    "qwen2moe": qwen2_moe,
    "olmoe": olmoe,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
    "glm4moe": glm4_moe,
    "minimax-m2": minimax_m2,
    "llama4": llama4,
    "afmoe": afmoe,
}
