"""Gemma."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np

from ....errors import InputError
from ..metadata import Metadata
from .shared import biased, dense, experts, outside, present, two_ropes, windows


def gemma(meta: Metadata) -> dict[str, Any]:
    """Gemma 1."""
    return {"model_type": "gemma", **dense(meta), "attention_bias": biased(meta)}


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
    windowed, base = "attention.sliding_window" in meta, _gemma(meta, largest=62)
    return {
        "model_type": "gemma3_text",
        **base,
        "rope_parameters": two_ropes(meta, base["head_dim"], 1_000_000.0),
        "sliding_window": meta.whole("attention.sliding_window") if windowed else None,
        "layer_types": windows(meta, every=6 if windowed else 1),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
    }


def gemma3n(meta: Metadata) -> dict[str, Any]:
    """Gemma 3n. Where channels stay inactive the file gives the threshold in standard deviations."""
    base = dense(meta)
    base["rope_parameters"] = two_ropes(meta, base["head_dim"], 1_000_000.0)
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


def gemma4(meta: Metadata) -> dict[str, Any]:
    """Gemma 4. Keys and values are one where a layer has no own values; the last layers use those of earlier ones."""
    base, kinds = outside(meta), windows(meta, every=6)
    count, shared = len(kinds), meta.whole_or("attention.shared_kv_layers", 0)
    dims = {"full_attention": "attention.key_length", "sliding_attention": "attention.key_length_swa"}
    for length in ("", "_swa"):
        if meta.whole(f"attention.value_length{length}") != (size := meta.whole(f"attention.key_length{length}")):
            raise meta.refuse(f"attention.value_length{length}", meta.get(f"attention.value_length{length}"), str(size))
    heads, widths = meta.each("attention.head_count_kv", count), meta.each("feed_forward_length", count)
    shapes = {str(i): {"num_key_value_heads": heads[i], "head_dim": meta.whole(dims[kinds[i]])} for i in range(count)}
    inputs = meta.whole_or("embedding_length_per_layer_input", 0)
    sparse = {"enable_moe_block": True, "moe_intermediate_size": meta.get("expert_feed_forward_length"), **chosen(meta)}
    return {
        "model_type": "gemma4_text",
        **base,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "num_attention_heads": meta.whole("attention.head_count"),
        "num_key_value_heads": heads[0],
        "head_dim": meta.whole("attention.key_length_swa"),
        "per_layer_config": shapes,
        "attention_bias": biased(meta),
        "attention_k_eq_v": not all(present(meta, "attn_v.weight")[: count - shared]),
        "num_kv_shared_layers": shared,
        "intermediate_size": widths[0],
        "use_double_wide_mlp": widths[-1] > widths[0],
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": kinds,
        "rope_parameters": proportional(meta),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
        "hidden_size_per_layer_input": inputs,
        "vocab_size_per_layer_input": meta.shape("per_layer_token_embd.weight")[0] if inputs else None,
        **(sparse if any(present(meta, "ffn_gate_inp.weight")) else {"enable_moe_block": False}),
    }


def chosen(meta: Metadata) -> dict[str, Any]:
    """How many experts there are and how many of them a token uses."""
    if not meta.get("expert_count"):
        meta.get("expert_used_count")
        return {}
    counts = experts(meta)
    return {"num_experts": counts["num_experts"], "top_k_experts": counts["num_experts_per_tok"]}


def proportional(meta: Metadata) -> dict[str, Any]:
    """RoPE of full layers, whose pairs turn as their table says: those with the divisor 1, and of the others none that
    counts; and of windowed layers."""
    dim, window_dim = (meta.whole(f"attention.key_length{length}") for length in ("", "_swa"))
    for key, size in (("rope.dimension_count", dim), ("rope.dimension_count_swa", window_dim)):
        if meta.whole(key, size) != size:
            raise meta.refuse(key, meta.get(key), f"the head dimension {size}, which is all that is supported")
    share = 1.0
    if "rope_freqs.weight" in meta.gguf.tensors:
        divisors = meta.gguf.array("rope_freqs.weight").reshape(-1)
        share = float(np.mean(divisors == 1))
        if not np.all((divisors == 1) | (divisors >= STILL)) or np.any(np.diff(divisors) < 0):
            raise InputError(f"{meta.gguf.path}: rope_freqs.weight is not Gemma 4's, which turns the first pairs only")
    full = {
        "rope_type": "proportional",
        "partial_rotary_factor": share,
        "rope_theta": meta.number("rope.freq_base", 1e6),
    }
    local = {"rope_type": "default", "rope_theta": meta.number("rope.freq_base_swa", 10_000.0)}
    return {"full_attention": full, "sliding_attention": local}


STILL = 1e20  # the divisor of pairs that do not turn

ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "gemma4": gemma4,
}
