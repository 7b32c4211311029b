"""Gemma 2: a norm before and after every branch, windowed and full attention in turn, scores and logits softly capped.

Gemma Team 2024, arXiv 2408.00118, section 2; google-deepmind/gemma. Norms store w − 1, embeddings are scaled by √width.
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
    RMSNorm,
    Softmax,
    layer_types,
    rope,
    window,
)


def gemma2(c: Config) -> Decoder:
    width, dim, count, bias = (
        c.size("hidden_size"),
        c.size("head_dim"),
        c.depth("num_hidden_layers"),
        c.flag("attention_bias"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_activation"))
    kinds = layer_types(c, count, ["full_attention" if i % 2 else "sliding_attention" for i in range(count)])
    c.expect("use_bidirectional_attention", None, False)

    def layer(kind: str) -> Layer:
        attention = Attention(
            heads=c.size("num_attention_heads"),
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            kv=KeyValue(heads=c.size("num_key_value_heads"), head_dim=dim, v_dim=dim, bias=bias),
            mask=window(c, kind == "sliding_attention"),
            positions=rope(c, dim),
            softmax=Softmax(
                scale=c.number("query_pre_attn_scalar") ** -0.5, softcap=c.number_or_none("attn_logit_softcapping")
            ),
        )
        return Layer(
            branches=(
                Branch(name="mixer", pre=norm, body=attention, post=norm),
                Branch(name="mlp", pre=norm, body=mlp, post=norm),
            )
        )

    return Decoder(
        name="gemma2",
        family="gemma2",
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
    model_types=("gemma2",), spec=gemma2, irregular=irregular, ignored=frozenset(("cache_implementation", "hidden_act"))
)
