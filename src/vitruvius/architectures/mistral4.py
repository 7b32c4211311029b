"""Mistral Small 4: latent attention whose queries sharpen with the position, and experts weighed by a softmax.

Mistral AI 2026; transformers, models/mistral4. The experts of a layer are one tensor, gate rows before up rows.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, ExpertGroups, Family, GatedMLP, Irregular, RMSNorm, Router
from .shared import decoder, deepseek_moe, latent_attention, pre_norm, query_temperature, rope, stacked_experts


def mistral4(c: Config) -> Decoder:
    norm, dim = RMSNorm(eps=c.number("rms_norm_eps")), c.size("qk_nope_head_dim") + c.size("qk_rope_head_dim")
    positions = rope(c, dim, interleaved=c.flag("rope_interleave"))  # of which partial_rotary_factor turns a part
    mixer = latent_attention(c, mask=Causal(), positions=positions, temperature=query_temperature(c))
    router = Router(
        experts=c.size("n_routed_experts", "num_local_experts"),
        active=c.size("num_experts_per_tok"),
        groups=ExpertGroups(count=c.size("n_group"), active=c.size("topk_group"), score="top2_sum"),
        norm_topk_eps=1e-20 if c.flag("norm_topk_prob") else None,
        scale=c.number("routed_scaling_factor"),
    )
    moe = deepseek_moe(c, router, shared=c.count("n_shared_experts"))
    dense, first = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act")), "first_k_dense_replace"
    mlps = [dense if i < c.count(first) else moe for i in range(c.depth("num_hidden_layers"))]
    return decoder(c, "mistral4", [pre_norm(norm, mixer, mlp) for mlp in mlps], norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    return stacked_experts("layers.*.mlp.body.experts", "model.layers.*.mlp.experts")


FAMILY = Family(
    model_types=("mistral4",),
    spec=mistral4,
    irregular=irregular,
    ignored=frozenset("head_dim qk_head_dim num_key_value_heads".split()),
)
