"""Gemma 2: a norm before and after every branch, windowed and full attention in turn, scores and logits softly capped.

Gemma Team 2024, arXiv 2408.00118, section 2; google-deepmind/gemma. Norms store w − 1, embeddings are scaled by √width.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Embedding, Family, GatedMLP, Head, Irregular, Layer, RMSNorm, Softmax
from .shared import attention, decoder, layer_types, periodic, rope, sandwich, window


def gemma2(c: Config) -> Decoder:
    width, dim, kv_heads = c.size("hidden_size"), c.size("head_dim"), c.size("num_key_value_heads")
    count, bias = c.depth("num_hidden_layers"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_activation"))
    softmax = Softmax(
        scale=c.number("query_pre_attn_scalar") ** -0.5, softcap=c.number_or_none("attn_logit_softcapping")
    )
    c.expect("use_bidirectional_attention", None, False)

    def layer(kind: str) -> Layer:
        mixer = attention(
            c,
            dim,
            mask=window(c, kind == "sliding_attention"),
            positions=rope(c, dim),
            kv_heads=kv_heads,
            bias=bias,
            o_bias=bias,
            softmax=softmax,
        )
        return sandwich(norm, mixer, mlp)

    vocab = c.size("vocab_size")
    embedding = Embedding(vocab=vocab, scale=width**0.5, tied=c.flag("tie_word_embeddings"))
    head = Head(vocab=vocab, softcap=c.number_or_none("final_logit_softcapping"))
    kinds = layer_types(c, count, periodic(count, 2))
    return decoder(c, "gemma2", map(layer, kinds), norm, embedding=embedding, head=head)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [Irregular("layers.*.mlp.pre", "model.layers.*.pre_feedforward_layernorm")]


FAMILY = Family(model_types=("gemma2",), spec=gemma2, irregular=irregular, ignored=frozenset(("hidden_act",)))
