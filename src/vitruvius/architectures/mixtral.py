"""Mixtral: Mistral's attention with eight experts in every layer, two for each token, weighed by a renormalised
softmax.

Jiang et al. 2024, arXiv 2401.04088.
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
    MoE,
    RMSNorm,
    Router,
    Softmax,
    head_dim,
    rope,
    window,
)


def mixtral(c: Config) -> Decoder:
    dim, heads = head_dim(c), c.size("num_attention_heads")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    attention = Attention(
        heads=heads,
        head_dim=dim,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim),
        mask=window(c),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
    )
    moe = MoE(
        router=Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0),
        expert=GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act")),
    )
    layer = Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=moe)))
    return Decoder(
        name="mixtral",
        family="mixtral",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=(layer,) * c.depth("num_hidden_layers"),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.block_sparse_moe"
    return [
        Irregular(ours, theirs),
        Irregular(f"{ours}.experts.gate.weight", f"{theirs}.experts.{{}}.w1.weight"),
        Irregular(f"{ours}.experts.up.weight", f"{theirs}.experts.{{}}.w3.weight"),
        Irregular(f"{ours}.experts.down.weight", f"{theirs}.experts.{{}}.w2.weight"),
    ]


FAMILY = Family(model_types=("mixtral",), spec=mixtral, irregular=irregular)
