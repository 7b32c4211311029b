"""GLM-4.7-Flash: DeepSeek V3's latent attention and experts, one more layer that predicts the token after next.

Z.ai 2026, zai-org/GLM-4.7-Flash; transformers, models/glm4_moe_lite.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, RMSNorm
from .shared import decoder, deepseek_layers, following_layers, latent_attention, rope, sparse_after, sparse_layers


def glm4_moe_lite(c: Config) -> Decoder:
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=c.flag("rope_interleave"))
    mixer = latent_attention(c, mask=Causal(), positions=positions)
    count = c.depth("num_hidden_layers")
    layers, mtp = deepseek_layers(c, norm, [mixer] * count, sparse_layers(c, count, sparse_after(c, count)))
    return decoder(c, "glm4_moe_lite", layers, norm, mtp=mtp)


FAMILY = Family(
    model_types=("glm4_moe_lite",),
    spec=glm4_moe_lite,
    irregular=following_layers,
    ignored=frozenset("first_k_dense_replace head_dim qk_head_dim num_key_value_heads".split()),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
