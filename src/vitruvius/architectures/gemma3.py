"""Gemma 3: Gemma 2's sandwich norms with normed queries and keys instead of capped scores, five windowed layers for
each full one, and another RoPE for either kind.

Gemma Team 2025, arXiv 2503.19786, section 2; google-deepmind/gemma. transformers stores attn_logit_softcapping and
never uses it.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Embedding, Family, GatedMLP, Head, Irregular, Layer, QKNorm, RMSNorm, Softmax
from .shared import attention, decoder, layer_types, periodic, rope, sandwich, window


def gemma3(c: Config) -> Decoder:
    width, dim, kv_heads = c.size("hidden_size"), c.size("head_dim"), c.size("num_key_value_heads")
    count, bias = c.depth("num_hidden_layers"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_activation"))
    every = c.size("sliding_window_pattern", "_sliding_window_pattern")
    c.ignore("_sliding_window_pattern")
    c.expect("use_bidirectional_attention", None, False)
    ropes = {
        "full_attention": rope(c, dim, "full_attention"),
        "sliding_attention": rope(c, dim, "sliding_attention", theta="rope_local_base_freq"),
    }

    def layer(kind: str) -> Layer:
        mixer = attention(
            c,
            dim,
            mask=window(c, kind == "sliding_attention"),
            positions=ropes[kind],
            kv_heads=kv_heads,
            bias=bias,
            o_bias=bias,
            norm=QKNorm(norm=norm),
            softmax=Softmax(scale=c.number("query_pre_attn_scalar") ** -0.5),
        )
        return sandwich(norm, mixer, mlp)

    vocab = c.size("vocab_size")
    embedding = Embedding(vocab=vocab, scale=width**0.5, tied=c.flag("tie_word_embeddings"))
    head = Head(vocab=vocab, softcap=c.number_or_none("final_logit_softcapping"))
    kinds = layer_types(c, count, periodic(count, every))
    return decoder(c, "gemma3_text", map(layer, kinds), norm, embedding=embedding, head=head)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [Irregular("layers.*.mlp.pre", "model.layers.*.pre_feedforward_layernorm")]


FAMILY = Family(
    model_types=("gemma3_text",),
    spec=gemma3,
    irregular=irregular,
    ignored=frozenset(("attn_logit_softcapping",)),
)
