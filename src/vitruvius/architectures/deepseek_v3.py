"""DeepSeek V3 and R1, Kimi K2: V2's latent attention and experts, scored by a sigmoid and balanced by a stored bias
instead of a loss; one more layer that predicts the token after next.

DeepSeek-AI 2024, arXiv 2412.19437, section 2; deepseek-ai/DeepSeek-V3, inference/model.py. Kimi Team 2025, arXiv
2507.20534.
"""

from __future__ import annotations

from ..spec import MTP, Causal, Config, Decoder, Family, GatedMLP, RMSNorm
from .shared import decoder, deepseek_moe, following_layers, latent_attention, noaux_tc_router, pre_norm, rope


def deepseek_v3(c: Config) -> Decoder:
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=c.flag("rope_interleave"))
    mixer = latent_attention(c, mask=Causal(), positions=positions)
    moe = deepseek_moe(c, noaux_tc_router(c), shared=c.count("n_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    c.expect("moe_layer_freq", None, 1)
    count, ahead = c.depth("num_hidden_layers"), c.count("num_nextn_predict_layers")
    mlps = [dense if i < c.count("first_k_dense_replace") else moe for i in range(count + ahead)]
    layers = [pre_norm(norm, mixer, mlp) for mlp in mlps]
    mtp = [MTP(layer=layer, norm=norm) for layer in layers[count:]]
    return decoder(c, "deepseek_v3", layers[:count], norm, mtp=mtp)


FAMILY = Family(
    model_types=("deepseek_v3", "kimi_k2"),
    spec=deepseek_v3,
    irregular=following_layers,
    ignored=frozenset(["head_dim", "qk_head_dim", "num_key_value_heads", "num_mtp_layers"]),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
