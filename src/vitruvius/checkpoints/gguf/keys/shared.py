"""What the metadata of several architectures say alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....errors import InputError
from ..metadata import Metadata

AXES = 3  # of positions
MOST_EXPERTS = 4096  # more than that is a damaged file


def outside(meta: Metadata) -> dict[str, Any]:
    """The keys of config.json that every family has."""
    embedding = meta.gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise InputError(f"{meta.gguf.path}: no matrix token_embd.weight; the file does not hold a language model")
    if meta.get("attention.causal", True) is not True:
        raise meta.refuse("attention.causal", False, "true: this is not a decoder")
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": meta.whole("embedding_length"),
        "num_hidden_layers": meta.layers() - meta.whole_or("nextn_predict_layers", 0),
        "max_position_embeddings": meta.whole("context_length"),
        "tie_word_embeddings": "output.weight" not in meta.gguf.tensors,
    }


def attention(meta: Metadata) -> dict[str, Any]:
    """Heads, and their dimension. Hybrids say for each layer how many keys it has, 0 where it has no attention."""
    heads = meta.whole("attention.head_count")
    dim = meta.whole("attention.key_length", meta.whole("embedding_length") // heads)
    if (value := meta.whole("attention.value_length", dim)) != dim:
        raise meta.refuse("attention.value_length", value, f"the head dimension {dim}, which is all that is supported")
    kv = meta.get("attention.head_count_kv", heads)
    several = sorted(set(kv) - {0}) if isinstance(kv, list) and all(type(item) is int for item in kv) else [kv]
    if len(several) != 1 or type(several[0]) is not int or several[0] <= 0:
        raise meta.refuse("attention.head_count_kv", kv, "a positive integer")
    return {"num_attention_heads": heads, "num_key_value_heads": several[0], "head_dim": dim}


def dense(meta: Metadata, partial: bool = False) -> dict[str, Any]:
    """What Llama and its kin say. RoPE over a part of each head is read where it is `partial`."""
    heads = attention(meta)
    return {
        **outside(meta),
        **heads,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, heads["head_dim"], partial=partial),
    }


def layer_normed(meta: Metadata) -> dict[str, Any]:
    """What models with LayerNorm say; RoPE may be over a part of each head."""
    heads = attention(meta)
    return {
        **outside(meta),
        **heads,
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, heads["head_dim"], partial=True),
    }


def biased(meta: Metadata, part: str = "attn_q") -> bool:
    """Whether a projection has a bias in some layer."""
    return any(f"blk.{i}.{part}.bias" in meta.gguf.tensors for i in range(meta.layers()))


def present(meta: Metadata, part: str) -> list[bool]:
    """Which layers have a tensor."""
    return [f"blk.{i}.{part}" in meta.gguf.tensors for i in range(meta.layers())]


def has_keys(meta: Metadata) -> list[bool]:
    """Which layers of a hybrid have attention: those whose number of keys is not 0."""
    kv = meta.get("attention.head_count_kv")
    if not isinstance(kv, list):
        return [True] * meta.layers()
    return [item > 0 for item in kv[: meta.layers()]]


def rope(meta: Metadata, dim: int, theta: float = 10_000.0, partial: bool = False) -> dict[str, Any]:
    """`rope_parameters` of config.json; `theta` where the file is silent, as in llama.cpp."""
    theta, turned = meta.number("rope.freq_base", theta), meta.whole("rope.dimension_count", dim)
    if turned != dim and not partial:
        raise meta.refuse("rope.dimension_count", turned, f"the head dimension {dim}, which is all that is supported")
    part = {"partial_rotary_factor": turned / dim} if partial else {}
    kind = meta.get("rope.scaling.type", "none")
    derived = llama3_scaling(meta, dim, theta)
    if "rope_factors_long.weight" in meta.gguf.tensors:
        return {"rope_theta": theta, **part, **long_rope(meta)}
    if kind != "none" and derived:
        raise meta.refuse("rope.scaling.type", kind, "possible together with rope_freqs.weight")
    if kind == "none":
        linear = meta.number("rope.scale_linear", 1.0)  # how the first files said it
        scaling = derived or ({"rope_type": "linear", "factor": linear} if linear != 1 else {"rope_type": "default"})
    elif kind == "linear":
        scaling = {"rope_type": kind, "factor": meta.number("rope.scaling.factor")}
    elif kind == "yarn":
        scaling = {
            "rope_type": kind,
            "factor": meta.number("rope.scaling.factor"),
            "original_max_position_embeddings": meta.whole("rope.scaling.original_context_length"),
        }
        for key, name in YARN.items():
            if f"rope.scaling.{key}" in meta:
                scaling[name] = meta.number(f"rope.scaling.{key}")
    else:
        raise meta.refuse("rope.scaling.type", kind, "none, linear or yarn, which is all that is supported")
    return {"rope_theta": theta, **part, **scaling, **sections(meta)}


def sections(meta: Metadata) -> dict[str, Any]:
    """The pairs of channels for time, height and width, where positions have axes; Qwen3's turn in turn."""
    sizes = meta.get("rope.dimension_sections")
    if not sizes:
        return {}
    if not isinstance(sizes, list) or len(sizes) < AXES or not all(type(size) is int for size in sizes):
        raise meta.refuse("rope.dimension_sections", sizes, "three sizes, of time, height and width")
    interleaved = {"mrope_interleaved": True} if meta.architecture.startswith("qwen3") else {}
    return {"mrope_section": sizes[:AXES], **interleaved}


