"""GLM-5: DeepSeek V3.2's shape, in which a layer may see what the indexer of an earlier layer has chosen.

Z.ai 2026, zai-org/GLM-5; transformers, models/glm_moe_dsa. The indexer rotates neighbours, as the attention does.
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
    LayerIndexer,
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


def glm_moe_dsa(c: Config) -> Decoder:
    norm, inner = RMSNorm(eps=c.number("rms_norm_eps")), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, rotary = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    count, topk, rank = c.depth("num_hidden_layers"), c.size("index_topk"), c.size("q_lora_rank")
    indexer = Indexer(
        heads=c.size("index_n_heads"),
        dim=c.size("index_head_dim"),
        topk=topk,
        query_width=rank,
        norm=LayerNorm(eps=1e-6),
        positions=rope(c, rotary, interleaved=True),
    )

    def attention(owner: int, i: int) -> LatentAttention:
        """The attention of layer `i`, which sees what the indexer of layer `owner` chooses."""
        return LatentAttention(
            heads=c.size("num_attention_heads"),
            nope_dim=nope,
            rope_dim=rotary,
            v_dim=c.size("v_head_dim"),
            q=LowRank(rank=rank, norm=inner),
            kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
            mask=indexer if owner == i else LayerIndexer(layer=owner, topk=topk),
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
    c.expect("rope_interleave", None, True)
    c.expect("indexer_rope_interleave", None, True)

    sparse = [i >= c.count("first_k_dense_replace") for i in range(count)]
    if c.raw("mlp_layer_types") is not None:
        sparse = [kind == "sparse" for kind in c.items("mlp_layer_types", count)]

    owners = indexers(c, count)

    def layer(i: int) -> Layer:
        mlp = dense if i < len(sparse) and not sparse[i] else moe
        mixer = attention(owners[i] if i < len(owners) else i, i)
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="glm_moe_dsa",
        family="glm_moe_dsa",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=tuple(MTP(layer=layer(count + k), norm=norm) for k in range(c.count("num_nextn_predict_layers"))),
    )


def indexers(c: Config, count: int) -> list[int]:
    """The layer whose indexer each layer uses: its own, or that of the last layer before it that has one."""
    if c.raw("indexer_types") is not None:
        own = [kind == "full" for kind in c.items("indexer_types", count)]
    elif c.raw("index_topk_pattern") is not None:
        own = [mark in ("F", "full") for mark in c.raw("index_topk_pattern")]
    else:
        every, offset = c.size_or("index_topk_freq", 1), c.size_or("index_skip_topk_offset", 2)
        own = [max(i - offset + 1, 0) % every == 0 for i in range(count)]
    if len(own) != count or not own[0]:
        raise ValueError("the layers' indexers must be said for every layer, and the first needs one of its own")
    return [max(j for j in range(i + 1) if own[j]) for i in range(count)]


FAMILY = Family(
    model_types=("glm_moe_dsa",),
    spec=glm_moe_dsa,
    irregular=following_layers,
    ignored=frozenset(
        """index_topk_freq index_skip_topk_offset index_topk_pattern first_k_dense_replace layer_types mlp_bias head_dim
        qk_head_dim num_key_value_heads num_mtp_layers
        index_share_for_mtp_iteration moe_router_dtype""".split()
    ),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
