"""Ministral 3: Mistral's layer with YaRN, and queries that sharpen as the position passes the original context.

Mistral AI 2025, "Mistral 3"; the temperature is Llama 4's, with the settings in RoPE's.
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
    KeyValue,
    Layer,
    RMSNorm,
    Softmax,
    head_dim,
    query_temperature,
    rope,
    window,
)


def ministral3(c: Config) -> Decoder:
    dim, heads = head_dim(c), c.size("num_attention_heads")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    attention = Attention(
        heads=heads,
        head_dim=dim,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim),
        mask=window(c),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5, temperature=query_temperature(c)),
    )
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    layer = Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))
    return Decoder(
        name="ministral3",
        family="ministral3",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=(layer,) * c.depth("num_hidden_layers"),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


FAMILY = Family(model_types=("ministral3",), spec=ministral3)
