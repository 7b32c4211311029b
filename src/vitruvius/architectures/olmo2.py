"""OLMo 2: the norm comes after each branch and inside the residual, x + norm(f(x)); queries and keys are normed over
the whole projection, before the heads are split.

OLMo Team 2025, arXiv 2501.00656, section 3; allenai/OLMo-core.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Branch,
    Causal,
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
    rope,
)


def olmo2(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        q_norm=over,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=over),
        mask=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
    )
    layer = Layer(branches=(Branch(name="mixer", body=attention, post=norm), Branch(name="mlp", body=mlp, post=norm)))

    return Decoder(
        name="olmo2",
        family="olmo2",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=(layer,) * c.depth("num_hidden_layers"),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_feedforward_layernorm"),
    ]


FAMILY = Family(model_types=("olmo2",), spec=olmo2, irregular=irregular)
