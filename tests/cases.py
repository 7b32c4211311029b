"""Tiny configs: every option of every family, every kind of layer, every transition between kinds.

Each is a config.json as it could stand in a checkpoint's folder, in the old spelling of RoPE or the new, with keys left
out where files leave them out. Windows are shorter than half of a test's sequence and contexts of RoPE scalings shorter
than all of it; eps is large enough that a misplaced one shows.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

TOKENS = 37  # the length of the sequences that the models are tested on: more than four of the longest window


def config(model_type: str, vocab: int = 83, **keys: Any) -> Config:
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    return {"model_type": model_type, "vocab_size": vocab, **tokens, **keys}


def llama(model_type: str = "llama", **keys: Any) -> Config:
    """The sizes that most families share."""
    sizes = {
        "hidden_size": 60,
        "intermediate_size": 58,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 160,
        "rms_norm_eps": 4e-3,
    }
    return config(model_type, **{**sizes, **keys})


def rope(theta: float = 150.0, **keys: Any) -> Config:
    return {"rope_type": "default", "rope_theta": theta, **keys}


def yarn(factor: float = 6.0, context: int = 11, **keys: Any) -> Config:
    betas = {"beta_fast": 3.0, "beta_slow": 0.2}
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": context, **betas, **keys}


def llama3(factor: float = 5.0, context: int = 14) -> Config:
    factors = {"factor": factor, "low_freq_factor": 1.5, "high_freq_factor": 3.0}
    return {"rope_type": "llama3", "original_max_position_embeddings": context, **factors}


def deepseek(model_type: str, **keys: Any) -> Config:
    sizes = {
        "hidden_size": 44,
        "intermediate_size": 52,
        "moe_intermediate_size": 18,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 22,
        "kv_lora_rank": 14,
        "qk_nope_head_dim": 10,
        "qk_rope_head_dim": 6,
        "v_head_dim": 12,
        "num_experts_per_tok": 3,
        "routed_scaling_factor": 1.7,
        "max_position_embeddings": 160,
        "rms_norm_eps": 4e-3,
    }
    return config(model_type, **{**sizes, **keys})


def gpt2(**keys: Any) -> Config:
    sizes = {"n_embd": 36, "n_layer": 3, "n_head": 3, "n_positions": 64, "layer_norm_epsilon": 4e-3}
    return config("gpt2", **{**sizes, **keys})


def glm4_moe(**keys: Any) -> Config:
    sizes = {"head_dim": 16, "moe_intermediate_size": 18, "n_routed_experts": 6, "num_experts_per_tok": 2}
    return llama(
        "glm4_moe",
        **{**sizes, "num_hidden_layers": 4, "routed_scaling_factor": 1.7, "num_nextn_predict_layers": 0, **keys},
    )


def mimo(**keys: Any) -> Config:
    sizes = {"hidden_size": 64, "num_attention_heads": 8, "head_dim": 16, "v_head_dim": 10, "moe_intermediate_size": 18}
    return llama("mimo_v2_flash", **{**sizes, "n_routed_experts": 6, "num_experts_per_tok": 2, **keys})


def gemma3n(**keys: Any) -> Config:
    sizes = {"head_dim": 10, "sliding_window": 6, "vocab_size_per_layer_input": 83, "hidden_size_per_layer_input": 8}
    return llama("gemma3n_text", **{**sizes, "laurel_rank": 5, **keys})


def gemma4(**keys: Any) -> Config:
    sizes = {"head_dim": 6, "global_head_dim": 8, "sliding_window": 6, "num_attention_heads": 4}
    inputs = {"vocab_size_per_layer_input": 83, "hidden_size_per_layer_input": 8}
    return llama("gemma4_text", **{**sizes, **inputs, **keys})


def laguna(**keys: Any) -> Config:
    sizes = {"head_dim": 12, "sliding_window": 7, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 20}
    experts = {"num_experts": 6, "num_experts_per_tok": 3, "moe_routed_scaling_factor": 1.6}
    return llama("laguna", **{**sizes, **experts, **keys})


def qwen_delta(model_type: str, **keys: Any) -> Config:
    """Gated DeltaNet between layers of gated attention; experts, where the model has any."""
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 8}
    sizes = {"linear_value_head_dim": 10, "linear_conv_kernel_dim": 4, "head_dim": 16}
    if model_type != "qwen3_5_text":
        sizes |= {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 14}
        sizes |= {"shared_expert_intermediate_size": 18}
    return llama(model_type, **{**heads, **sizes, **keys})


def qwen2_moe(**keys: Any) -> Config:
    sizes = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 14}
    return llama("qwen2_moe", **{**sizes, "shared_expert_intermediate_size": 18, **keys})


def granite(model_type: str = "granite", **keys: Any) -> Config:
    factors = {"embedding_multiplier": 3.5, "attention_multiplier": 0.2, "residual_multiplier": 0.6}
    return llama(model_type, **{**factors, "logits_scaling": 1.7, **keys})


def starcoder2(**keys: Any) -> Config:
    values = llama("starcoder2", **{"norm_epsilon": 4e-3, **keys})
    return {k: v for k, v in values.items() if k != "rms_norm_eps"}


def layer_norm(model_type: str, **keys: Any) -> Config:
    """Llama's sizes in a family with LayerNorm."""
    values = llama(model_type, **{"layer_norm_eps": 4e-3, **keys})
    return {k: v for k, v in values.items() if k != "rms_norm_eps"}


def gpt_neox(**keys: Any) -> Config:
    values = layer_norm("gpt_neox", **{"hidden_size": 72, **keys})
    return {k: v for k, v in values.items() if k != "num_key_value_heads"}


def falcon(**keys: Any) -> Config:
    sizes = {"hidden_size": 60, "num_hidden_layers": 3, "num_attention_heads": 6, "layer_norm_epsilon": 4e-3}
    return config("falcon", **{**sizes, "max_position_embeddings": 160, **keys})


def longrope(pairs: int) -> Config:
    factors = {"short_factor": [1.0 + 0.1 * i for i in range(pairs)]}
    return {"type": "longrope", **factors, "long_factor": [1.5 + 0.7 * i for i in range(pairs)]}


def kimi_linear(**keys: Any) -> Config:
    sizes = {"q_lora_rank": None, "num_experts": 6, "num_experts_per_token": 2, "num_shared_experts": 1}
    router = {"num_expert_group": 1, "topk_group": 1, "moe_renormalize": True, "model_max_length": 160}
    values = deepseek("kimi_linear", **{**sizes, **router, **keys})
    return {k: v for k, v in values.items() if k not in ("num_experts_per_tok", "max_position_embeddings")}


