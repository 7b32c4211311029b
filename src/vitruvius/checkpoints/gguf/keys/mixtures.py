"""Models of attention and experts."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import Any

from ..metadata import Metadata
from .dense import qwen2, qwen3
from .shared import attention, biased, dense, experts, gated_shared, latent, outside, present, rope, routed, two_ropes

SIGMOID = 2  # enum llama_expert_gating_func_type


def qwen3_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3 with experts in every layer and normalised weights, as llama.cpp has it (src/models/qwen3moe.cpp)."""
    return {
        **qwen3(meta),
        "model_type": "qwen3_vl_moe_text" if meta.architecture == "qwen3vlmoe" else "qwen3_moe",
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


def deepseek(meta: Metadata) -> dict[str, Any]:
    """Latent attention and DeepSeek's experts."""
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
    return base


def deepseek2(meta: Metadata) -> dict[str, Any]:
    """DeepSeek V2, and V3 and its kin where a sigmoid scores (also GLM-4.7-Flash)."""
    base = deepseek(meta)
    if meta.get("expert_gating_func") == SIGMOID or any(present(meta, "exp_probs_b.bias")):
        return {"model_type": "deepseek_v3", **base, "num_nextn_predict_layers": 0}
    grouped = base["n_group"] > 1
    return {"model_type": "deepseek_v2", **base, "topk_method": "group_limited_greedy" if grouped else "greedy"}


def mistral4(meta: Metadata) -> dict[str, Any]:
    """Mistral Small 4. Files made from a Hugging Face folder do not say the queries' temperature."""
    base, beta = deepseek(meta), meta.number("attention.temperature_scale", 0.0)
    for key in ("attention.temperature_length", "expert_gating_func"):
        meta.get(key)
    share = base["qk_rope_head_dim"] / (base["qk_nope_head_dim"] + base["qk_rope_head_dim"])
    base["rope_parameters"] |= {"partial_rotary_factor": share, "llama_4_scaling_beta": beta or None}
    return {"model_type": "mistral4", **base, "attention_bias": biased(meta, "attn_output")}


def glm_dsa(meta: Metadata) -> dict[str, Any]:
    """GLM-5. A layer without an indexer uses that of one before it."""
    for key in ("attention.indexer.types", "expert_gating_func"):
        meta.get(key)
    base = deepseek(meta)
    own = present(meta, "indexer.attn_k.weight")[: base["num_hidden_layers"]]
    return {
        "model_type": "glm_moe_dsa",
        **base,
        "attention_bias": biased(meta, "attn_output"),
        "num_nextn_predict_layers": meta.whole_or("nextn_predict_layers", 0),
        "index_n_heads": meta.whole("attention.indexer.head_count"),
        "index_head_dim": meta.whole("attention.indexer.key_length"),
        "index_topk": meta.whole("attention.indexer.top_k"),
        "indexer_types": ["full" if item else "shared" for item in own],
    }


def grok(meta: Metadata) -> dict[str, Any]:
    """Grok 2.5, as its architecture file has decided. llama.cpp normalises the experts' weights, and stretches RoPE
    (YaRN), where the release says "original"."""
    for key in """type factor original_context_length yarn_ext_factor yarn_attn_factor yarn_beta_fast
        yarn_beta_slow""".split():
        meta.get(f"rope.scaling.{key}")
    heads = attention(meta)
    scale = heads["head_dim"] ** -0.5
    if not isclose(meta.number("attention.output_scale", scale), scale, rel_tol=1e-6):
        raise meta.refuse(
            "attention.output_scale", meta.get("attention.output_scale"), f"{scale}, all that is supported"
        )
    return {
        "model_type": "grok",
        **outside(meta),
        **heads,
        **experts(meta, "num_local_experts"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "residual_moe": present(meta, "ffn_up.weight")[0],
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": meta.number("rope.freq_base", 10_000.0),
        "rope_type": "original",
        "attn_temperature_len": meta.whole("attention.temperature_length"),
        "attn_logit_softcapping": meta.number("attn_logit_softcapping", 30.0),
        "router_logit_softcapping": meta.number("router_logit_softcapping", 30.0),
        "final_logit_softcapping": meta.number("final_logit_softcapping"),
        "embedding_multiplier_scale": meta.number("embedding_scale"),
        "output_multiplier_scale": meta.number("logit_scale"),
    }


def mimo_v2(meta: Metadata) -> dict[str, Any]:
    """MiMo-V2-Flash, without its layers for multi-token prediction."""
    base, dim = outside(meta), meta.whole("attention.key_length")
    kept, count = base["num_hidden_layers"], meta.layers()
    kv, sliding = meta.each("attention.head_count_kv", count), meta.items("attention.sliding_window_pattern", count)
    heads = {bool(windowed): heads for heads, windowed in zip(kv, sliding, strict=True)}
    meta.get("expert_gating_func")
    return {
        "model_type": "mimo_v2_flash",
        **base,
        **experts(meta, "n_routed_experts"),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "num_attention_heads": meta.whole("attention.head_count"),
        "num_key_value_heads": heads.get(False, kv[0]),
        "swa_num_key_value_heads": heads.get(True, kv[0]),
        "head_dim": dim,
        "v_head_dim": meta.whole("attention.value_length"),
        "attention_bias": biased(meta),
        "attention_value_scale": meta.number("attention.value_scale", 1.0),
        "sliding_window": meta.whole("attention.sliding_window"),
        "hybrid_layer_pattern": [int(item) for item in sliding[:kept]],
        "moe_layer_freq": [int(item) for item in present(meta, "ffn_gate_inp.weight")[:kept]],
        "norm_topk_prob": bool(meta.get("expert_weights_norm", True)),
        "routed_scaling_factor": meta.number("expert_weights_scale", 1.0),
        "n_group": meta.whole("expert_group_count", 1),
        "topk_group": meta.whole("expert_group_used_count", 1),
        "rope_parameters": two_ropes(meta, dim, 10_000.0, partial=True),
    }


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
    "mistral4": mistral4,
    "glm-dsa": glm_dsa,
    "mimo2": mimo_v2,
    "grok": grok,
    "qwen3vlmoe": qwen3_moe,
    "glm4moe": glm4_moe,
    "minimax-m2": minimax_m2,
    "llama4": llama4,
    "afmoe": afmoe,
}
