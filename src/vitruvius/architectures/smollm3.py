"""SmolLM3: Llama's layer, with no positions at all (NoPE) in every fourth one.

Bakouch et al. 2025, huggingface.co/blog/smollm3; NoPE: Kazemnejad et al. 2023, arXiv 2305.19466. In `no_rope_layers` a
1 means that the layer does rotate.
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
    layer_types,
    no_rope_layers,
    rope,
    window,
)


def smollm3(c: Config) -> Decoder:
    dim, heads, bias, count = (
        head_dim(c),
        c.size("num_attention_heads"),
        c.flag("attention_bias"),
        c.depth("num_hidden_layers"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=c.flag("mlp_bias"))
    rotates = no_rope_layers(c, count)
    positions = rope(c, dim)
    sliding = c.flag("use_sliding_window")
    kinds = layer_types(c, count, ["full_attention" if r else "sliding_attention" for r in rotates])

    def layer(i: int) -> Layer:
        attention = Attention(
            heads=heads,
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias),
            mask=window(c, sliding and kinds[i] == "sliding_attention"),
            positions=positions if rotates[i] else None,
            softmax=Softmax(scale=dim**-0.5),
        )
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="smollm3",
        family="smollm3",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


FAMILY = Family(model_types=("smollm3",), spec=smollm3, ignored=frozenset(("max_window_layers",)))
