"""GLM-5: DeepSeek V3.2's shape, in which a layer may see what the indexer of an earlier layer has chosen.

Z.ai 2026, zai-org/GLM-5; transformers, models/glm_moe_dsa. The indexer rotates neighbours, as the attention does.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, Indexer, LayerIndexer, LayerNorm, RMSNorm
from .shared import decoder, deepseek_layers, following_layers, latent_attention, rope, sparse_after, sparse_layers


def glm_moe_dsa(c: Config) -> Decoder:
    norm, topk = RMSNorm(eps=c.number("rms_norm_eps")), c.size("index_topk")
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=True)
    indexer = Indexer(
        heads=c.size("index_n_heads"),
        dim=c.size("index_head_dim"),
        topk=topk,
        query_width=c.size("q_lora_rank"),
        norm=LayerNorm(eps=1e-6),
        positions=positions,
    )
    own = latent_attention(c, mask=indexer, positions=positions)
    c.expect("rope_interleave", None, True)
    c.expect("indexer_rope_interleave", None, True)
    count = c.depth("num_hidden_layers")
    owners = indexers(c, count)
    mixers = [
        own if owner == i else latent_attention(c, mask=LayerIndexer(layer=owner, topk=topk), positions=positions)
        for i, owner in enumerate(owners)
    ]
    layers, mtp = deepseek_layers(c, norm, mixers, sparse_layers(c, count, sparse_after(c, count)))
    return decoder(c, "glm_moe_dsa", layers, norm, mtp=mtp)


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