def nemotron_h(**keys: Any) -> Config:
    mamba = {"ssm_state_size": 9, "mamba_num_heads": 6, "mamba_head_dim": 7, "n_groups": 2, "conv_kernel": 4}
    moe = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3, "moe_intermediate_size": 14}
    more = {"moe_shared_expert_intermediate_size": 20, "routed_scaling_factor": 1.6, "norm_topk_prob": True}
    sizes = {"head_dim": 12, "n_group": 1, "topk_group": 1, "layer_norm_epsilon": 4e-3, "chunk_size": 8, **more}
    values = llama("nemotron_h", **{**mamba, **moe, **sizes, **keys})
    return {k: v for k, v in values.items() if k not in ("num_hidden_layers", "rms_norm_eps")}


def mamba2(**keys: Any) -> Config:
    sizes = {"hidden_size": 36, "num_hidden_layers": 3, "num_heads": 6, "head_dim": 12, "state_size": 9, "n_groups": 2}
    return config("mamba2", **{**sizes, "expand": 2, "conv_kernel": 4, "layer_norm_epsilon": 4e-3, **keys})


def bamba(model_type: str, **keys: Any) -> Config:
    sizes = {"mamba_n_heads": 6, "mamba_d_head": "auto", "mamba_n_groups": 2, "mamba_d_state": 9, "mamba_d_conv": 4}
    return llama(model_type, **{**sizes, "mamba_expand": 2, "mamba_chunk_size": 8, **keys})


def lfm2(model_type: str = "lfm2", **keys: Any) -> Config:
    kinds = ["conv", "conv", FULL, "conv", FULL]
    sizes = {"norm_eps": 4e-3, "conv_L_cache": 3, "num_hidden_layers": 5, "layer_types": kinds}
    sizes |= {"block_multiple_of": 8} if model_type == "lfm2" else {"num_experts": 6, "num_experts_per_tok": 2}
    values = llama(model_type, **{**sizes, **keys})
    return {k: v for k, v in values.items() if k != "rms_norm_eps"}


FULL, SLIDING = "full_attention", "sliding_attention"
LINEAR = "linear_attention"
VISION = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
}
GEMMA = {"head_dim": 10, "query_pre_attn_scalar": 7, "sliding_window": 6, "tie_word_embeddings": True}

