"""Falcon 7B, 40B, 180B and Falcon 2 11B: attention and a plain feed-forward layer side by side, on one norm or with a
norm each, RoPE, and one key and value head or groups of them.

Almazrouei et al. 2023, arXiv 2311.16867, section 3; transformers, models/falcon. Queries, keys and values of each group
are stored together.
"""

from __future__ import annotations

from ..spec import MLP, Causal, Config, Decoder, Family, Irregular, KeyValue, LayerNorm
from .shared import attention, beside, decoder, dense_names, first_attention, fused_qkv, pre_norm, rope, side_by_side


def falcon(c: Config) -> Decoder:
    heads, dim, bias = c.size("num_attention_heads"), c.share("hidden_size", "num_attention_heads"), c.flag("bias")
    norm, newer = LayerNorm(eps=c.number("layer_norm_epsilon")), c.flag("new_decoder_architecture")
    kv_heads = c.size_or("num_kv_heads", heads) if newer or not c.flag("multi_query") else 1
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), kv_heads=kv_heads, bias=bias, o_bias=bias)
    hidden = c.size_or("ffn_hidden_size", 4 * c.size("hidden_size"))
    mlp = MLP(dim=hidden, act=c.activation("activation"), bias=bias)
    c.expect("alibi", None, False)  # biases by distance, which only Falcon-RW has
    if newer:
        c.expect("num_ln_in_parallel_attn", None, 1, 2)
        layer = side_by_side(mixer, mlp, norm, norms=1 if c.raw("num_ln_in_parallel_attn") == 1 else 2)
    else:
        c.expect("num_ln_in_parallel_attn", None, 1)
        layer = side_by_side(mixer, mlp, norm) if c.flag("parallel_attn") else pre_norm(norm, mixer, mlp)
    return decoder(c, "falcon", [layer] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    layer, (path, mixer) = "transformer.h.*", first_attention(decoder)
    assert isinstance(mixer.kv, KeyValue)
    return [
        Irregular("embedding", "transformer.word_embeddings"),
        Irregular("layers.*", layer),
        Irregular("layers.*.mixer.body.attention.pre", f"{layer}.ln_attn"),
        Irregular("layers.*.mixer.body.mlp.pre", f"{layer}.ln_mlp"),
        *beside(decoder, layer, "self_attention"),
        *fused_qkv(path, f"{layer}.self_attention", mixer.kv.heads),
        *dense_names(layer),
        Irregular("final_norm", "transformer.ln_f"),
    ]


FAMILY = Family(
    model_types=("falcon",),
    spec=falcon,
    irregular=irregular,
    ignored=frozenset("num_kv_heads parallel_attn multi_query".split()),
    bare="transformer.",
)
