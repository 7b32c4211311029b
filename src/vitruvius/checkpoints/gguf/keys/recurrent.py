"""Models with recurrences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..metadata import Metadata
from .shared import (
    attention,
    biased,
    dense,
    experts,
    gated_shared,
    has_keys,
    latent,
    multipliers,
    outside,
    present,
    routed,
)


def delta_net(meta: Metadata, model_type: str) -> dict[str, Any]:
    """What Qwen3-Next and Qwen3.5 share: Gated DeltaNet, and every so many layers attention over a part of each
    head."""
    heads = meta.whole("ssm.time_step_rank")
    return {
        **dense(meta, partial=True),
        "model_type": model_type,
        "attention_bias": biased(meta),
        "full_attention_interval": meta.whole("full_attention_interval", 4),
        "layer_types": ["full_attention" if item else "linear_attention" for item in present(meta, "attn_q.weight")],
        "linear_conv_kernel_dim": meta.whole("ssm.conv_kernel"),
        "linear_key_head_dim": meta.whole("ssm.state_size"),
        "linear_num_key_heads": meta.whole("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_value_head_dim": meta.share("ssm.inner_size", heads),
    }


def qwen3_next(meta: Metadata) -> dict[str, Any]:
    """Qwen3-Next."""
    return {
        **delta_net(meta, "qwen3_next"),
        **gated_shared(meta),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def qwen3_5(meta: Metadata) -> dict[str, Any]:
    """Qwen3.5, dense."""
    return delta_net(meta, "qwen3_5_text")


def qwen3_5_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3.5 with experts."""
    meta.get("feed_forward_length")
    base = {**delta_net(meta, "qwen3_5_moe_text"), **gated_shared(meta)}
    return {key: value for key, value in base.items() if key != "intermediate_size"}


def bamba(meta: Metadata) -> dict[str, Any]:
    """Mamba-2 in the keys of Bamba and its kin."""
    heads = meta.whole("ssm.time_step_rank")
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": meta.share("ssm.inner_size", heads),
        "mamba_n_groups": meta.whole("ssm.group_count"),
        "mamba_d_state": meta.whole("ssm.state_size"),
        "mamba_d_conv": meta.whole("ssm.conv_kernel"),
        "mamba_conv_bias": biased(meta, "ssm_conv1d"),
        "mamba_proj_bias": biased(meta, "ssm_in"),
    }


FACTORS = """attention_in_multiplier attention_out_multiplier ssm_in_multiplier ssm_out_multiplier key_multiplier
    embedding_multiplier lm_head_multiplier""".split()


def falcon_h1(meta: Metadata) -> dict[str, Any]:
    """Falcon-H1, whose multipliers are folded into the weights; a tied head then is no longer the embedding."""
    return {
        "model_type": "falcon_h1",
        **dense(meta),
        **bamba(meta),
        "mamba_d_ssm": meta.whole("ssm.inner_size"),
        "mamba_rms_norm": present(meta, "ssm_norm.weight")[0],
        "mamba_norm_before_gate": False,
        "projectors_bias": biased(meta, "ssm_out"),
        "attention_bias": biased(meta),
        "mlp_bias": biased(meta, "ffn_up"),
        **dict.fromkeys(FACTORS, 1.0),
        "ssm_multipliers": [1.0] * 5,
        "mlp_multipliers": [1.0] * 2,
    }


def granite_hybrid(meta: Metadata) -> dict[str, Any]:
    """Granite 4."""
    rotates = bool(meta.get("rope.scaling.finetuned", False))
    base = {**dense(meta), **bamba(meta)}
    count = meta.whole_or("expert_count", 0)
    meta.get("expert_used_count")
    if not rotates:
        del base["rope_parameters"]
    return {
        "model_type": "granitemoehybrid",
        **base,
        **(experts(meta, "num_local_experts") if count else {"num_local_experts": 0}),
        "mamba_expand": meta.whole("ssm.inner_size") / base["hidden_size"],
        "layer_types": ["attention" if item else "mamba" for item in has_keys(meta)],
        "position_embedding_type": "rope" if rotates else None,
        "attention_bias": biased(meta),
        "shared_intermediate_size": meta.whole("expert_shared_feed_forward_length", base["intermediate_size"]),
        **multipliers(meta),
    }


