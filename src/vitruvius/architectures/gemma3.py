"""Gemma 3: Gemma 2's sandwich norms with normed queries and keys instead of capped scores, five windowed layers for
each full one, and another RoPE for either kind.

Gemma Team 2025, arXiv 2503.19786, section 2; google-deepmind/gemma. transformers stores attn_logit_softcapping and
never uses it.
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
    layer_types,
    rope,
    window,
)


def gemma3(c: Config) -> Decoder:
    width, dim, count, bias = (
        c.size("hidden_size"),
        c.size("head_dim"),
        c.depth("num_hidden_layers"),
        c.flag("attention_bias"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_activation"))
    every = c.size("sliding_window_pattern", "_sliding_window_pattern")
    c.ignore("_sliding_window_pattern")
    kinds = layer_types(c, count, ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)])
    c.expect("use_bidirectional_attention", None, False)
    ropes = {
        "full_attention": rope(c, dim, "full_attention"),
        "sliding_attention": rope(c, dim, "sliding_attention", theta="rope_local_base_freq"),
    }

    def layer(kind: str) -> Layer:
        attention = Attention(
            heads=c.size("num_attention_heads"),
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=QKNorm(norm=norm),
            kv=KeyValue(
                heads=c.size("num_key_value_heads"), head_dim=dim, v_dim=dim, bias=bias, k_norm=QKNorm(norm=norm)
            ),
            mask=window(c, kind == "sliding_attention"),
            positions=ropes[kind],
            softmax=Softmax(scale=c.number("query_pre_attn_scalar") ** -0.5),
        )
        return Layer(
            branches=(
                Branch(name="mixer", pre=norm, body=attention, post=norm),
                Branch(name="mlp", pre=norm, body=mlp, post=norm),
            )
        )

    return Decoder(
        name="gemma3",
        family="gemma3_text",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), scale=width**0.5, tied=c.flag("tie_word_embeddings")),
        layers=tuple(map(layer, kinds)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size"), softcap=c.number_or_none("final_logit_softcapping")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mlp.pre", "model.layers.*.pre_feedforward_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_feedforward_layernorm"),
    ]


FAMILY = Family(
    model_types=("gemma3_text",),
    spec=gemma3,
    irregular=irregular,
    ignored=frozenset(("attn_logit_softcapping", "cache_implementation")),
)
