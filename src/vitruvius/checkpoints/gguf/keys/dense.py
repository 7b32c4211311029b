"""Models of attention and dense layers (and Mixtral, whose files say llama)."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

from ..metadata import Metadata
from .shared import biased, dense, experts, outside, present, two_ropes, windows


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
    """Qwen 2 and 2.5, dense."""
    return {"model_type": "qwen2", **dense(meta), "hidden_act": "silu", "use_sliding_window": False}


def gemma(meta: Metadata) -> dict[str, Any]:
    """Gemma 1."""
    return {"model_type": "gemma", **dense(meta), "attention_bias": biased(meta)}


def granite(meta: Metadata) -> dict[str, Any]:
    """Granite 3, dense."""
    return {
        **llama(meta),
        "model_type": "granite",
        "attention_multiplier": meta.number("attention.scale"),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def qwen3(meta: Metadata) -> dict[str, Any]:
    """Qwen3, dense."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    return {"model_type": "qwen3", **base, "use_sliding_window": False}


def _gemma(meta: Metadata, largest: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share. Scores are scaled by the head dimension, but in the largest model, known by its number
    of layers, by the width of a head's share (src/models/gemma2.cpp, gemma3.cpp)."""
    base = dense(meta)
    share = base["hidden_size"] // base["num_attention_heads"]
    return {
        **base,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": biased(meta),
        "query_pre_attn_scalar": share if base["num_hidden_layers"] == largest else base["head_dim"],
    }


def gemma2(meta: Metadata) -> dict[str, Any]:
    """Gemma 2: the first of every two layers is windowed."""
    return {
        "model_type": "gemma2",
        **_gemma(meta, largest=46),
        "sliding_window": meta.whole("attention.sliding_window", 4096),
        "layer_types": windows(meta, every=2),
        "attn_logit_softcapping": meta.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 30.0),
    }


def gemma3(meta: Metadata) -> dict[str, Any]:
    """Gemma 3: five windowed layers for each full one, each kind with its own RoPE; without a window all are full."""
    windowed = "attention.sliding_window" in meta
    return {
        "model_type": "gemma3_text",
        **_gemma(meta, largest=62),
        "rope_parameters": two_ropes(meta, 1_000_000.0),
        "sliding_window": meta.whole("attention.sliding_window") if windowed else None,
        "layer_types": windows(meta, every=6 if windowed else 1),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
    }


def gemma3n(meta: Metadata) -> dict[str, Any]:
    """Gemma 3n. Where channels stay inactive the file gives the threshold in standard deviations."""
    base = dense(meta) | {"rope_parameters": two_ropes(meta, 1_000_000.0)}
    deviations = meta.items("activation_sparsity_scale", base["num_hidden_layers"])
    laurel, table = meta.shape("blk.0.laurel_l.weight"), meta.shape("per_layer_token_embd.weight")
    return {
        "model_type": "gemma3n_text",
        **base,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": biased(meta),
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": windows(meta, every=5),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
        "activation_sparsity_pattern": [round((1 + erf(z / 2**0.5)) / 2, 6) for z in deviations],
        "altup_active_idx": meta.whole_or("altup.active_idx", 0),
        "altup_num_inputs": meta.whole("altup.num_inputs"),
        "altup_correct_scale": present(meta, "altup_correct_scale.weight")[0],
        "hidden_size_per_layer_input": meta.whole("embedding_length_per_layer_input"),
        "vocab_size_per_layer_input": table[0],
        "num_kv_shared_layers": meta.whole_or("attention.shared_kv_layers", 0),
        "laurel_rank": laurel[0],
    }


def olmo2(meta: Metadata) -> dict[str, Any]:
    """OLMo 2, and Olmo 3 where there is a window; scaling of RoPE then belongs to the full layers."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    if "attention.sliding_window" not in meta:
        return {"model_type": "olmo2", **base}
    return {
        "model_type": "olmo3",
        **base,
        "rope_parameters": two_ropes(meta, 10_000.0, base["rope_parameters"]["rope_theta"]),
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


ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "llama": llama,
    "mistral3": mistral,
    "smollm3": smollm3,
    "granite": granite,
    "qwen2": qwen2,
    "gemma": gemma,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "olmo2": olmo2,
    "gpt2": gpt2,
}
