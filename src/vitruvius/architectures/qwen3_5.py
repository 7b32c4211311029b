"""Qwen3.5, dense and mixture of experts, the text model: Qwen3-Next's layers; the delta net's projections are stored
apart, and every layer of the mixture is sparse.

Qwen Team 2026, "Qwen3.5" (model cards); Yang et al. 2024, arXiv 2412.06464. Rotary positions in sections (of time,
height and width) are those of ordinary RoPE where there is text only.
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
    GatedDeltaNet,
    GatedMLP,
    Head,
    Irregular,
    KeyValue,
    Layer,
    MoE,
    OutputGate,
    QKNorm,
    RMSNorm,
    Router,
    ScalarGated,
    Softmax,
    Split,
    gated_delta_net,
    head_dim,
    layer_types,
    rope,
)


def qwen3_5(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    count, every = c.depth("num_hidden_layers"), c.size("full_attention_interval")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    per_head = QKNorm(norm=norm)
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        q_norm=per_head,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=per_head),
        mask=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
        gate=OutputGate(bias=bias),
    )
    delta = gated_delta_net(c)
    pattern = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    mlp = Branch(name="mlp", pre=norm, body=feedforward(c))
    c.expect("attn_output_gate", None, True)

    def layer(kind: str) -> Layer:
        mixer = attention if kind == "full_attention" else delta
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), mlp))

    return Decoder(
        name="qwen3_5",
        family="qwen3_5_text",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(map(layer, kinds)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def feedforward(c: Config) -> GatedMLP | MoE:
    act = c.activation("hidden_act")
    if c.raw("model_type") == "qwen3_5_text":
        return GatedMLP(dim=c.size("intermediate_size"), act=act)
    return MoE(
        router=Router(experts=c.size("num_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=ScalarGated(body=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act)),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates of attention are stored side by side for each head."""
    shared = "model.layers.*.mlp.shared_expert"
    lines = [
        Irregular("layers.*.mlp.body.shared", shared),
        Irregular("layers.*.mlp.body.shared.gate.weight", f"{shared}_gate.weight"),
    ]
    for i, layer in enumerate(decoder.layers):
        body, theirs, mixer = f"layers.{i}.mixer.body", f"model.layers.{i}", layer.branches[0].body
        if isinstance(mixer, Attention):
            for kind in ("weight", "bias"):
                pair = (f"{body}.q.{kind}", f"{body}.gate.{kind}")
                lines.append(Irregular(pair, f"{theirs}.self_attn.q_proj.{kind}", (Split(groups=mixer.heads),)))
        elif isinstance(mixer, GatedDeltaNet):
            theirs = f"{theirs}.linear_attn"
            together = tuple(f"{body}.{part}.weight" for part in "qkv")
            lines += [Irregular(body, theirs), Irregular(together, f"{theirs}.in_proj_qkv.weight", (Split(),))]
            for part, name in (("gate", "z"), ("beta", "b"), ("decay", "a")):
                lines.append(Irregular(f"{body}.{part}.weight", f"{theirs}.in_proj_{name}.weight"))
    return lines


FAMILY = Family(
    model_types=("qwen3_5_text", "qwen3_5_moe_text"),
    spec=qwen3_5,
    irregular=irregular,
    ignored=frozenset(
        ("intermediate_size", "mlp_only_layers", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    ),
    unused=("mtp.*",),
)
