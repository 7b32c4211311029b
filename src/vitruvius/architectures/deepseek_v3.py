"""DeepSeek V3 and R1, Kimi K2: V2's latent attention and experts, scored by a sigmoid and balanced by a stored bias
instead of a loss; one more layer that predicts the token after next.

DeepSeek-AI 2024, arXiv 2412.19437, section 2; deepseek-ai/DeepSeek-V3, inference/model.py. Kimi Team 2025, arXiv
2507.20534.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, RMSNorm
from .shared import decoder, deepseek_layers, following_layers, latent_attention, rope, sparse_after


def deepseek_v3(c: Config) -> Decoder:
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=c.flag("rope_interleave"))
    mixer = latent_attention(c, mask=Causal(), positions=positions)
    count = c.depth("num_hidden_layers")
    layers, mtp = deepseek_layers(c, norm, [mixer] * count, sparse_after(c, count))
    return decoder(c, "deepseek_v3", layers, norm, mtp=mtp)


FAMILY = Family(
    model_types=("deepseek_v3", "kimi_k2"),
    spec=deepseek_v3,
    irregular=following_layers,
    ignored=frozenset(["head_dim", "qk_head_dim", "num_key_value_heads", "num_mtp_layers"]),
    unused=("model.layers.*.embed_tokens.weight", "model.layers.*.shared_head.head.weight"),
)
