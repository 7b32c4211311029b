"""Qwen3.5, dense and mixture of experts, the text model: Qwen3-Next's layers; the delta net's projections are stored
apart, and every layer of the mixture is sparse.

Qwen Team 2026, "Qwen3.5" (model cards); Yang et al. 2024, arXiv 2412.06464. Rotary positions in sections (of time, height
and width) are those of ordinary RoPE where there is text only.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Branch,
    Causal,
    Config,
    Convolution,
    Decoder,
    Embedding,
    Family,
    GatedDeltaNet,
    GatedMLP,
    GatedNorm,
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
    head_dim,
    layer_types,
    rope,
)


def qwen3_5(c: Config) -> Decoder:
    dim, heads, bias, eps = (
        head_dim(c),
        c.size("num_attention_heads"),
        c.flag("attention_bias"),
        c.number("rms_norm_eps"),
    )
    act, count, every = c.activation("hidden_act"), c.depth("num_hidden_layers"), c.size("full_attention_interval")
    norm = RMSNorm(eps=eps, offset=1.0)
    per_head = QKNorm(norm=norm)
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        q_norm=per_head,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=per_head),
        sees=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
        gate=OutputGate(bias=bias),
    )
    delta = GatedDeltaNet(
        k_heads=c.size("linear_num_key_heads"),
        v_heads=c.size("linear_num_value_heads"),
        k_dim=c.size("linear_key_head_dim"),
        v_dim=c.size("linear_value_head_dim"),
        conv=Convolution(kernel=c.size("linear_conv_kernel_dim"), act=act),
        norm=GatedNorm(eps=eps),
        memory_dtype=None if c.raw("mamba_ssm_dtype") is None else c.choice("mamba_ssm_dtype", "float32"),
    )
    pattern = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    mlp = Branch(name="mlp", pre=norm, body=feedforward(c))

    def layer(kind: str) -> Layer:
        mixer = attention if kind == "full_attention" else delta
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), mlp))

    return Decoder(
        name="qwen3_5",
        family=str(c.raw("model_type")),
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
        router=Router(experts=c.size("num_experts"), active=c.size("num_experts_per_tok"), normalize=0.0),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=ScalarGated(body=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act)),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates of attention are stored side by side for each head."""
    lines = [
        Irregular("layers.*.mlp.body.shared", "model.layers.*.mlp.shared_expert"),
        Irregular("layers.*.mlp.body.shared.gate.weight", "model.layers.*.mlp.shared_expert_gate.weight"),
    ]
    for i, layer in enumerate(decoder.layers):
        ours, theirs, mixer = f"layers.{i}.mixer.body", f"model.layers.{i}.linear_attn", layer.branches[0].body
        if isinstance(mixer, Attention):
            for kind in ("weight", "bias"):
                names, together = (
                    (f"{ours}.q.{kind}", f"{ours}.gate.{kind}"),
                    f"model.layers.{i}.self_attn.q_proj.{kind}",
                )
                lines.append(Irregular(names, together, (Split(groups=mixer.heads),)))
        elif isinstance(mixer, GatedDeltaNet):
            lines.append(Irregular(ours, theirs))
            for name, parts in (("qkv", ("q", "k", "v")), ("z", ("gate",)), ("b", ("beta",)), ("a", ("decay",))):
                names = tuple(f"{ours}.{part}.weight" for part in parts)
                lines.append(Irregular(names, f"{theirs}.in_proj_{name}.weight", (Split(),)))
    return lines


FAMILY = Family(
    model_types=("qwen3_5_text", "qwen3_5_moe_text"),
    spec=qwen3_5,
    irregular=irregular,
    ignored=frozenset(("attn_output_gate", "mlp_only_layers", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")),
    unused=("mtp.*",),
)
