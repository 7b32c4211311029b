"""Models of attention and dense layers (and Mixtral, whose files say llama)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..metadata import Metadata
from .shared import (
    biased,
    dense,
    experts,
    layer_normed,
    multipliers,
    outside,
    present,
    two_ropes,
    windows,
)


def llama(meta: Metadata) -> dict[str, Any]:
    """Llama, and Mixtral where there are experts."""
    base = {**dense(meta), "hidden_act": "silu"}
    if meta.get("expert_count", 0):
        return {"model_type": "mixtral", **base, **experts(meta, "num_local_experts")}
    meta.get("expert_used_count")
    return {"model_type": "llama", **base, "attention_bias": biased(meta), "mlp_bias": biased(meta, "ffn_up")}


def mistral(meta: Metadata) -> dict[str, Any]:
    """The text models of Mistral Small 3.1 and, where there is a temperature, Ministral 3; both are mistral3 here."""
    base = {**dense(meta), "hidden_act": "silu", "sliding_window": None}
    if "attention.temperature_scale" not in meta:
        return {"model_type": "mistral", **base}
    base["rope_parameters"] |= {
        "llama_4_scaling_beta": meta.number("attention.temperature_scale"),
        "mscale": 1.0,
        "mscale_all_dim": meta.number("rope.scaling.yarn_log_multiplier", 0.0),
    }
    return {"model_type": "ministral3", **base}


def smollm3(meta: Metadata) -> dict[str, Any]:
    """SmolLM3. The file does not say which layers go without RoPE: every fourth (src/models/smollm3.cpp)."""
    return {
        **llama(meta),
        "model_type": "smollm3",
        "no_rope_layer_interval": 4,
        "no_rope_layers": [int((i + 1) % 4 != 0) for i in range(meta.layers())],
        "use_sliding_window": False,
    }


def qwen2(meta: Metadata) -> dict[str, Any]:
    """Qwen 2 and 2.5, dense, and the text model of Qwen2.5-VL."""
    model_type = "qwen2_5_vl_text" if meta.architecture == "qwen2vl" else "qwen2"
    return {"model_type": model_type, **dense(meta), "hidden_act": "silu", "use_sliding_window": False}


def granite(meta: Metadata) -> dict[str, Any]:
    """Granite 3, with experts in granitemoe."""
    base = {**dense(meta), **multipliers(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    if meta.architecture == "granitemoe":
        return {"model_type": "granitemoe", **base, **experts(meta, "num_local_experts")}
    for key in ("expert_count", "expert_used_count"):
        meta.get(key)
    return {"model_type": "granite", **base, "mlp_bias": biased(meta, "ffn_up")}


def qwen3(meta: Metadata) -> dict[str, Any]:
    """Qwen3, dense, and the text model of Qwen3-VL."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    return {
        "model_type": "qwen3_vl_text" if meta.architecture == "qwen3vl" else "qwen3",
        **base,
        "use_sliding_window": False,
    }


