"""Olmo 3: OLMo 2's layer with a window in three layers of four; RoPE is stretched only where attention is full.

Olmo Team 2025, "Olmo 3"; allenai/OLMo-core.
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
    QKNorm,
    RMSNorm,
    Softmax,
    head_dim,
    layer_types,
    rope,
    window,
)


def olmo3(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    count = c.depth("num_hidden_layers")
    kinds = layer_types(c, count, ["sliding_attention" if (i + 1) % 4 else "full_attention" for i in range(count)])

    def layer(kind: str) -> Layer:
        attention = Attention(
            heads=heads,
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=over,
            kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=over),
            mask=window(c, kind == "sliding_attention"),
            positions=rope(c, dim, kind),
            softmax=Softmax(scale=dim**-0.5),
        )
        return Layer(
            branches=(Branch(name="mixer", body=attention, post=norm), Branch(name="mlp", body=mlp, post=norm))
        )

    return Decoder(
        name="olmo3",
        family="olmo3",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(map(layer, kinds)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_feedforward_layernorm"),
    ]


FAMILY = Family(model_types=("olmo3",), spec=olmo3, irregular=irregular)