TEXT = {
    "gpt2": gpt2(),
    "gpt2_inverse_layer": gpt2(
        n_inner=50, activation_function="gelu", scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False
    ),
    "gpt2_unscaled": gpt2(scale_attn_weights=False, activation_function="relu", n_head=4, n_layer=2),
    "llama": llama(num_key_value_heads=6, rope_theta=300.0),
    "llama_no_groups": {k: v for k, v in llama(hidden_act="gelu").items() if k != "num_key_value_heads"},
    "llama_biases": llama(attention_bias=True, mlp_bias=True, head_dim=10, rope_parameters=rope()),
    "llama_linear": llama(rope_theta=90.0, rope_scaling={"type": "linear", "factor": 3.0}, tie_word_embeddings=True),
    "llama_yarn": llama(head_dim=16, num_key_value_heads=1, rope_theta=120.0, rope_scaling=yarn()),
    "llama_yarn_exact": llama(
        head_dim=12, rope_parameters=yarn(rope_theta=120.0, truncate=False, attention_factor=1.3)
    ),
    "llama_yarn_mscale": llama(
        head_dim=12, rope_parameters=yarn(rope_theta=120.0, truncate=True, mscale=0.9, mscale_all_dim=0.4)
    ),
    "llama_llama3": llama(head_dim=14, tie_word_embeddings=True, rope_parameters=llama3() | {"rope_theta": 200.0}),
    "llama_llama3_old": llama(hidden_act="gelu_pytorch_tanh", rope_theta=200.0, rope_scaling=llama3()),
    "mistral_window": llama("mistral", head_dim=12, sliding_window=8, rope_theta=100.0),
    "mistral": llama("mistral", sliding_window=None, tie_word_embeddings=True, rope_parameters=rope(1e5)),
    "mistral_yarn": llama("mistral", sliding_window=5, rope_theta=100.0, rope_scaling=yarn()),
    "mixtral": llama("mixtral", num_local_experts=5, num_experts_per_tok=2, rope_theta=1e3),
    "mixtral_window": llama(
        "mixtral",
        num_local_experts=7,
        num_experts_per_tok=3,
        head_dim=8,
        sliding_window=7,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "mixtral_one_expert": llama("mixtral", num_local_experts=3, num_experts_per_tok=1, rope_parameters=rope()),
    "qwen3": llama("qwen3", head_dim=14, tie_word_embeddings=True, rope_theta=1e4),
    "qwen3_windows": llama(
        "qwen3",
        head_dim=10,
        num_hidden_layers=5,
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=2,
        attention_bias=True,
        rope_theta=1e3,
        rope_scaling=yarn(),
    ),
    "qwen3_pattern": llama(
        "qwen3",
        head_dim=8,
        num_hidden_layers=4,
        use_sliding_window=True,
        sliding_window=9,
        layer_types=[SLIDING, FULL, FULL, SLIDING],
        rope_parameters=rope(),
    ),
    "qwen3_moe": llama(
        "qwen3_moe",
        head_dim=10,
        num_hidden_layers=4,
        moe_intermediate_size=16,
        num_experts=6,
        num_experts_per_tok=2,
        norm_topk_prob=False,
        decoder_sparse_step=2,
        rope_theta=500.0,
        rope_scaling=yarn(),
    ),
    "qwen3_moe_window": llama(
        "qwen3_moe",
        head_dim=12,
        num_hidden_layers=5,
        moe_intermediate_size=14,
        num_experts=9,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        mlp_only_layers=[0, 3],
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=3,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "qwen3_moe_all_sparse": llama(
        "qwen3_moe",
        num_hidden_layers=3,
        moe_intermediate_size=20,
        num_experts=5,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        mlp_only_layers=[],
        rope_theta=1e3,
    ),
    "gemma2": llama(
        "gemma2",
        **GEMMA,
        num_hidden_layers=4,
        attn_logit_softcapping=2.5,
        final_logit_softcapping=3.0,
        rope_theta=100.0,
    ),
    "gemma2_uncapped": llama(
        "gemma2",
        **GEMMA | {"tie_word_embeddings": False},
        num_hidden_layers=5,
        layer_types=[FULL, SLIDING, SLIDING, FULL, FULL],
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        attention_bias=True,
        hidden_activation="gelu",
        rope_parameters=rope(),
    ),
    "gemma3": llama(
        "gemma3_text",
        **GEMMA,
        num_hidden_layers=5,
        layer_types=[SLIDING, SLIDING, FULL, FULL, SLIDING],
        final_logit_softcapping=3.0,
        attention_bias=True,
        rope_parameters={FULL: rope(2e3, factor=3.0) | {"rope_type": "linear"}, SLIDING: rope(60.0)},
    ),
    "gemma3_old": llama(
        "gemma3_text",
        **GEMMA,
        num_hidden_layers=6,
        sliding_window_pattern=3,
        rope_theta=2e3,
        rope_local_base_freq=60.0,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
    ),
    "gemma3_pattern_of_six": llama("gemma3_text", **GEMMA, num_hidden_layers=7, attn_logit_softcapping=2.0),
    "gemma3_unscaled": llama(
        "gemma3_text",
        **GEMMA,
        num_hidden_layers=4,
        sliding_window_pattern=2,
        rope_parameters={FULL: rope(2e3), SLIDING: rope(60.0)},
    ),
    "gemma3_untied": llama(
        "gemma3_text",
        **GEMMA | {"tie_word_embeddings": False},
        num_hidden_layers=3,
        hidden_activation="gelu",
        layer_types=[FULL, SLIDING, FULL],
        rope_parameters={FULL: yarn(rope_theta=400.0), SLIDING: llama3() | {"rope_theta": 80.0}},
    ),
    "olmo2": llama("olmo2", rope_theta=2e3),
    "olmo2_biases": llama(
        "olmo2",
        num_key_value_heads=6,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(200.0, factor=2.0) | {"rope_type": "linear"},
    ),
    "olmo3": llama(
        "olmo3", num_hidden_layers=8, sliding_window=6, rope_theta=500_000.0, rope_scaling=yarn(attention_factor=1.2)
    ),
    "olmo3_pattern": llama(
        "olmo3",
        num_hidden_layers=5,
        num_key_value_heads=3,
        sliding_window=9,
        layer_types=[FULL, SLIDING, FULL, FULL, SLIDING],
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters={FULL: yarn(rope_theta=300.0), SLIDING: rope(70.0)},
    ),
    "smollm3": llama(
        "smollm3", num_hidden_layers=6, no_rope_layer_interval=3, rope_theta=5e3, tie_word_embeddings=True
    ),
    "smollm3_windows": llama(
        "smollm3",
        num_hidden_layers=6,
        no_rope_layers=[1, 0, 0, 1, 1, 0],
        use_sliding_window=True,
        sliding_window=7,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=False,
        rope_parameters=rope(),
    ),
    "smollm3_no_positions": llama("smollm3", num_hidden_layers=2, no_rope_layer_interval=1, rope_theta=500.0),
    "smollm3_yarn": llama("smollm3", num_hidden_layers=4, head_dim=12, rope_theta=500.0, rope_scaling=yarn()),
    "deepseek_v2_lite": deepseek(
        "deepseek_v2",
        q_lora_rank=None,
        n_routed_experts=7,
        n_shared_experts=2,
        first_k_dense_replace=1,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        rope_theta=200.0,
        rope_scaling={**yarn(mscale=0.707, mscale_all_dim=0.707), "type": "yarn"},
    ),
    "deepseek_v2": deepseek(
        "deepseek_v2",
        n_routed_experts=12,
        n_shared_experts=1,
        first_k_dense_replace=2,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        rope_parameters=yarn(rope_theta=80.0, mscale=1.0, mscale_all_dim=0.6),
    ),
    "deepseek_v2_biases": deepseek(
        "deepseek_v2",
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=1,
        topk_method="greedy",
        attention_bias=True,
        mlp_bias=True,
        hidden_act="gelu",
        tie_word_embeddings=True,
        rope_theta=200.0,
    ),
    "deepseek_v3": deepseek(
        "deepseek_v3",
        n_routed_experts=12,
        n_shared_experts=1,
        first_k_dense_replace=2,
        n_group=3,
        topk_group=2,
        norm_topk_prob=True,
        num_nextn_predict_layers=0,
        rope_theta=200.0,
        rope_scaling={
            **{k: v for k, v in yarn(mscale=1.0, mscale_all_dim=1.0).items() if k != "rope_type"},
            "type": "yarn",
        },
    ),
    "deepseek_v3_half": deepseek(
        "deepseek_v3",
        q_lora_rank=None,
        n_routed_experts=8,
        n_shared_experts=2,
        first_k_dense_replace=0,
        n_group=4,
        topk_group=3,
        norm_topk_prob=False,
        rope_interleave=False,
        attention_bias=True,
        num_nextn_predict_layers=0,
        rope_parameters=rope(),
    ),
    "kimi_k2": deepseek(
        "kimi_k2",
        n_routed_experts=9,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        num_nextn_predict_layers=0,
        rope_theta=5e3,
        rope_scaling={**yarn(factor=32.0, mscale=1.0, mscale_all_dim=1.0), "type": "yarn"},
    ),
    "deepseek_v3_mtp": deepseek(
        "deepseek_v3",
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
        norm_topk_prob=True,
        num_nextn_predict_layers=1,
        rope_theta=200.0,
        rope_scaling=yarn(mscale=1.0, mscale_all_dim=1.0),
    ),
    "deepseek_v32": deepseek(
        "deepseek_v32",
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=2,
        n_group=2,
        topk_group=1,
        norm_topk_prob=True,
        index_topk=7,
        index_head_dim=10,
        index_n_heads=8,
        rope_theta=200.0,
        rope_scaling=yarn(mscale=1.0, mscale_all_dim=1.0),
    ),
    "deepseek_v32_all_sparse": deepseek(
        "deepseek_v32",
        n_routed_experts=8,
        n_shared_experts=2,
        first_k_dense_replace=0,
        mlp_layer_types=["sparse", "dense", "sparse", "sparse"],
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        attention_bias=True,
        index_topk=5,
        index_head_dim=8,
        index_n_heads=9,
        rope_parameters=rope(),
    ),
    "gpt_oss": llama(
        "gpt_oss",
        head_dim=10,
        num_hidden_layers=4,
        num_local_experts=5,
        num_experts_per_tok=2,
        sliding_window=6,
        swiglu_limit=1.2,
        rope_theta=150.0,
        rope_scaling=yarn(factor=32.0, truncate=False),
    ),
    "gpt_oss_pattern": llama(
        "gpt_oss",
        head_dim=12,
        num_hidden_layers=4,
        layer_types=[FULL, SLIDING, SLIDING, FULL],
        num_local_experts=6,
        num_experts_per_tok=3,
        sliding_window=9,
        swiglu_alpha=0.9,
        attention_bias=False,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "glm4_moe": glm4_moe(
        attention_bias=True,
        n_shared_experts=2,
        first_k_dense_replace=2,
        n_group=2,
        topk_group=1,
        use_qk_norm=True,
        rope_theta=100.0,
        partial_rotary_factor=0.5,
    ),
    "glm4_moe_plain": glm4_moe(
        attention_bias=True,
        n_shared_experts=1,
        first_k_dense_replace=1,
        rope_parameters=rope(partial_rotary_factor=0.25),
    ),
    "glm4_moe_tied": glm4_moe(
        n_shared_experts=1, first_k_dense_replace=0, norm_topk_prob=False, tie_word_embeddings=True, rope_theta=100.0
    ),
    "minimax_m2": llama(
        "minimax_m2", head_dim=12, num_local_experts=6, num_experts_per_tok=3, rotary_dim=4, rope_theta=100.0
    ),
    "minimax_m2_half": llama(
        "minimax_m2",
        head_dim=12,
        num_local_experts=4,
        num_experts_per_tok=2,
        tie_word_embeddings=True,
        rope_parameters=rope(partial_rotary_factor=0.5),
    ),
    "llama4": llama(
        "llama4_text",
        head_dim=10,
        num_hidden_layers=6,
        intermediate_size_mlp=34,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        no_rope_layer_interval=3,
        attention_chunk_size=8,
        floor_scale=5,
        attn_scale=0.4,
        rope_theta=150.0,
        rope_scaling=llama3(),
    ),
    "llama4_all_sparse": llama(
        "llama4_text",
        head_dim=10,
        num_hidden_layers=6,
        intermediate_size_mlp=34,
        num_local_experts=4,
        num_experts_per_tok=1,
        no_rope_layer_interval=3,
        attention_chunk_size=8,
        floor_scale=5,
        attn_scale=0.4,
        rope_theta=150.0,
        rope_scaling=llama3(),
    ),
    "llama4_every_second": llama(
        "llama4_text",
        head_dim=10,
        num_hidden_layers=8,
        intermediate_size_mlp=34,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        attention_chunk_size=8,
        use_qk_norm=False,
        floor_scale=6,
        rope_theta=150.0,
    ),
    "llama4_no_norm": llama(
        "llama4_text",
        head_dim=12,
        num_hidden_layers=5,
        intermediate_size_mlp=30,
        num_local_experts=5,
        num_experts_per_tok=2,
        moe_layers=[0, 3],
        no_rope_layers=[1, 1, 0, 0, 1],
        attention_chunk_size=7,
        use_qk_norm=False,
        attn_temperature_tuning=False,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "ministral3": llama(
        "ministral3",
        head_dim=12,
        rope_parameters=yarn(rope_theta=200.0, factor=16.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3),
    ),
    "ministral3_even": llama("ministral3", head_dim=12, rope_parameters=yarn(rope_theta=90.0, llama_4_scaling_beta=0)),
    "ministral3_window": llama(
        "ministral3",
        head_dim=10,
        sliding_window=6,
        tie_word_embeddings=True,
        rope_parameters=yarn(rope_theta=90.0, llama_4_scaling_beta=0.7),
    ),
    "afmoe": llama(
        "afmoe",
        head_dim=12,
        num_hidden_layers=9,
        num_dense_layers=4,
        moe_intermediate_size=16,
        num_experts=6,
        num_experts_per_tok=3,
        num_shared_experts=1,
        route_scale=2.3,
        global_attn_every_n_layers=3,
        sliding_window=7,
        mup_enabled=True,
        rope_theta=100.0,
    ),
    "afmoe_plain": llama(
        "afmoe",
        head_dim=8,
        num_hidden_layers=4,
        num_dense_layers=1,
        moe_intermediate_size=14,
        num_experts=5,
        num_experts_per_tok=2,
        num_shared_experts=2,
        layer_types=[FULL, SLIDING, SLIDING, FULL],
        sliding_window=5,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "mimo_v2_flash": mimo(
        num_hidden_layers=12,
        attention_value_scale=0.6,
        sliding_window=8,
        rope_parameters={
            FULL: rope(3e3, partial_rotary_factor=0.4),
            SLIDING: rope(80.0, partial_rotary_factor=0.4),
        },
    ),
    "mimo_v2_flash_pattern": mimo(
        num_hidden_layers=4,
        layer_types=[SLIDING, FULL, FULL, SLIDING],
        mlp_layer_types=["sparse", "dense", "dense", "sparse"],
        attention_value_scale=None,
        attention_bias=True,
        n_group=2,
        norm_topk_prob=False,
        routed_scaling_factor=1.4,
        sliding_window=5,
        tie_word_embeddings=True,
        rope_parameters={FULL: rope(3e3, partial_rotary_factor=1.0), SLIDING: rope(80.0, partial_rotary_factor=0.5)},
    ),
    "gemma3n": gemma3n(
        num_hidden_layers=8,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, SLIDING, FULL],
        num_kv_shared_layers=4,
        activation_sparsity_pattern=[0.9, 0.5, 0.0, 0.0, 0.8, 0.0, 0.0, 0.7],
        rope_parameters={FULL: rope(1e3), SLIDING: rope(60.0)},
    ),
    "gemma3n_unscaled": gemma3n(
        num_hidden_layers=5,
        layer_types=[FULL, SLIDING, FULL, SLIDING, FULL],
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.0] * 5,
        altup_num_inputs=3,
        altup_active_idx=1,
        altup_correct_scale=False,
        attention_bias=True,
        final_logit_softcapping=5.0,
        rope_parameters={FULL: rope(1e3, factor=3.0) | {"rope_type": "linear"}, SLIDING: rope(60.0)},
    ),
    "gemma3n_pattern": gemma3n(
        num_hidden_layers=8,
        intermediate_size=[40, 24, 36, 40] * 2,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, SLIDING, FULL],
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.8] * 5 + [0.0] * 3,
        vocab_size_per_layer_input=21,
        rope_theta=1e3,
        rope_local_base_freq=60.0,
        rope_scaling=None,
    ),
    "gemma3n_shared": gemma3n(
        num_hidden_layers=8,
        layer_types=[FULL, SLIDING, FULL, SLIDING, SLIDING, FULL, SLIDING, FULL],
        num_kv_shared_layers=5,
        tie_word_embeddings=False,
        rope_parameters={FULL: rope(1e3), SLIDING: rope(60.0)},
    ),
    "gemma3n_implied": {
        k: v for k, v in gemma3n(num_hidden_layers=6, num_kv_shared_layers=1).items() if k != "rms_norm_eps"
    },
    "gemma4": gemma4(
        num_hidden_layers=6,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING, FULL, SLIDING],
        num_kv_shared_layers=3,
        use_double_wide_mlp=True,
        rope_parameters={FULL: rope(1e3), SLIDING: rope(60.0)},
        final_logit_softcapping=5.0,
    ),
    "gemma4_experts": gemma4(
        num_hidden_layers=6,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL],
        hidden_size_per_layer_input=0,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        enable_moe_block=True,
        num_experts=6,
        top_k_experts=2,
        moe_intermediate_size=14,
        rope_parameters={
            FULL: rope(1e3, partial_rotary_factor=0.5) | {"rope_type": "proportional"},
            SLIDING: rope(60.0),
        },
        final_logit_softcapping=5.0,
    ),
    "gemma4_dense": gemma4(
        num_hidden_layers=5,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING, FULL],
        hidden_size_per_layer_input=0,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        rope_parameters={
            FULL: rope(1e3, partial_rotary_factor=0.5) | {"rope_type": "proportional"},
            SLIDING: rope(60.0),
        },
        final_logit_softcapping=5.0,
    ),
    "gemma4_unified": gemma4(
        num_hidden_layers=5,
        layer_types=[SLIDING, FULL, FULL, SLIDING, FULL],
        num_kv_shared_layers=2,
        attention_k_eq_v=True,
        attention_bias=True,
        tie_word_embeddings=False,
        rope_parameters={
            FULL: rope(1e3, partial_rotary_factor=0.4, factor=2.0) | {"rope_type": "proportional"},
            SLIDING: rope(60.0),
        },
    ),
    "glm_moe_dsa": deepseek(
        "glm_moe_dsa",
        num_hidden_layers=8,
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=3,
        n_group=1,
        topk_group=1,
        index_topk=7,
        index_head_dim=10,
        index_n_heads=8,
        indexer_types=["full", "full", "full", "shared", "shared", "full", "shared", "shared"],
        rope_theta=200.0,
    ),
    "glm_moe_dsa_all_full": deepseek(
        "glm_moe_dsa",
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=2,
        n_group=1,
        topk_group=1,
        index_topk=8,
        index_head_dim=10,
        index_n_heads=8,
        rope_theta=200.0,
    ),
    "glm_moe_dsa_biases": deepseek(
        "glm_moe_dsa",
        num_hidden_layers=3,
        n_routed_experts=8,
        n_shared_experts=2,
        first_k_dense_replace=0,
        mlp_layer_types=["sparse", "dense", "sparse"],
        n_group=2,
        topk_group=1,
        norm_topk_prob=False,
        attention_bias=True,
        tie_word_embeddings=True,
        index_topk=5,
        index_head_dim=8,
        index_n_heads=9,
        rope_parameters=rope(),
    ),
    "mistral4": deepseek(
        "mistral4",
        n_routed_experts=8,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=4,
        topk_group=2,
        qk_nope_head_dim=10,
        qk_rope_head_dim=6,
        attention_bias=True,
        rope_parameters=yarn(
            rope_theta=200.0,
            mscale=1.0,
            mscale_all_dim=1.0,
            llama_4_scaling_beta=0.4,
            max_position_embeddings=160,
            partial_rotary_factor=6 / 16,
        ),
    ),
    "mistral4_half": deepseek(
        "mistral4",
        q_lora_rank=None,
        n_routed_experts=5,
        n_shared_experts=2,
        first_k_dense_replace=0,
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        rope_interleave=False,
        tie_word_embeddings=True,
        rope_parameters=yarn(
            rope_theta=90.0, mscale=1.0, mscale_all_dim=0.7, llama_4_scaling_beta=0.2, partial_rotary_factor=6 / 16
        ),
    ),
    "laguna": laguna(
        num_hidden_layers=6,
        layer_types=[FULL, SLIDING, SLIDING, FULL, FULL, SLIDING],
        num_attention_heads_per_layer=[6, 4, 4, 6, 6, 4],
        moe_router_logit_softcapping=1.2,
        rope_parameters={
            FULL: yarn(rope_theta=200.0, partial_rotary_factor=0.5),
            SLIDING: rope(80.0, partial_rotary_factor=1.0),
        },
    ),
    "laguna_per_channel": laguna(
        num_hidden_layers=4,
        layer_types=[SLIDING, FULL, SLIDING, FULL],
        mlp_layer_types=["sparse", "dense", "dense", "sparse"],
        gating="per-element",
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters={FULL: rope(200.0), SLIDING: rope(80.0)},
    ),
    "qwen3_next": qwen_delta(
        "qwen3_next",
        num_hidden_layers=5,
        layer_types=[LINEAR, LINEAR, FULL, LINEAR, FULL],
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        rope_theta=1e3,
        partial_rotary_factor=0.5,
    ),
    "qwen3_next_pattern": qwen_delta(
        "qwen3_next",
        linear_num_value_heads=2,
        linear_conv_kernel_dim=3,
        num_hidden_layers=4,
        layer_types=[FULL, LINEAR, FULL, FULL],
        norm_topk_prob=False,
        decoder_sparse_step=2,
        mlp_only_layers=[3],
        attention_bias=True,
        tie_word_embeddings=True,
        hidden_act="gelu_pytorch_tanh",
        rope_parameters=yarn(rope_theta=300.0, partial_rotary_factor=0.5),
    ),
    "qwen3_5": qwen_delta(
        "qwen3_5_text",
        num_hidden_layers=6,
        full_attention_interval=3,
        mamba_ssm_dtype="float32",
        rope_parameters=rope(partial_rotary_factor=0.5, mrope_section=[2, 1, 1], mrope_interleaved=True),
    ),
    "qwen3_5_biases": qwen_delta(
        "qwen3_5_text",
        linear_num_key_heads=6,
        num_hidden_layers=4,
        attention_bias=True,
        tie_word_embeddings=True,
        hidden_act="gelu",
    ),
    "qwen3_5_moe": qwen_delta(
        "qwen3_5_moe_text",
        num_hidden_layers=5,
        layer_types=[LINEAR, LINEAR, FULL, LINEAR, FULL],
        mamba_ssm_dtype="float32",
        rope_parameters=rope(partial_rotary_factor=0.5, mrope_section=[2, 1, 1], mrope_interleaved=True),
    ),
    "kimi_linear": kimi_linear(
        num_hidden_layers=6,
        linear_attn_config={
            "head_dim": 8,
            "num_heads": 2,
            "short_conv_kernel_size": 4,
            "kda_layers": [1, 2, 3, 5],
            "full_attn_layers": [4, 6],
        },
        first_k_dense_replace=1,
        moe_router_activation_func="sigmoid",
        use_grouped_topk=True,
        mla_use_nope=True,
        moe_layer_freq=1,
        rope_theta=1e4,
    ),
    "kimi_linear_pattern": kimi_linear(
        num_hidden_layers=4,
        layer_types=[FULL, LINEAR, FULL, FULL],
        mlp_layer_types=["sparse", "dense", "sparse", "dense"],
        linear_head_dim=9,
        linear_num_heads=3,
        linear_conv_kernel_dim=3,
        q_lora_rank=16,
        attention_bias=True,
        num_experts=12,
        num_expert_group=3,
        topk_group=2,
        num_shared_experts=2,
        moe_renormalize=False,
    ),
    "kimi_linear_implied": kimi_linear(
        num_hidden_layers=5, linear_head_dim=8, linear_num_heads=2, linear_conv_kernel_dim=4
    ),
    "nemotron_h": nemotron_h(hybrid_override_pattern="MEM*E-*-MEME", num_key_value_heads=3),
    "nemotron_h_latent": nemotron_h(
        layers_block_type=["mamba", "moe", "mamba", "attention", "moe", "mamba", "moe"],
        moe_latent_size=16,
        n_group=4,
        topk_group=2,
        time_step_min=0.008,
    ),
    "nemotron_h_biases": nemotron_h(
        layers_block_type=[LINEAR, "moe", "mlp"],
        moe_latent_size=12,
        norm_topk_prob=False,
        mlp_bias=True,
        use_bias=True,
        use_conv_bias=False,
        mlp_hidden_act="silu",
        mamba_hidden_act="gelu",
        mamba_ssm_cache_dtype="float32",
    ),
    "mamba2": mamba2(),
    "mamba2_biases": mamba2(
        use_bias=True,
        use_conv_bias=False,
        tie_word_embeddings=True,
        n_groups=1,
        conv_kernel=3,
        time_step_limit=[0.2, 0.8],
    ),
    "falcon_h1": bamba(
        "falcon_h1",
        mamba_d_ssm=54,
        mamba_norm_before_gate=False,
        mamba_rms_norm=True,
        rope_theta=200.0,
        embedding_multiplier=2.5,
        lm_head_multiplier=0.8,
        key_multiplier=0.6,
        attention_in_multiplier=1.3,
        attention_out_multiplier=0.8,
        ssm_in_multiplier=1.2,
        ssm_out_multiplier=0.7,
        ssm_multipliers=[0.9, 1.2, 0.7, 1.4, 0.6],
        mlp_multipliers=[0.7, 1.3],
    ),
    "falcon_h1_biases": bamba(
        "falcon_h1",
        mamba_d_ssm=None,
        mamba_n_groups=1,
        mamba_norm_before_gate=True,
        mamba_rms_norm=True,
        attention_bias=True,
        mlp_bias=True,
        projectors_bias=True,
        mamba_proj_bias=True,
        mamba_conv_bias=False,
        tie_word_embeddings=True,
        head_dim=14,
        time_step_limit=[0.1, 0.9],
        attention_in_multiplier=1.3,
        ssm_in_multiplier=1.2,
        rope_parameters=yarn(rope_theta=200.0),
    ),
    "falcon_h1_no_norm": bamba("falcon_h1", mamba_d_ssm=48, mamba_d_head=8, mamba_rms_norm=False, num_hidden_layers=2),
    "granite": bamba(
        "granitemoehybrid",
        num_local_experts=5,
        num_experts_per_tok=2,
        shared_intermediate_size=22,
        num_hidden_layers=6,
        layer_types=["mamba", "mamba", "attention", "mamba", "attention", "mamba"],
        embedding_multiplier=2.0,
        logits_scaling=1.2,
        residual_multiplier=0.5,
        attention_multiplier=0.3,
        position_embedding_type="nope",
    ),
    "granite_dense": bamba(
        "granitemoehybrid",
        mamba_d_head=20,
        num_local_experts=0,
        num_experts_per_tok=0,
        shared_intermediate_size=46,
        num_hidden_layers=3,
        layer_types=[FULL, LINEAR, FULL],
        position_embedding_type="rope",
        rope_theta=300.0,
        attention_bias=True,
        mamba_proj_bias=True,
        mamba_conv_bias=False,
        tie_word_embeddings=True,
        attention_multiplier=0.4,
        hidden_act="gelu",
        time_step_limit=[0.1, 0.9],
    ),
    "olmo_hybrid": llama(
        "olmo_hybrid",
        num_hidden_layers=3,
        layer_types=[LINEAR, FULL, LINEAR],
        num_key_value_heads=6,
        linear_allow_neg_eigval=True,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=6,
        linear_value_head_dim=16,
        rope_parameters={"rope_theta": None, "rope_type": "default"},
    ),
    "olmo_hybrid_biases": llama(
        "olmo_hybrid",
        num_hidden_layers=4,
        layer_types=[FULL, LINEAR, FULL, FULL],
        linear_allow_neg_eigval=False,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=10,
        linear_conv_kernel_dim=3,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_theta=200.0,
        rope_scaling=yarn(),
    ),
    "olmo_hybrid_implied": llama("olmo_hybrid", num_key_value_heads=6, hidden_size=48),
    "qwen2": llama("qwen2", rope_theta=300.0, tie_word_embeddings=True),
    "qwen2_windows": llama(
        "qwen2",
        num_hidden_layers=5,
        num_key_value_heads=6,
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=2,
        rope_theta=1e3,
        rope_scaling=yarn(),
    ),
    "qwen2_pattern": llama(
        "qwen2",
        num_hidden_layers=4,
        use_sliding_window=True,
        sliding_window=9,
        layer_types=[SLIDING, FULL, FULL, SLIDING],
        hidden_act="gelu",
        rope_parameters=rope(),
    ),
    "qwen2_moe": qwen2_moe(rope_theta=500.0),
    "qwen2_moe_windows": qwen2_moe(
        num_hidden_layers=6,
        norm_topk_prob=True,
        decoder_sparse_step=2,
        mlp_only_layers=[3],
        qkv_bias=False,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=4,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "gemma": llama("gemma", head_dim=10, num_key_value_heads=1, rope_theta=100.0),
    "gemma_biases": llama(
        "gemma",
        head_dim=12,
        hidden_act="gelu",
        attention_bias=True,
        tie_word_embeddings=False,
        rope_parameters=rope(200.0, factor=2.0) | {"rope_type": "linear"},
    ),
    "olmoe": llama("olmoe", num_key_value_heads=6, num_experts=7, num_experts_per_tok=3, rope_theta=1e3),
    "olmoe_biases": llama(
        "olmoe",
        num_experts=5,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=yarn(rope_theta=120.0),
    ),
    "granite3": granite(rope_theta=300.0, tie_word_embeddings=True),
    "granite3_biases": granite(attention_bias=True, mlp_bias=True, hidden_act="gelu", rope_parameters=rope()),
    "granite3_moe": granite("granitemoe", num_local_experts=6, num_experts_per_tok=2, rope_theta=300.0),
    "granite3_moe_biases": granite(
        "granitemoe",
        num_local_experts=5,
        num_experts_per_tok=3,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "starcoder2": starcoder2(sliding_window=8, rope_theta=1e3),
    "starcoder2_full": starcoder2(
        use_bias=False, hidden_act="gelu", tie_word_embeddings=False, rope_parameters=yarn(rope_theta=120.0)
    ),
    "phi3": llama("phi3", num_key_value_heads=6, sliding_window=7, rope_theta=300.0),
    "phi3_full": llama("phi3", rope_theta=300.0),
    "phi3_long_window": llama(
        "phi3",
        sliding_window=7,
        original_max_position_embeddings=12,
        rope_theta=300.0,
        rope_scaling=longrope(pairs=5),
    ),
    "phi3_long": llama(
        "phi3",
        original_max_position_embeddings=12,
        tie_word_embeddings=True,
        rope_theta=300.0,
        rope_scaling=longrope(pairs=5),
    ),
    "phi3_long_partial": llama(
        "phi3",
        hidden_size=72,
        partial_rotary_factor=0.5,
        original_max_position_embeddings=9,
        rope_theta=120.0,
        rope_scaling=longrope(pairs=3),
    ),
    "glm": llama("glm", head_dim=12, pad_token_id=0, rope_theta=300.0),
    "glm4": llama("glm4", head_dim=12, pad_token_id=0, rope_theta=300.0),
    "glm4_no_biases": llama(
        "glm4",
        head_dim=8,
        pad_token_id=0,
        attention_bias=False,
        tie_word_embeddings=True,
        rope_parameters=rope(partial_rotary_factor=0.75),
    ),
    "gpt_neox": gpt_neox(rotary_pct=0.5, rotary_emb_base=300.0),
    "gpt_neox_in_turn": gpt_neox(
        use_parallel_residual=False,
        attention_bias=False,
        hidden_act="gelu_fast",
        tie_word_embeddings=True,
        rope_parameters=yarn(rope_theta=120.0, partial_rotary_factor=0.5),
    ),
    "stablelm": layer_norm("stablelm", hidden_size=72, partial_rotary_factor=0.5, rope_theta=300.0),
    "stablelm_biases": layer_norm(
        "stablelm", hidden_size=72, partial_rotary_factor=0.5, use_qkv_bias=True, rope_theta=300.0
    ),
    "stablelm_parallel": layer_norm(
        "stablelm",
        hidden_size=48,
        use_parallel_residual=True,
        use_qkv_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(partial_rotary_factor=0.5),
    ),
    "phi": layer_norm(
        "phi",
        hidden_size=72,
        intermediate_size=288,
        num_key_value_heads=None,
        partial_rotary_factor=0.5,
        rope_theta=300.0,
    ),
    "phi_groups": layer_norm(
        "phi",
        hidden_size=48,
        num_key_value_heads=3,
        hidden_act="gelu",
        rope_parameters=rope(partial_rotary_factor=0.25),
    ),
    "cohere": layer_norm("cohere", logit_scale=0.7, rope_theta=300.0),
    "cohere_biases": layer_norm(
        "cohere",
        num_key_value_heads=None,
        logit_scale=1.3,
        attention_bias=True,
        hidden_act="gelu",
        tie_word_embeddings=False,
        rope_parameters=rope(),
    ),
    "cohere2": layer_norm(
        "cohere2",
        num_hidden_layers=5,
        logit_scale=0.7,
        sliding_window=6,
        sliding_window_pattern=3,
        rope_theta=300.0,
    ),
    "cohere2_pattern": layer_norm(
        "cohere2",
        num_hidden_layers=4,
        sliding_window=9,
        layer_types=[FULL, SLIDING, SLIDING, FULL],
        logit_scale=1.3,
        attention_bias=True,
        tie_word_embeddings=False,
        rope_parameters=rope(),
    ),
    "falcon_7b": falcon(rope_theta=300.0),
    "falcon_40b": falcon(
        num_kv_heads=2, new_decoder_architecture=True, bias=True, ffn_hidden_size=58, rope_theta=300.0
    ),
    "falcon_11b": falcon(
        num_kv_heads=3,
        new_decoder_architecture=True,
        num_ln_in_parallel_attn=1,
        tie_word_embeddings=False,
        rope_theta=120.0,
        rope_scaling={"type": "linear", "factor": 2.0},
    ),
    "falcon_in_turn": falcon(
        multi_query=False, parallel_attn=False, bias=True, activation="gelu_pytorch_tanh", rope_parameters=rope()
    ),
    "glm4_moe_lite": deepseek("glm4_moe_lite", n_routed_experts=6, n_shared_experts=1, rope_theta=300.0),
    "glm4_moe_lite_pattern": deepseek(
        "glm4_moe_lite",
        q_lora_rank=None,
        n_routed_experts=8,
        n_shared_experts=2,
        n_group=2,
        topk_group=1,
        norm_topk_prob=False,
        rope_interleave=False,
        mlp_layer_types=["sparse", "dense", "dense", "sparse"],
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(),
    ),
    "lfm2": lfm2(rope_theta=300.0),
    "lfm2_biases": lfm2(
        conv_bias=True,
        conv_L_cache=4,
        block_auto_adjust_ff_dim=False,
        tie_word_embeddings=False,
        layer_types=None,
        full_attn_idxs=[0, 3],
        num_hidden_layers=4,
        rope_parameters=rope(),
    ),
    "lfm2_factor": lfm2(block_ffn_dim_multiplier=1.3, block_ff_dim=70, tie_embedding=False),
    "lfm2_as_published": lfm2(  # with the keys of the authors' own code, which repeat others or begin the training
        block_dim=lfm2()["hidden_size"],
        conv_dim=lfm2()["hidden_size"],
        conv_dim_out=lfm2()["hidden_size"],
        num_heads=lfm2()["num_attention_heads"],
        block_use_swiglu=True,
        use_pos_enc=True,
        block_mlp_init_scale=1.0,
        block_norm_eps=1e-5,
        block_out_init_scale=1.0,
        block_use_xavier_init=True,
        conv_use_xavier_init=True,
    ),
    "lfm2_moe": lfm2(
        "lfm2_moe", moe_intermediate_size=14, num_dense_layers=2, routed_scaling_factor=1.5, rope_theta=300.0
    ),
    "lfm2_moe_unbiased": lfm2(
        "lfm2_moe",
        moe_intermediate_size=14,
        num_dense_layers=1,
        use_expert_bias=False,
        norm_topk_prob=False,
        conv_bias=True,
    ),
}


def wrapper(model_type: str, text: Config, **keys: Any) -> Config:
    """A multimodal model, whose text model is tested."""
    return {"model_type": model_type, "text_config": text, **keys}


QWEN_VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "patch_size": 4}
QWEN_VISION |= {"num_position_embeddings": 16, "out_hidden_size": 60}
QWEN_TOKENS = {"image_token_id": 71, "video_token_id": 72, "vision_start_token_id": 73, "vision_end_token_id": 74}

