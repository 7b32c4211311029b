"""Gemma 3n: Gemma 3 for small devices. Four residual streams of which each layer computes on one (AltUp), a low-rank
residual beside attention (LAuReL), an input of its own for every layer from a table that may live on slow memory, feed-
forward layers of which few channels are active, and last layers that use the keys and values of earlier ones.

google-deepmind/gemma, gemma/gm/nn/gemma3n; transformers, models/gemma3n; ai.google.dev/gemma/docs/gemma-3n. It is a
MatFormer (arXiv 2310.07707): see `vitruvius.slice`. Scores are not scaled, whatever query_pre_attn_scalar says, and the
AltUp keys that are ignored concern training.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..spec import (
    AltUp,
    Attention,
    Branch,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    GaussianTopK,
    Head,
    Irregular,
    KeyValue,
    Laurel,
    Layer,
    LayerKeyValue,
    Parallel,
    PerLayerEmbedding,
    PerLayerInput,
    PerLayerTable,
    QKNorm,
    RMSNorm,
    Softmax,
    WeightlessNorm,
    layer_types,
    rope,
    window,
)


def gemma3n(c: Config) -> Decoder:
    width, dim, count, bias = (
        c.size("hidden_size"),
        c.size("head_dim"),
        c.depth("num_hidden_layers"),
        c.flag("attention_bias"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    act, kv_heads = c.activation("hidden_activation"), c.size("num_key_value_heads")
    kinds = layer_types(c, count, ["sliding_attention" if (i + 1) % 5 else "full_attention" for i in range(count)])
    ropes = {
        "full_attention": rope(c, dim, "full_attention"),
        "sliding_attention": rope(c, dim, "sliding_attention", theta="rope_local_base_freq"),
    }
    hidden, sparsity = sizes(c, count), sparsities(c, count)
    own = KeyValue(
        heads=kv_heads,
        head_dim=dim,
        v_dim=dim,
        bias=bias,
        k_norm=QKNorm(norm=norm),
        v_norm=WeightlessNorm(eps=norm.eps),
    )
    keepers = last_keepers(kinds, c.count("num_kv_shared_layers"))
    inject = PerLayerInput(dim=c.size("hidden_size_per_layer_input"), act=act, norm=norm)
    altup = AltUp(
        streams=c.size("altup_num_inputs"),
        active=c.count("altup_active_idx"),
        norm=norm,
        scaled=c.flag("altup_correct_scale"),
        inject=inject,
    )

    def layer(i: int) -> Layer:
        attention = Attention(
            heads=c.size("num_attention_heads"),
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=QKNorm(norm=norm),
            kv=own
            if keepers[i] is None
            else LayerKeyValue(layer=keepers[i], heads=kv_heads, head_dim=dim, v_dim=dim),
            sees=window(c, kinds[i] == "sliding_attention"),
            positions=ropes[kinds[i]],
            softmax=Softmax(scale=1.0),
        )
        laurel = Laurel(rank=c.size("laurel_rank"), norm=norm)
        both = Parallel(branches=(Branch(name="attention", body=attention, post=norm), Branch(name="laurel", body=laurel)))
        mlp = GatedMLP(dim=hidden[i], act=GaussianTopK(sparsity=sparsity[i], act=act) if sparsity[i] else act)
        return Layer(
            branches=(
                Branch(name="mixer", pre=norm, body=both, scale=0.5**0.5, skip=0.5**0.5),
                Branch(name="mlp", pre=norm, body=mlp, post=norm),
            ),
            around=altup,
        )

    table = PerLayerTable(vocab=c.size("vocab_size_per_layer_input"), layers=count, dim=inject.dim)
    return Decoder(
        name="gemma3n",
        family="gemma3n_text",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(
            vocab=c.size("vocab_size"),
            scale=width**0.5,
            tied=c.flag("tie_word_embeddings"),
            per_layer=PerLayerEmbedding(table=table, norm=norm),
        ),
        layers=tuple(map(layer, range(count))),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size"), softcap=c.number_or_none("final_logit_softcapping")),
    )
