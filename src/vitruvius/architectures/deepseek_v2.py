"""DeepSeek V2 and V2-Lite: latent attention, and many small experts chosen from a few groups beside shared ones.

DeepSeek-AI 2024, arXiv 2405.04434, section 2; deepseek-ai/DeepSeek-V2. transformers ignores norm_topk_prob here (it is
false in both).
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, ExpertGroups, Family, GatedMLP, RMSNorm, Router
from .shared import decoder, deepseek_moe, latent_attention, pre_norm, rope


def deepseek_v2(c: Config) -> Decoder:
    norm, mlp_bias = RMSNorm(eps=c.number("rms_norm_eps")), c.flag("mlp_bias")
    positions = rope(c, c.size("qk_rope_head_dim"), interleaved=True)
    mixer = latent_attention(c, mask=Causal(), positions=positions)
    groups = None
    if c.choice("topk_method", "greedy", "group_limited_greedy") == "group_limited_greedy":
        groups = ExpertGroups(count=c.size("n_group"), active=c.size("topk_group"), score="max")
    router = Router(
        experts=c.size("n_routed_experts"),
        active=c.size("num_experts_per_tok"),
        groups=groups,
        scale=c.number("routed_scaling_factor"),
    )
    moe = deepseek_moe(c, router, shared=c.size("n_shared_experts"), bias=mlp_bias)
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=mlp_bias)
    c.expect("moe_layer_freq", None, 1)
    c.expect("scoring_func", None, "softmax")
    first = c.count("first_k_dense_replace")
    mlps = [dense if i < first else moe for i in range(c.depth("num_hidden_layers"))]
    return decoder(c, "deepseek_v2", [pre_norm(norm, mixer, mlp) for mlp in mlps], norm)


FAMILY = Family(
    model_types=("deepseek_v2",),
    spec=deepseek_v2,
    ignored=frozenset(["head_dim", "qk_head_dim", "num_key_value_heads", "norm_topk_prob", "n_group", "topk_group"]),
)
