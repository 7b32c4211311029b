"""Laguna: a softplus gate on each head's output or channel, another number of query heads in windowed layers, experts
scored by a capped sigmoid.

Poolside 2026; transformers, models/laguna.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Branch,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    Irregular,
    KeyValue,
    Layer,
    MoE,
    OutputGate,
    QKNorm,
    RMSNorm,
    Router,
    Softmax,
    layer_types,
    rope,
    window,
)


def laguna(c: Config) -> Decoder:
    dim, bias, count = c.size("head_dim"), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    kinds = layer_types(c, count, ["full_attention"] * count)
    heads = [c.size("num_attention_heads")] * count
    if c.raw("num_attention_heads_per_layer") is not None:
        heads = c.items("num_attention_heads_per_layer", count)
    sparse = [i > 0 for i in range(count)]
    if c.raw("mlp_layer_types") is not None:
        sparse = [kind == "sparse" for kind in c.items("mlp_layer_types", count)]
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
        attention = Attention(
            heads=heads[i],
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=QKNorm(norm=norm),
            kv=KeyValue(
                heads=c.size("num_key_value_heads"), head_dim=dim, v_dim=dim, bias=bias, k_norm=QKNorm(norm=norm)
            ),
            mask=window(c, kinds[i] == "sliding_attention"),
            positions=rope(c, dim, kinds[i]),
            softmax=Softmax(scale=dim**-0.5),
            gate=gate,
        )
        mlp = moe if sparse[i] else dense
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="laguna",
        family="laguna",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    mlp = "model.layers.*.mlp"
    return [
        Irregular("layers.*.mixer.body.gate.weight", "model.layers.*.self_attn.g_proj.weight"),
        Irregular("layers.*.mlp.body.router.selection_bias", f"{mlp}.experts.e_score_correction_bias"),
        Irregular("layers.*.mlp.body.shared", f"{mlp}.shared_expert"),
    ]


FAMILY = Family(model_types=("laguna",), spec=laguna, irregular=irregular)