def olmo2(meta: Metadata) -> dict[str, Any]:
    """OLMo 2, and Olmo 3 where there is a window; scaling of RoPE then belongs to the full layers."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    if "attention.sliding_window" not in meta:
        return {"model_type": "olmo2", **base}
    return {
        "model_type": "olmo3",
        **base,
        "rope_parameters": two_ropes(meta, base["head_dim"], 10_000.0, base["rope_parameters"]["rope_theta"]),
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": windows(meta, every=4),
    }


def gpt2(meta: Metadata) -> dict[str, Any]:
    """GPT-2."""
    base = outside(meta)
    meta.get("attention.head_count_kv")
    return {
        "model_type": "gpt2",
        "vocab_size": base["vocab_size"],
        "tie_word_embeddings": base["tie_word_embeddings"],
        "n_embd": base["hidden_size"],
        "n_layer": base["num_hidden_layers"],
        "n_positions": base["max_position_embeddings"],
        "n_head": meta.whole("attention.head_count"),
        "n_inner": meta.whole("feed_forward_length"),
        "layer_norm_epsilon": meta.number("attention.layer_norm_epsilon"),
    }


def phi3(meta: Metadata) -> dict[str, Any]:
    """Phi-3 and Phi-4. A window of 0 is none."""
    window, context = meta.whole_or("attention.sliding_window", 0), meta.get("rope.scaling.original_context_length")
    base = {"model_type": "phi3", **dense(meta, partial=True), "hidden_act": "silu"}
    return {**base, "sliding_window": window or None, "original_max_position_embeddings": context}


def glm4(meta: Metadata) -> dict[str, Any]:
    """GLM-4 9B (chatglm) and GLM-4-0414."""
    if meta.get("rope.dimension_sections"):
        raise meta.refuse("rope.dimension_sections", meta.get("rope.dimension_sections"), "absent: GLM-4V is not read")
    model_type = "glm" if meta.architecture == "chatglm" else "glm4"
    return {"model_type": model_type, **dense(meta, partial=True), "hidden_act": "silu", "attention_bias": biased(meta)}


def stablelm(meta: Metadata) -> dict[str, Any]:
    """StableLM: side by side where a layer has one norm (src/models/stablelm.cpp)."""
    meta.get("use_parallel_residual")
    base = layer_normed(meta)
    del base["head_dim"]
    return {
        "model_type": "stablelm",
        **base,
        "layer_norm_eps": meta.number("attention.layer_norm_epsilon"),
        "hidden_act": "silu",
        "use_qkv_bias": biased(meta),
        "use_parallel_residual": not present(meta, "ffn_norm.weight")[0],
    }


def starcoder2(meta: Metadata) -> dict[str, Any]:
    """StarCoder 2, without windows (src/models/starcoder2.cpp)."""
    return {
        "model_type": "starcoder2",
        **layer_normed(meta),
        "norm_epsilon": meta.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": biased(meta),
        "sliding_window": None,
    }


def gpt_neox(meta: Metadata) -> dict[str, Any]:
    """GPT-NeoX, Pythia."""
    base = layer_normed(meta)
    del base["num_key_value_heads"], base["head_dim"]
    return {
        "model_type": "gpt_neox",
        **base,
        "layer_norm_eps": meta.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
        "attention_bias": biased(meta, "attn_qkv"),
        "use_parallel_residual": bool(meta.get("use_parallel_residual", True)),
    }


def phi(meta: Metadata) -> dict[str, Any]:
    """Phi-1, Phi-1.5 and Phi-2 (phi2)."""
    base = layer_normed(meta)
    del base["head_dim"]
    eps = meta.number("attention.layer_norm_epsilon")
    return {"model_type": "phi", **base, "layer_norm_eps": eps, "hidden_act": "gelu_new"}


def falcon(meta: Metadata) -> dict[str, Any]:
    """Falcon: attention and the feed-forward layer side by side, on one norm or two."""
    base = layer_normed(meta)
    kv_heads, hidden = base.pop("num_key_value_heads"), base.pop("intermediate_size")
    del base["head_dim"]
    return {
        "model_type": "falcon",
        **base,
        "layer_norm_epsilon": meta.number("attention.layer_norm_epsilon"),
        "activation": "gelu",
        "bias": biased(meta, "attn_qkv"),
        "new_decoder_architecture": True,
        "num_kv_heads": kv_heads,
        "ffn_hidden_size": hidden,
        "num_ln_in_parallel_attn": 2 if present(meta, "attn_norm_2.weight")[0] else 1,
    }


def cohere(meta: Metadata) -> dict[str, Any]:
    """Command R, and R7B where there are windows."""
    base = layer_normed(meta)
    if meta.architecture == "cohere2":
        base |= {"model_type": "cohere2", "sliding_window": meta.whole("attention.sliding_window")}
        base["layer_types"] = windows(meta, every=4)
    else:
        base |= {"model_type": "cohere", "use_qk_norm": present(meta, "attn_q_norm.weight")[0]}
    return {
        **base,
        "layer_norm_eps": meta.number("attention.layer_norm_epsilon"),
        "hidden_act": "silu",
        "attention_bias": biased(meta),
        "logit_scale": meta.number("logit_scale"),
    }


ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "llama": llama,
    "mistral3": mistral,
    "smollm3": smollm3,
    "granite": granite,
    "granitemoe": granite,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen2vl": qwen2,
    "qwen3vl": qwen3,
    "olmo2": olmo2,
    "gpt2": gpt2,
    "phi2": phi,
    "phi3": phi3,
    "glm4": glm4,
    "chatglm": glm4,
    "stablelm": stablelm,
    "starcoder2": starcoder2,
    "gptneox": gpt_neox,
    "falcon": falcon,
    "command-r": cohere,
    "cohere2": cohere,
}
