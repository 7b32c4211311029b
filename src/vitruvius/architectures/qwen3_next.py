"""Qwen3-Next: three layers of Gated DeltaNet to one of gated attention, zero-centred norms, and hundreds of small
experts beside a shared one that has a gate of its own.

Qwen Team 2025, "Qwen3-Next" (blog and model card); Yang et al. 2024, arXiv 2412.06464; Qiu et al. 2025, arXiv
2505.06708.
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


def qwen3_next(c: Config) -> Decoder:
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
    )
    moe = MoE(
        router=Router(
            experts=c.size("num_experts"),
            active=c.size("num_experts_per_tok"),
            normalize=0.0 if c.flag("norm_topk_prob") else None,
        ),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=ScalarGated(body=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act)),
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    pattern = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    without, step = c.items("mlp_only_layers"), c.size("decoder_sparse_step")

    def layer(i: int) -> Layer:
        mixer = attention if kinds[i] == "full_attention" else delta
        mlp = dense if i in without or (i + 1) % step else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="qwen3_next",
        family="qwen3_next",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates are stored side by side for each head, the delta net's projections for each key head."""
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
            for name, parts in (("in_proj_qkvz", ("q", "k", "v", "gate")), ("in_proj_ba", ("beta", "decay"))):
                names = tuple(f"{ours}.{part}.weight" for part in parts)
                lines.append(Irregular(names, f"{theirs}.{name}.weight", (Split(groups=mixer.k_heads),)))
    return lines


FAMILY = Family(model_types=("qwen3_next",), spec=qwen3_next, irregular=irregular, unused=("mtp.*",))
