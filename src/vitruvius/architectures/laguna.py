"""Laguna: a softplus gate on each head's output or channel, another number of query heads in windowed layers, experts
scored by a capped sigmoid.

Poolside 2026; transformers, models/laguna.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Irregular, Layer, MoE, OutputGate, QKNorm, RMSNorm, Router
from .shared import attention, decoder, layer_types, pre_norm, rope, sparse_layers, window


def laguna(c: Config) -> Decoder:
    dim, bias, count = c.size("head_dim"), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm, kv_heads = RMSNorm(eps=c.number("rms_norm_eps")), c.size("num_key_value_heads")
    kinds = layer_types(c, count, ["full_attention"] * count)
    heads = [c.size("num_attention_heads")] * count
    if c.raw("num_attention_heads_per_layer") is not None:
        heads = c.items("num_attention_heads_per_layer", count)
    sparse = sparse_layers(c, count, [i > 0 for i in range(count)])
    gate = OutputGate(act="softplus", over="head" if c.raw("gating") in (True, "per-head") else "channel")
    act = c.activation("hidden_act")
    moe = MoE(
        router=Router(
            experts=c.size("num_experts"),
            active=c.size("num_experts_per_tok"),
            score="sigmoid",
            selection_bias=True,
            norm_topk_eps=0.0,
            scale=c.number("moe_routed_scaling_factor"),
            softcap=c.number("moe_router_logit_softcapping") or None,
        ),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act),
    )
    c.expect("moe_apply_router_weight_on_input", None, False)
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)

    def layer(i: int) -> Layer:
        mixer = attention(
            c,
            dim,
            mask=window(c, kinds[i] == "sliding_attention"),
            positions=rope(c, dim, kinds[i]),
            heads=heads[i],
            kv_heads=kv_heads,
            bias=bias,
            o_bias=bias,
            norm=QKNorm(norm=norm),
            gate=gate,
        )
        return pre_norm(norm, mixer, moe if sparse[i] else dense)

    return decoder(c, "laguna", map(layer, range(count)), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    mlp = "model.layers.*.mlp"
    return [
        Irregular("layers.*.mixer.body.gate.weight", "model.layers.*.self_attn.g_proj.weight"),
        Irregular("layers.*.mlp.body.router.selection_bias", f"{mlp}.experts.e_score_correction_bias"),
        Irregular("layers.*.mlp.body.shared", f"{mlp}.shared_expert"),
    ]


FAMILY = Family(model_types=("laguna",), spec=laguna, irregular=irregular)
