"""Llama 2, 3, 3.1, 3.2 and what follows their shape (SmolLM2): pre-norm, RoPE, SwiGLU, grouped queries.

Touvron et al. 2023, arXiv 2307.09288; Grattafiori et al. 2024, arXiv 2407.21783; meta-llama/llama-models,
models/llama3.
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
    KeyValue,
    Layer,
    RMSNorm,
    Softmax,
    head_dim,
    rope,
)


def llama(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias),
        mask=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
    )
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=c.flag("mlp_bias"))
    layer = Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))
    return Decoder(
        name="llama",
        family="llama",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=(layer,) * c.depth("num_hidden_layers"),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


FAMILY = Family(
    model_types=("llama",),
    spec=llama,
    ignored=frozenset(("rope_interleaved", "is_llama_config")),
    unused=("model.layers.*.self_attn.rotary_emb.inv_freq",),
)