def long_rope(meta: Metadata) -> dict[str, Any]:
    """LongRoPE, whose factors are two tables."""
    long, short = (
        meta.gguf.array(f"rope_factors_{length}.weight").reshape(-1).tolist() for length in ("long", "short")
    )
    scaling: dict[str, Any] = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
    scaling["original_max_position_embeddings"] = meta.whole("rope.scaling.original_context_length")
    if "rope.scaling.attn_factor" in meta:
        scaling["attention_factor"] = meta.number("rope.scaling.attn_factor")
    return scaling


YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}


def llama3_scaling(meta: Metadata, dim: int, theta: float) -> dict[str, Any]:
    """Llama 3.1's scaling of RoPE, recognised by the table `rope_freqs.weight` of divisors that it was turned into.

    All published models share the original context 8,192 and the thresholds 1 and 4 (Llama 4: 1 and 1), and differ in
    the factor.
    """
    if "rope_freqs.weight" not in meta.gguf.tensors:
        return {}
    divisors = meta.gguf.array("rope_freqs.weight").reshape(-1)
    factor, low, context = float(divisors.max()), 1.0, 8192
    high = 1.0 if meta.architecture == "llama4" else 4.0
    turns = context / (2 * np.pi * theta ** (np.arange(0, dim, 2) / dim))
    blend = np.clip((turns - low) / (high - low), 0, 1) if high > low else np.where(turns < low, 0.0, 1.0)
    if not (np.isfinite(factor) and factor > 0):
        factor = 1.0
    expected = 1 / ((1 - blend) / factor + blend)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
        raise InputError(
            f"{meta.gguf.path}: rope_freqs.weight is not Llama 3's scaling of RoPE, the only one supported"
        )
    if factor == 1:
        return {}
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }


def multipliers(meta: Metadata) -> dict[str, Any]:
    """Granite's factors."""
    return {
        "attention_multiplier": meta.number("attention.scale"),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def experts(meta: Metadata, count_key: str = "num_experts") -> dict[str, Any]:
    """How many experts there are and how many of them a token uses."""
    count = meta.whole("expert_count")
    if count > MOST_EXPERTS:
        raise meta.refuse("expert_count", count, f"at most {MOST_EXPERTS}")
    return {count_key: count, "num_experts_per_tok": meta.whole("expert_used_count")}


def routed(meta: Metadata) -> dict[str, Any]:
    """DeepSeek's experts, in the keys that its kin share."""
    return {
        **experts(meta, "n_routed_experts"),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "n_shared_experts": meta.whole_or("expert_shared_count", 0),
        "first_k_dense_replace": meta.whole_or("leading_dense_block_count", 0),
        "routed_scaling_factor": meta.number("expert_weights_scale", 1.0),
        "norm_topk_prob": bool(meta.get("expert_weights_norm", False)),
        "n_group": meta.whole("expert_group_count", 1),
        "topk_group": meta.whole("expert_group_used_count", 1),
    }


def latent(meta: Metadata) -> dict[str, Any]:
    """Latent attention. Newer files say the sizes of a head under names of their own."""
    rotary = meta.whole("rope.dimension_count")
    length = "_mla" if "attention.key_length_mla" in meta else ""
    for key in ("key_length", "value_length", "head_count_kv"):
        meta.get(f"attention.{key}")
    return {
        "num_attention_heads": meta.whole("attention.head_count"),
        "q_lora_rank": meta.get("attention.q_lora_rank"),
        "kv_lora_rank": meta.whole("attention.kv_lora_rank"),
        "qk_nope_head_dim": meta.whole(f"attention.key_length{length}") - rotary,
        "qk_rope_head_dim": rotary,
        "v_head_dim": meta.whole(f"attention.value_length{length}"),
    }


def gated_shared(meta: Metadata) -> dict[str, Any]:
    """Qwen's experts with a shared one."""
    return {
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "shared_expert_intermediate_size": meta.whole("expert_shared_feed_forward_length"),
    }


def windows(meta: Metadata, every: int) -> list[str]:
    """`layer_types`: as the file lists them, or with the last of `every` layers full."""
    key, count = "attention.sliding_window_pattern", meta.layers()
    pattern = meta.get(key, every)
    if type(pattern) is int and pattern > 0:
        pattern = [(i + 1) % pattern != 0 for i in range(count)]
    if not isinstance(pattern, list) or len(pattern) != count or not all(type(item) is bool for item in pattern):
        raise meta.refuse(key, pattern, f"a period or one truth value for each of {count} layers")
    return ["sliding_attention" if item else "full_attention" for item in pattern]


def two_ropes(meta: Metadata, dim: int, theta: float, local: float = 10_000.0, partial: bool = False) -> dict[str, Any]:
    """RoPE of full and of windowed layers, with the bases where the file is silent; a scaling is of the full ones."""
    full = rope(meta, dim, theta, partial)
    part = {"partial_rotary_factor": full["partial_rotary_factor"]} if partial else {}
    base = meta.number("rope.freq_base_swa", local)
    return {"full_attention": full, "sliding_attention": {"rope_theta": base, "rope_type": "default", **part}}
