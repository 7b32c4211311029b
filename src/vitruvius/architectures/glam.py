"""GLaM: a decoder with 64 experts in every second feed-forward layer, two for each token.

Du et al. 2021, arXiv 2112.06905, section 4 and table 4; google/praxis, praxis/layers/glam.py. The weights were never
released and there is no config.json to follow: the keys are those that Hugging Face uses for such parts. The paper has
the shapes; that norms are RMSNorm, scores not scaled, and experts plain ReLU layers is what praxis's code says.
"""

from __future__ import annotations

from ..spec import (
    MLP,
    Attention,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    KeyValue,
    MoE,
    RelativeBias,
    RMSNorm,
    Router,
    Softmax,
)
from .shared import decoder, pre_norm


def glam(c: Config) -> Decoder:
    heads, dim, inner = c.size("num_attention_heads"), c.size("head_dim"), c.size("intermediate_size")
    norm, vocab, every = RMSNorm(eps=c.number("rms_norm_eps")), c.size("vocab_size"), c.size("moe_layer_freq")
    mixer = Attention(
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
    mlps = [moe if i % every == 0 else dense for i in range(c.depth("num_hidden_layers"))]
    layers = [pre_norm(norm, mixer, mlp) for mlp in mlps]
    head = Head(vocab=vocab, scale=c.size("hidden_size") ** -0.5)
    return decoder(c, "glam", layers, norm, embedding=Embedding(vocab=vocab, tied=True), head=head)


FAMILY = Family(model_types=("glam",), spec=glam)
