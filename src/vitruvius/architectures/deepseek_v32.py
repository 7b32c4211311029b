"""DeepSeek V3.2: V3 whose queries see only the 2,048 keys that a lightning indexer chooses.

DeepSeek-AI 2025, deepseek-ai/DeepSeek-V3.2-Exp, DeepSeek_V3_2.pdf, section 2.1, and inference/model.py. The indexer
rotates halves where the attention rotates neighbours, and its norm is a LayerNorm.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Branch,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    Indexer,
    LatentAttention,
    Layer,
    LayerNorm,
    LowRank,
    MoE,
    RMSNorm,
    Softmax,
    following_layers,
    latent_scale,
    noaux_tc_router,
    rope,
)


def deepseek_v32(c: Config) -> Decoder:
    norm, inner = RMSNorm(eps=c.number("rms_norm_eps")), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, rotary = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    attention = LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rotary,
        v_dim=c.size("v_head_dim"),
        q=LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=Indexer(
            heads=c.size("index_n_heads"),
            dim=c.size("index_head_dim"),
            topk=c.size("index_topk"),
            query_width=c.size("q_lora_rank"),
            norm=LayerNorm(eps=1e-6),
            positions=rope(c, rotary),
        ),
        positions=rope(c, rotary, interleaved=True),
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

    count = c.depth("num_hidden_layers")
    sparse = [i >= c.count("first_k_dense_replace") for i in range(count)]
    if c.raw("mlp_layer_types") is not None:
        sparse = [kind == "sparse" for kind in c.items("mlp_layer_types", count)]

    def layer(i: int) -> Layer:
        mlp = dense if i < len(sparse) and not sparse[i] else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="deepseek_v32",
        family="deepseek_v32",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=tuple(MTP(layer=layer(count + k), norm=norm) for k in range(c.count("num_nextn_predict_layers"))),
    )


FAMILY = Family(
    model_types=("deepseek_v32",),
    spec=deepseek_v32,
    irregular=following_layers,
    ignored=frozenset(
        """first_k_dense_replace layer_types mlp_bias head_dim qk_head_dim num_key_value_heads num_mtp_layers""".split()
    ),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
