"""GLM-4.5 and GLM-4.5-Air: many query heads with partial RoPE, normed or not, biases on queries, keys and values only,
and DeepSeek V3's experts.

Zeng et al. 2025, arXiv 2508.06471, section 2.1; zai-org/GLM-4.5.
"""

from __future__ import annotations

from ..spec import MTP, Causal, Config, Decoder, Family, GatedMLP, QKNorm, RMSNorm
from .shared import attention, decoder, deepseek_moe, following_layers, head_dim, noaux_tc_router, pre_norm, rope


def glm4_moe(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    per_head = QKNorm(norm=norm) if c.flag("use_qk_norm") else None
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, norm=per_head)
    moe = deepseek_moe(c, noaux_tc_router(c), shared=c.count("n_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    count, ahead = c.depth("num_hidden_layers"), c.count("num_nextn_predict_layers")
    mlps = [dense if i < c.count("first_k_dense_replace") else moe for i in range(count + ahead)]
    layers = [pre_norm(norm, mixer, mlp) for mlp in mlps]
    mtp = [MTP(layer=layer, norm=norm) for layer in layers[count:]]
    return decoder(c, "glm4_moe", layers[:count], norm, mtp=mtp)


FAMILY = Family(
    model_types=("glm4_moe",),
    spec=glm4_moe,
    irregular=following_layers,
    ignored=frozenset(("num_mtp_layers",)),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
