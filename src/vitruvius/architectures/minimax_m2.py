"""MiniMax-M2: queries and keys normed over the whole projection, partial RoPE, and a mixture in every layer without a
shared expert.

MiniMax 2025, MiniMax-AI/MiniMax-M2.
"""

from __future__ import annotations

from dataclasses import replace

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
    Irregular,
    KeyValue,
    Layer,
    MoE,
    QKNorm,
    RMSNorm,
    Router,
    Softmax,
    head_dim,
    rope,
)


def minimax_m2(c: Config) -> Decoder:
    dim, heads = head_dim(c), c.size("num_attention_heads")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    positions = rope(c, dim)
    if c.raw("rotary_dim") is not None and "rope_parameters" not in c:  # released files say it so
        positions = replace(positions, dim=c.size("rotary_dim"))
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_norm=over,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, k_norm=over),
        mask=Causal(),
        positions=positions,
        softmax=Softmax(scale=dim**-0.5),
    )
    moe = MoE(
        router=Router(
            experts=c.size("num_local_experts"),
            active=c.size("num_experts_per_tok"),
            score="sigmoid",
            selection_bias=True,
            norm_topk_eps=0.0,
        ),
        expert=GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act")),
    )
    c.expect("use_qk_norm", None, True)
    c.expect("qk_norm_type", None, "per_layer")
    c.expect("use_routing_bias", None, True)
    c.expect("scoring_func", None, "sigmoid")
    c.expect("shared_intermediate_size", None, 0)
    layer = Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=moe)))
    return Decoder(
        name="minimax_m2",
        family="minimax_m2",
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
        Irregular(f"{ours}.router.selection_bias", f"{theirs}.e_score_correction_bias"),
        Irregular(f"{ours}.experts.gate.weight", f"{theirs}.experts.{{}}.w1.weight"),
        Irregular(f"{ours}.experts.up.weight", f"{theirs}.experts.{{}}.w3.weight"),
        Irregular(f"{ours}.experts.down.weight", f"{theirs}.experts.{{}}.w2.weight"),
    ]


FAMILY = Family(
    model_types=("minimax_m2",),
    spec=minimax_m2,
    irregular=irregular,
    ignored=frozenset("rotary_dim use_mtp mtp_transformer_layers num_mtp_modules".split()),
)
