"""OLMoE: 64 small experts in every layer, eight for each token; queries and keys are normed over the whole projection.

Muennighoff et al. 2024, arXiv 2409.02060, section 2; allenai/OLMoE.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, GatedMLP, MoE, QKNorm, RMSNorm
from .shared import attention, decoder, head_dim, pre_norm, rope, topk_router


def olmoe(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, norm=over)
    c.expect("clip_qkv", None)
    expert = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    moe = MoE(router=topk_router(c), expert=expert)
    return decoder(c, "olmoe", [pre_norm(norm, mixer, moe)] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(model_types=("olmoe",), spec=olmoe)