WRAPPED = {
    "gemma3_multimodal": wrapper(
        "gemma3",
        {k: v for k, v in TEXT["gemma3"].items() if k != "tie_word_embeddings"},
        vision_config={"model_type": "siglip_vision_model", "patch_size": 8, **VISION},
        mm_tokens_per_image=4,
        image_token_index=71,
        boi_token_index=72,
        eoi_token_index=73,
    ),
    "gemma3_multimodal_untied": wrapper(
        "gemma3",
        TEXT["gemma3_old"],
        vision_config={"model_type": "siglip_vision_model", "patch_size": 8, **VISION},
        mm_tokens_per_image=4,
        image_token_index=71,
        boi_token_index=72,
        eoi_token_index=73,
        tie_word_embeddings=False,
    ),
    "qwen3_5_multimodal": wrapper(
        "qwen3_5", TEXT["qwen3_5"], vision_config={"model_type": "qwen3_5", **QWEN_VISION}, **QWEN_TOKENS
    ),
    "qwen3_5_moe_multimodal": wrapper(
        "qwen3_5_moe",
        TEXT["qwen3_5_moe"] | {"tie_word_embeddings": True},
        vision_config={"model_type": "qwen3_5_moe", **QWEN_VISION},
        **QWEN_TOKENS,
        tie_word_embeddings=True,
    ),
    "qwen3_vl": wrapper(
        "qwen3_vl",
        llama("qwen3_vl_text", head_dim=16, rope_parameters=rope(mrope_section=[3, 3, 2], mrope_interleaved=True)),
        vision_config={"model_type": "qwen3_vl_vision", **QWEN_VISION, "deepstack_visual_indexes": [0]},
        tie_word_embeddings=True,
        **QWEN_TOKENS,
    ),
    "qwen3_vl_moe": wrapper(
        "qwen3_vl_moe",
        TEXT["qwen3_moe"]
        | {"model_type": "qwen3_vl_moe_text", "head_dim": 16, "norm_topk_prob": True}
        | {"decoder_sparse_step": 1}
        | {"rope_theta": 500.0, "rope_scaling": rope(mrope_section=[3, 3, 2], mrope_interleaved=True)},
        vision_config={"model_type": "qwen3_vl_moe_vision", **QWEN_VISION, "deepstack_visual_indexes": [0]},
        **QWEN_TOKENS,
    ),
    "qwen2_vl": wrapper(
        "qwen2_vl",
        llama("qwen2_vl_text", rope_theta=300.0, rope_scaling={"type": "mrope", "mrope_section": [2, 2, 1]}),
        vision_config={"model_type": "qwen2_vl_vision", "depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 60},
        tie_word_embeddings=False,
        **QWEN_TOKENS,
    ),
    "qwen2_5_vl": wrapper(
        "qwen2_5_vl",
        llama("qwen2_5_vl_text", rope_parameters=rope(mrope_section=[2, 2, 1])),
        vision_config={"model_type": "qwen2_5_vl_vision", "depth": 1, "hidden_size": 16, "intermediate_size": 20},
        tie_word_embeddings=True,
        **QWEN_TOKENS,
    ),
    "gemma4_multimodal": wrapper(
        "gemma4", TEXT["gemma4"] | {"pad_token_id": 0}, vision_config=None, audio_config=None, eoa_token_index=72
    ),
    "mistral3_multimodal": wrapper(
        "mistral3",
        TEXT["mistral_window"],
        vision_config={"model_type": "pixtral", "patch_size": 8, "head_dim": 8, **VISION},
        image_token_index=71,
        tie_word_embeddings=False,
    ),
    "mistral3_multimodal_tied": wrapper(
        "mistral3",
        TEXT["mistral_yarn"],
        vision_config={"model_type": "pixtral", "patch_size": 8, "head_dim": 8, **VISION},
        image_token_index=71,
        tie_word_embeddings=True,
    ),
}

WITHOUT_HEAD = (
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen2_vl",
    "qwen2_5_vl",
)  # no class of transformers is their text model alone


# Families that transformers does not know, or knows in wrappers only.
def searched(heads: int | None, factor: float | None, **mixer: Any) -> Config:
    """A block of Nemotron NAS: query heads for each key and value head, how wide the feed-forward layer is; None: there
    is no such."""
    attends = {"n_heads_in_group": heads, "no_op": heads is None, "replace_with_linear": False, "sparsify": None}
    mlp = {"ffn_mult": factor, "no_op": factor is None, "replace_with_linear": False, "sparsify": None}
    return {"attention": {**attends, **mixer}, "ffn": mlp}


ALONE = {
    "nemotron_nas": llama(
        "nemotron-nas",
        num_hidden_layers=6,
        intermediate_size=None,
        num_key_value_heads=None,
        rope_theta=150.0,
        rope_scaling=llama3(),
        block_configs=[
            searched(3, 1.3),
            searched(None, 6.5),
            searched(6, None, num_sink_tokens=None),
            searched(None, None),
            searched(2, 6.5, window_length=7),
            searched(1, 1.3),
        ],
    ),
    "qwen3_vl_text": WRAPPED["qwen3_vl"]["text_config"],
    "qwen3_vl_moe_text": WRAPPED["qwen3_vl_moe"]["text_config"],
    "qwen2_vl_text": WRAPPED["qwen2_vl"]["text_config"],
    "qwen2_5_vl_text": WRAPPED["qwen2_5_vl"]["text_config"],
    "glam": config(
        "glam",
        hidden_size=36,
        num_attention_heads=3,
        head_dim=10,
        intermediate_size=40,
        num_hidden_layers=4,
        max_position_embeddings=160,
        moe_layer_freq=2,
        num_experts=5,
        num_experts_per_tok=2,
        hidden_act="gelu_pytorch_tanh",
        expert_act="relu",
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        rms_norm_eps=4e-3,
    ),
    "grok": llama(
        "grok",
        head_dim=10,
        moe_intermediate_size=22,
        num_local_experts=4,
        num_experts_per_tok=2,
        attn_logit_softcapping=3.0,
        router_logit_softcapping=3.0,
        final_logit_softcapping=5.0,
        embedding_multiplier_scale=7.7,
        output_multiplier_scale=0.5,
        attn_temperature_len=9,
        residual_moe=True,
        rope_type="original",
        rope_theta=150.0,
    ),
}

# What is compared with transformers, what needs no wrapper, and all.
COMPARED = TEXT | WRAPPED
PLAIN = TEXT | ALONE
CASES: dict[str, Config] = TEXT | WRAPPED | ALONE
