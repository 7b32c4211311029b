"""DeepSeek V3.2: V3 whose queries see only the 2,048 keys that a lightning indexer chooses.

DeepSeek-AI 2025, deepseek-ai/DeepSeek-V3.2-Exp, DeepSeek_V3_2.pdf, section 2.1, and inference/model.py. The indexer
rotates halves where the attention rotates neighbours, and its norm is a LayerNorm.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, Indexer, LayerNorm, RMSNorm
from .shared import decoder, deepseek_layers, following_layers, latent_attention, rope, sparse_after, sparse_layers


def deepseek_v32(c: Config) -> Decoder:
    norm, rotary = RMSNorm(eps=c.number("rms_norm_eps")), c.size("qk_rope_head_dim")
    indexer = Indexer(
        heads=c.size("index_n_heads"),
        dim=c.size("index_head_dim"),
        topk=c.size("index_topk"),
        query_width=c.size("q_lora_rank"),
        norm=LayerNorm(eps=1e-6),
        positions=rope(c, rotary),
    )
    mixer = latent_attention(c, mask=indexer, positions=rope(c, rotary, interleaved=True))
    count = c.depth("num_hidden_layers")
    layers, mtp = deepseek_layers(c, norm, [mixer] * count, sparse_layers(c, count, sparse_after(c, count)))
    return decoder(c, "deepseek_v32", layers, norm, mtp=mtp)


FAMILY = Family(
    model_types=("deepseek_v32",),
    spec=deepseek_v32,
    irregular=following_layers,
    ignored=frozenset(
        """first_k_dense_replace layer_types mlp_bias head_dim qk_head_dim num_key_value_heads num_mtp_layers""".split()
    ),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