def nemotron_h(meta: Metadata) -> dict[str, Any]:
    """Nemotron-H and Nemotron 3: a layer has attention where it has keys, channels where it has a width, else a
    recurrence."""
    base, heads = outside(meta), meta.whole("ssm.time_step_rank")
    count, moe = base.pop("num_hidden_layers"), "expert_count" in meta
    widths = meta.items("feed_forward_length", count)
    kinds = zip(has_keys(meta), widths, strict=True)
    wide = [width for width in widths if width]
    sparse = {}
    if moe:
        sparse = routed(meta) | {"moe_shared_expert_intermediate_size": meta.whole("expert_shared_feed_forward_length")}
        sparse["moe_latent_size"] = meta.get("moe_latent_size")
        del sparse["first_k_dense_replace"]
    return {
        "model_type": "nemotron_h",
        **base,
        **attention(meta),
        **sparse,
        "layers_block_type": [
            "attention" if keys else ("moe" if moe else "mlp") if width else "mamba" for keys, width in kinds
        ],
        "layer_norm_epsilon": meta.number("attention.layer_norm_rms_epsilon"),
        "mamba_num_heads": heads,
        "mamba_head_dim": meta.share("ssm.inner_size", heads),
        "n_groups": meta.whole("ssm.group_count"),
        "ssm_state_size": meta.whole("ssm.state_size"),
        "conv_kernel": meta.whole("ssm.conv_kernel"),
        "use_bias": biased(meta, "ssm_in"),
        "use_conv_bias": biased(meta, "ssm_conv1d"),
        "mlp_bias": biased(meta, "ffn_up") or biased(meta, "ffn_up_shexp"),
        **({"intermediate_size": wide[0]} if wide and not moe else {}),
    }


def lfm2(meta: Metadata) -> dict[str, Any]:
    """LFM2, dense."""
    base = dense(meta)
    return {
        "model_type": "lfm2",
        **{key: value for key, value in base.items() if key != "rms_norm_eps"},
        "norm_eps": base["rms_norm_eps"],
        "layer_types": ["full_attention" if item else "conv" for item in has_keys(meta)],
        "conv_L_cache": meta.whole("shortconv.l_cache"),
        "conv_bias": biased(meta, "shortconv.conv"),
        "block_auto_adjust_ff_dim": False,
    }


def lfm2_moe(meta: Metadata) -> dict[str, Any]:
    """LFM2 with experts."""
    meta.get("expert_gating_func")
    base = lfm2(meta)
    del base["block_auto_adjust_ff_dim"]
    return {
        **base,
        "model_type": "lfm2_moe",
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "num_dense_layers": meta.whole_or("leading_dense_block_count", 0),
        "use_expert_bias": any(present(meta, "exp_probs_b.bias")),
        "norm_topk_prob": True,
        "routed_scaling_factor": meta.number("expert_weights_scale", 1.0),
    }


def mamba2(meta: Metadata) -> dict[str, Any]:
    """Mamba-2."""
    base, heads = outside(meta), meta.whole("ssm.time_step_rank")
    meta.get("feed_forward_length")
    meta.get("attention.head_count")
    return {
        "model_type": "mamba2",
        **base,
        "num_heads": heads,
        "head_dim": meta.share("ssm.inner_size", heads),
        "n_groups": meta.whole("ssm.group_count"),
        "state_size": meta.whole("ssm.state_size"),
        "expand": meta.whole("ssm.inner_size") / base["hidden_size"],
        "conv_kernel": meta.whole("ssm.conv_kernel"),
        "use_conv_bias": biased(meta, "ssm_conv1d"),
        "use_bias": biased(meta, "ssm_in"),
        "layer_norm_epsilon": meta.number("attention.layer_norm_rms_epsilon"),
    }


def kimi_linear(meta: Metadata) -> dict[str, Any]:
    """Kimi Linear."""
    base, sparse = outside(meta), routed(meta)
    full = [i + 1 for i, item in enumerate(has_keys(meta)) if item]
    dim, recurrent = meta.whole("kda.head_dim"), next((i for i, item in enumerate(has_keys(meta)) if not item), 0)
    count, shared = base["num_hidden_layers"], sparse.pop("n_shared_experts")
    meta.get("expert_gating_func")
    meta.get("rope.freq_base")  # of no use: nothing rotates
    moved = {"num_experts": "n_routed_experts", "num_experts_per_token": "num_experts_per_tok"}
    moved |= {"num_expert_group": "n_group", "moe_renormalize": "norm_topk_prob"}
    sparse |= {new: sparse.pop(old) for new, old in moved.items()}
    sparse["moe_renormalize"] = bool(meta.get("expert_weights_norm", True))
    return {
        "model_type": "kimi_linear",
        **{key: value for key, value in base.items() if key != "max_position_embeddings"},
        "model_max_length": base["max_position_embeddings"],
        **latent(meta),
        **sparse,
        "num_shared_experts": shared,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "linear_attn_config": {
            "full_attn_layers": full,
            "kda_layers": [i for i in range(1, count + 1) if i not in full],
            "num_heads": meta.shape(f"blk.{recurrent}.attn_q.weight")[0] // dim,
            "head_dim": dim,
            "short_conv_kernel_size": meta.whole("ssm.conv_kernel"),
        },
    }


ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "qwen3next": qwen3_next,
    "qwen35": qwen3_5,
    "qwen35moe": qwen3_5_moe,
    "falcon-h1": falcon_h1,
    "granitehybrid": granite_hybrid,
    "nemotron_h": nemotron_h,
    "nemotron_h_moe": nemotron_h,
    "lfm2": lfm2,
    "lfm2moe": lfm2_moe,
    "mamba2": mamba2,
    "kimi-linear": kimi_linear,
}
