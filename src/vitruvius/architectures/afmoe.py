"""Arcee Trinity Nano, Mini and Large: gated attention with normed queries and keys, windows with RoPE in three layers
of four and no positions in the fourth, sandwich norms, embeddings scaled as in μP.

Arcee AI 2025, Trinity (model cards); arcee-ai/Trinity-Nano-Preview, modeling_afmoe.py. Depth-scaled norms are an
initialisation.
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
    head_dim,
    layer_types,
    rope,
    window,
)


def afmoe(c: Config) -> Decoder:
    width, dim, heads, bias, count = (
        c.size("hidden_size"),
        head_dim(c),
        c.size("num_attention_heads"),
        c.flag("attention_bias"),
        c.depth("num_hidden_layers"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    every = c.size("global_attn_every_n_layers")
    kinds = layer_types(c, count, ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)])
    act, moe_dim, shared = c.activation("hidden_act"), c.size("moe_intermediate_size"), c.count("num_shared_experts")
    moe = MoE(
        router=Router(
            experts=c.size("num_experts"),
            active=c.size("num_experts_per_tok"),
            score="sigmoid",
            selection_bias=True,
            norm_topk_eps=1e-20,
            scale=c.number("route_scale"),
        ),
        expert=GatedMLP(dim=moe_dim, act=act),
        shared=GatedMLP(dim=moe_dim * shared, act=act) if shared else None,
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    for key, value in (("route_norm", True), ("score_func", "sigmoid"), ("n_group", 1), ("topk_group", 1)):
        c.expect(key, None, value)

    def layer(i: int) -> Layer:
        local = kinds[i] == "sliding_attention"
        attention = Attention(
            heads=heads,
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=QKNorm(norm=norm),
            kv=KeyValue(
                heads=c.size_or("num_key_value_heads", heads),
                head_dim=dim,
                v_dim=dim,
                bias=bias,
                k_norm=QKNorm(norm=norm),
            ),
            mask=window(c, local),
            positions=rope(c, dim) if local else None,
            softmax=Softmax(scale=dim**-0.5),
            gate=OutputGate(),
        )
        mlp = dense if i < c.count("num_dense_layers") else moe
        return Layer(
            branches=(
                Branch(name="mixer", pre=norm, body=attention, post=norm),
                Branch(name="mlp", pre=norm, body=mlp, post=norm),
            )
        )

    return Decoder(
        name="afmoe",
        family="afmoe",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(
            vocab=c.size("vocab_size"),
            scale=width**0.5 if c.flag("mup_enabled") else 1.0,
            tied=c.flag("tie_word_embeddings"),
        ),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mlp.pre", "model.layers.*.pre_mlp_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_mlp_layernorm"),
        Irregular("layers.*.mlp.body.router.weight", "model.layers.*.mlp.router.gate.weight"),
        Irregular("layers.*.mlp.body.router.selection_bias", "model.layers.*.mlp.expert_bias"),
    ]


FAMILY = Family(model_types=("afmoe",), spec=afmoe, irregular=irregular)
