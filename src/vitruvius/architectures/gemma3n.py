"""Gemma 3n: Gemma 3 for small devices. Four residual streams of which each layer computes on one (AltUp), a low-rank
residual beside attention (LAuReL), an input of its own for every layer from a table that may live on slower memory,
early feed-forward layers of which few channels are active, last layers that use the keys and values of earlier ones.

google-deepmind/gemma, gemma/gm/nn/gemma3n; transformers, models/gemma3n; ai.google.dev/gemma/docs/gemma-3n. It is a
MatFormer (arXiv 2310.07707): `vitruvius.slice` takes smaller models out of it. Norms multiply by w, not 1 + w as in
Gemma 3. Scores are not scaled, whatever query_pre_attn_scalar says.
"""

from __future__ import annotations

from .. import spec as s
from ..spec import Config, Irregular
from .shared import decoder, layer_types, per_layer_embedding, periodic, rope, sharing_sources, window


def gemma3n(c: Config) -> s.Decoder:
    width, dim, kv_heads = c.size("hidden_size"), c.size("head_dim"), c.size("num_key_value_heads")
    count, bias, norm = c.depth("num_hidden_layers"), c.flag("attention_bias"), s.RMSNorm(eps=c.number("rms_norm_eps"))
    act, kinds = c.activation("hidden_activation"), layer_types(c, count, periodic(count, 5))
    ropes = {
        "full_attention": rope(c, dim, "full_attention"),
        "sliding_attention": rope(c, dim, "sliding_attention", theta="rope_local_base_freq"),
    }
    sources, hidden, sparsity = sharing_sources(c, kinds), c.each("intermediate_size", count), sparsities(c, count)
    k_norm, v_norm = s.QKNorm(norm=norm), s.WeightlessNorm(eps=norm.eps)
    own = s.KeyValue(heads=kv_heads, head_dim=dim, v_dim=dim, bias=bias, k_norm=k_norm, v_norm=v_norm)
    inputs = s.PerLayerInput(dim=c.size("hidden_size_per_layer_input"), act=act, norm=norm)
    altup = s.AltUp(
        streams=c.size("altup_num_inputs"),
        active=c.count("altup_active_idx"),
        norm=norm,
        scaled=c.flag("altup_correct_scale"),
        inject=inputs,
    )

    def layer(i: int) -> s.Layer:
        source = sources[i]
        attention = s.Attention(
            heads=c.size("num_attention_heads"),
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=s.QKNorm(norm=norm),
            kv=own if source is None else s.LayerKeyValue(layer=source, heads=kv_heads, head_dim=dim, v_dim=dim),
            mask=window(c, kinds[i] == "sliding_attention"),
            positions=ropes[kinds[i]],
            softmax=s.Softmax(scale=1.0),
        )
        first = s.Branch(name="attention", body=attention, post=norm)
        laurel = s.Branch(name="laurel", body=s.Laurel(rank=c.size("laurel_rank"), norm=norm))
        both = s.Parallel(branches=(first, laurel))
        mlp = s.GatedMLP(dim=hidden[i], act=s.GaussianTopK(sparsity=sparsity[i], act=act) if sparsity[i] else act)
        mixer = s.Branch(name="mixer", pre=norm, body=both, scale=0.5**0.5, skip=0.5**0.5)
        return s.Layer(branches=(mixer, s.Branch(name="mlp", pre=norm, body=mlp, post=norm)), around=altup)

    vocab, per_layer = c.size("vocab_size"), per_layer_embedding(c, inputs.dim, norm)
    embedding = s.Embedding(vocab=vocab, scale=width**0.5, tied=c.flag("tie_word_embeddings"), per_layer=per_layer)
    head = s.Head(vocab=vocab, softcap=c.number_or_none("final_logit_softcapping"))
    return decoder(c, "gemma3n_text", map(layer, range(count)), norm, embedding=embedding, head=head)


def sparsities(c: Config, count: int) -> list[float]:
    """The share of channels that each layer's feed-forward leaves inactive; where the file is silent, 0.95 in the first
    ten layers of a model that has more (transformers, Gemma3nTextConfig)."""
    if c.raw("activation_sparsity_pattern") is None:
        return [0.95 if i < 10 < count else 0.0 for i in range(count)]
    return c.each("activation_sparsity_pattern", count)


def irregular(decoder: s.Decoder) -> list[Irregular]:
    return [
        Irregular("embedding.per_layer", "model"),
        Irregular("layers.*.around", "model.layers.*.altup"),
        Irregular("layers.*.around.inject", "model.layers.*"),
        Irregular("layers.*.mixer.body.attention.body", "model.layers.*.self_attn"),
        Irregular("layers.*.mixer.body.attention.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mixer.body.laurel.body", "model.layers.*.laurel"),
        Irregular("layers.*.mlp.pre", "model.layers.*.pre_feedforward_layernorm"),
    ]


# Projections that layers with another's keys and values do not use, and a scale that may be off.
UNUSED = ("self_attn.[kv]_proj.*", "self_attn.k_norm.weight", "altup.correct_output_scale")

FAMILY = s.Family(
    model_types=("gemma3n_text",),
    spec=gemma3n,
    irregular=irregular,
    ignored=frozenset(("query_pre_attn_scalar", "altup_coef_clip", "altup_lr_multiplier")),  # the last two: training
    unused=tuple(f"model.layers.*.{name}" for name in UNUSED),
)
