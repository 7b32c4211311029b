"""GLM-4.7-Flash: DeepSeek V3's latent attention and experts, one more layer that predicts the token after next.

Z.ai 2026, zai-org/GLM-4.7-Flash; transformers, models/glm4_moe_lite.
"""

from __future__ import annotations

from ..spec import MTP, Causal, Config, Decoder, Family, GatedMLP, RMSNorm
from .shared import (
    decoder,
    deepseek_moe,
    following_layers,
    latent_attention,
    noaux_tc_router,
    pre_norm,
    rope,
    sparse_layers,
)


def glm4_moe_lite(c: Config) -> Decoder:
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=c.flag("rope_interleave"))
    mixer = latent_attention(c, mask=Causal(), positions=positions)
    moe = deepseek_moe(c, noaux_tc_router(c), shared=c.count("n_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    count, ahead = c.depth("num_hidden_layers"), c.count("num_nextn_predict_layers")
    sparse = sparse_layers(c, count, [i >= c.count("first_k_dense_replace") for i in range(count)])
    layers = [pre_norm(norm, mixer, moe if item else dense) for item in sparse]
    mtp = [MTP(layer=pre_norm(norm, mixer, moe), norm=norm)] * ahead
    return decoder(c, "glm4_moe_lite", layers, norm, mtp=mtp)


FAMILY = Family(
    model_types=("glm4_moe_lite",),
    spec=glm4_moe_lite,
    irregular=following_layers,
    ignored=frozenset("first_k_dense_replace head_dim qk_head_dim num_key_value_heads".split()),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
