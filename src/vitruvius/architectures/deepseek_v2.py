"""DeepSeek V2 and V2-Lite: latent attention, and many small experts chosen from a few groups beside shared ones.

DeepSeek-AI 2024, arXiv 2405.04434, section 2; deepseek-ai/DeepSeek-V2. transformers ignores norm_topk_prob here (it is
false in both).
"""

from __future__ import annotations

from ..spec import (
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    ExpertGroups,
    Family,
    GatedMLP,
    Head,
    LatentAttention,
    Layer,
    LowRank,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    latent_scale,
    rope,
)


def deepseek_v2(c: Config) -> Decoder:
    norm, inner = RMSNorm(eps=c.number("rms_norm_eps")), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, rotary, bias = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim"), c.flag("attention_bias")
    attention = LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rotary,
        v_dim=c.size("v_head_dim"),
        q=None if c.raw("q_lora_rank") is None else LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=Causal(),
        positions=rope(c, rotary, interleaved=True),
        softmax=Softmax(scale=latent_scale(c, nope + rotary)),
        bias=bias,
    )
    act, dim, mlp_bias = c.activation("hidden_act"), c.size("moe_intermediate_size"), c.flag("mlp_bias")
    groups = None
    if c.choice("topk_method", "greedy", "group_limited_greedy") == "group_limited_greedy":
        groups = ExpertGroups(count=c.size("n_group"), active=c.size("topk_group"), score="max")
    moe = MoE(
        router=Router(
            experts=c.size("n_routed_experts"),
            active=c.size("num_experts_per_tok"),
            groups=groups,
            scale=c.number("routed_scaling_factor"),
        ),
        expert=GatedMLP(dim=dim, act=act),
        shared=GatedMLP(dim=dim * c.size("n_shared_experts"), act=act, bias=mlp_bias),
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act, bias=mlp_bias)
    c.expect("moe_layer_freq", None, 1)
    c.expect("scoring_func", None, "softmax")

    def layer(i: int) -> Layer:
        mlp = dense if i < c.count("first_k_dense_replace") else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="deepseek_v2",
        family="deepseek_v2",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(c.depth("num_hidden_layers"))),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


FAMILY = Family(
    model_types=("deepseek_v2",),
    spec=deepseek_v2,
    ignored=frozenset(["head_dim", "qk_head_dim", "num_key_value_heads", "norm_topk_prob", "n_group", "topk_group"]),
)
