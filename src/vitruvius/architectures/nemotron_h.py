"""Nemotron-H and Nemotron 3: one mixer in each layer, be it Mamba-2, attention without positions, ReLU² experts (in a
latent width, from Super on) or a plain ReLU² layer.

NVIDIA 2025, arXiv 2504.03624 and 2512.20848; nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, modeling_nemotron_h.py. Time
steps are cut off at `time_step_min` also when decoding, where transformers forgets it.
"""

from __future__ import annotations

from ..spec import (
    MLP,
    Attention,
    Branch,
    Causal,
    Config,
    Convolution,
    Decoder,
    Embedding,
    ExpertGroups,
    Family,
    GatedNorm,
    Head,
    Irregular,
    KeyValue,
    Layer,
    Mamba2,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    head_dim,
    layer_types,
)

PATTERN = {"M": "linear_attention", "*": "full_attention", "E": "moe", "-": "mlp"}


def nemotron_h(c: Config) -> Decoder:
    eps, dim, heads, groups = (
        c.number("layer_norm_epsilon"),
        head_dim(c),
        c.size("num_attention_heads"),
        c.size("n_groups"),
    )
    norm, act, bias = RMSNorm(eps=eps), c.activation("mlp_hidden_act"), c.flag("mlp_bias")
    mamba = Mamba2(
        heads=c.size("mamba_num_heads"),
        head_dim=c.size("mamba_head_dim"),
        groups=groups,
        state_dim=c.size("ssm_state_size"),
        conv=Convolution(
            kernel=c.size("conv_kernel"), act=c.activation("mamba_hidden_act"), bias=c.flag("use_conv_bias")
        ),
        norm=GatedNorm(eps=eps, gate_first=True, groups=groups),
        in_bias=c.flag("use_bias"),
        out_bias=c.flag("use_bias"),
        dt_limit=(c.number("time_step_min"), None),
        memory_dtype=c.choice("mamba_ssm_cache_dtype", "float32", "bfloat16", "float16"),
    )
    attention = Attention(
        heads=heads,
        head_dim=dim,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim),
        sees=Causal(),
        softmax=Softmax(scale=dim**-0.5),
    )
    kinds = layers(c)

    def moe() -> MoE:
        latent = None if c.raw("moe_latent_size") is None else c.size("moe_latent_size")
        return MoE(
            router=Router(
                experts=c.size("n_routed_experts"),
                active=c.size("num_experts_per_tok"),
                score="sigmoid",
                correction=True,
                groups=ExpertGroups(count=c.size("n_group"), active=c.size("topk_group"), score="top2_sum"),
                normalize=1e-20 if c.flag("norm_topk_prob") else None,
                scale=c.number("routed_scaling_factor"),
            ),
            expert=MLP(dim=c.size("moe_intermediate_size"), act=act),
            shared=MLP(dim=c.size("moe_shared_expert_intermediate_size"), act=act, bias=bias),
            latent=latent,
            latent_bias=latent is not None and bias,
        )

    def body(kind: str) -> Mamba2 | Attention | MoE | MLP:
        match kind:
            case "linear_attention":
                return mamba
            case "full_attention":
                return attention
            case "moe":
                return moe()
        return MLP(dim=c.size("intermediate_size"), act=act, bias=bias)

    c.expect("sliding_window", None)
    return Decoder(
        name="nemotron_h",
        family="nemotron_h",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(Layer(branches=(Branch(name="mixer", pre=norm, body=body(kind)),)) for kind in kinds),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def layers(c: Config) -> list[str]:
    """The kind of each layer, as a list, or as a letter for each in the hub's older files."""
    key = "layers_block_type" if c.raw("layer_types") is None else "layer_types"
    pattern = c.raw("hybrid_override_pattern")
    if c.raw(key) is None and not (isinstance(pattern, str) and set(pattern) <= set(PATTERN)):
        raise ValueError(f"hybrid_override_pattern must be a string of {' '.join(PATTERN)}, got {pattern!r}")
    count = len(pattern) if c.raw(key) is None else len(c.items(key))
    return layer_types(c, count, [PATTERN[letter] for letter in pattern or ""], tuple(PATTERN.values()), key)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("embedding", "backbone.embeddings"),
        Irregular("layers.*", "backbone.layers.*"),
        Irregular("layers.*.mixer.pre", "backbone.layers.*.norm"),
        Irregular("layers.*.mixer.body", "backbone.layers.*.mixer"),
        Irregular("layers.*.mixer.body.latent_down.weight", "backbone.layers.*.mixer.fc1_latent_proj.weight"),
        Irregular("layers.*.mixer.body.latent_down.bias", "backbone.layers.*.mixer.fc1_latent_proj.bias"),
        Irregular("layers.*.mixer.body.latent_up.weight", "backbone.layers.*.mixer.fc2_latent_proj.weight"),
        Irregular("layers.*.mixer.body.latent_up.bias", "backbone.layers.*.mixer.fc2_latent_proj.bias"),
        Irregular("final_norm", "backbone.norm_f"),
    ]


FAMILY = Family(
    model_types=("nemotron_h",),
    spec=nemotron_h,
    irregular=irregular,
    ignored=frozenset(
        """attention_bias chunk_size expand intermediate_size layer_types layers_block_type hybrid_override_pattern
        mamba_proj_bias moe_shared_expert_overlap mtp_hybrid_override_pattern mtp_layers_block_type n_shared_experts
        norm_eps num_hidden_layers num_logits_to_keep num_nextn_predict_layers partial_rotary_factor rescale_prenorm_residual
        residual_in_fp32 rope_theta time_step_floor time_step_limit time_step_max use_mamba_kernels""".split()
    ),
    unused=("mtp.*",),
)
