"""DeepSeek V3 and R1, Kimi K2: V2's latent attention and experts, scored by a sigmoid and balanced by a stored bias
instead of a loss; one more layer that predicts the token after next.

DeepSeek-AI 2024, arXiv 2412.19437, section 2; deepseek-ai/DeepSeek-V3, inference/model.py. Kimi Team 2025, arXiv
2507.20534.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    LatentAttention,
    Layer,
    LowRank,
    MoE,
    RMSNorm,
    Softmax,
    following_layers,
    latent_scale,
    noaux_tc_router,
    rope,
)


def deepseek_v3(c: Config) -> Decoder:
    norm, inner = RMSNorm(eps=c.number("rms_norm_eps")), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, rotary = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    attention = LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rotary,
        v_dim=c.size("v_head_dim"),
        q=None if c.raw("q_lora_rank") is None else LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=Causal(),
        positions=rope(c, rotary, interleaved=c.flag("rope_interleave")),
        softmax=Softmax(scale=latent_scale(c, nope + rotary)),
        bias=c.flag("attention_bias"),
    )
    act, dim, shared = c.activation("hidden_act"), c.size("moe_intermediate_size"), c.count("n_shared_experts")
    moe = MoE(
        router=noaux_tc_router(c),
        expert=GatedMLP(dim=dim, act=act),
        shared=GatedMLP(dim=dim * shared, act=act) if shared else None,
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    c.expect("moe_layer_freq", None, 1)

    def layer(i: int) -> Layer:
        mlp = dense if i < c.count("first_k_dense_replace") else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    count = c.depth("num_hidden_layers")
    return Decoder(
        name="deepseek_v3",
        family="deepseek_v3",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=tuple(MTP(layer=layer(count + k), norm=norm) for k in range(c.count("num_nextn_predict_layers"))),
    )


FAMILY = Family(
    model_types=("deepseek_v3", "kimi_k2"),
    spec=deepseek_v3,
    irregular=following_layers,
    ignored=frozenset(["head_dim", "qk_head_dim", "num_key_value_heads", "num_mtp_layers"]),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
