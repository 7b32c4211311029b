"""GLaM: a decoder with 64 experts in every second feed-forward layer, two for each token.

Du et al. 2021, arXiv 2112.06905, section 4 and table 4; google/praxis, praxis/layers/glam.py. The weights were never
released and there is no config.json to follow: the keys are those that Hugging Face uses for such parts. The paper has
the shapes; that norms are RMSNorm, scores not scaled, and experts plain ReLU layers is what praxis's code says.
"""

from __future__ import annotations

from ..spec import (
    MLP,
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
    MoE,
    RelativeBias,
    RMSNorm,
    Router,
    Softmax,
)


def glam(c: Config) -> Decoder:
    width, heads, dim, inner = (
        c.size("hidden_size"),
        c.size("num_attention_heads"),
        c.size("head_dim"),
        c.size("intermediate_size"),
    )
    norm, vocab, every = RMSNorm(eps=c.number("rms_norm_eps")), c.size("vocab_size"), c.size("moe_layer_freq")
    attention = Attention(
        heads=heads,
        head_dim=dim,
        kv=KeyValue(heads=heads, head_dim=dim, v_dim=dim),
        mask=Causal(),
        positions=RelativeBias(
            buckets=c.size("relative_attention_num_buckets"),
            max_distance=c.size("relative_attention_max_distance"),
            bidirectional=False,
        ),
        softmax=Softmax(scale=1.0),
    )
    c.expect("tie_word_embeddings", True)
    dense = GatedMLP(dim=inner, act=c.activation("hidden_act"))
    moe = MoE(
        router=Router(experts=c.size("num_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0),
        expert=MLP(dim=inner, act=c.activation("expert_act")),
    )

    def layer(i: int) -> Layer:
        mlp = moe if i % every == 0 else dense
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="glam",
        family="glam",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=vocab, tied=True),
        layers=tuple(layer(i) for i in range(c.depth("num_hidden_layers"))),
        final_norm=norm,
        head=Head(vocab=vocab, scale=width**-0.5),
    )


FAMILY = Family(model_types=("glam",), spec=glam)
