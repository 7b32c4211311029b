"""GLM-4.5 and GLM-4.5-Air: many query heads with partial RoPE, normed or not, biases on queries, keys and values only,
and DeepSeek V3's experts.

Zeng et al. 2025, arXiv 2508.06471, section 2.1; zai-org/GLM-4.5.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Attention,
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    KeyValue,
    Layer,
    MoE,
    QKNorm,
    RMSNorm,
    Softmax,
    following_layers,
    head_dim,
    noaux_tc_router,
    rope,
)


def glm4_moe(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    per_head = QKNorm(norm=norm) if c.flag("use_qk_norm") else None
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        q_norm=per_head,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=per_head),
        mask=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
    )
    act, moe_dim, shared = c.activation("hidden_act"), c.size("moe_intermediate_size"), c.count("n_shared_experts")
    moe = MoE(
        router=noaux_tc_router(c),
        expert=GatedMLP(dim=moe_dim, act=act),
        shared=GatedMLP(dim=moe_dim * shared, act=act) if shared else None,
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)

    def layer(i: int) -> Layer:
        mlp = dense if i < c.count("first_k_dense_replace") else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    count = c.depth("num_hidden_layers")
    return Decoder(
        name="glm4_moe",
        family="glm4_moe",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=tuple(MTP(layer=layer(count + k), norm=norm) for k in range(c.count("num_nextn_predict_layers"))),
    )


FAMILY = Family(
    model_types=("glm4_moe",),
    spec=glm4_moe,
    irregular=following_layers,
    ignored=frozenset(("num_mtp_layers",)),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
