"""Granite 4.0 hybrids: Mamba-2 or attention in each layer, experts beside a shared layer or that layer alone, and
Granite's multipliers of embeddings, branches, scores and logits.

IBM Research 2025, Granite 4.0 (model cards); ibm-granite/granite-4.0-h-tiny.
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
    GatedNorm,
    Head,
    Irregular,
    KeyValue,
    Layer,
    Mamba2,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    Split,
    bamba_mixer,
    head_dim,
    layer_types,
    rope,
)


def granite_hybrid(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    width, norm, times = c.size("hidden_size"), RMSNorm(eps=c.number("rms_norm_eps")), c.number("residual_multiplier")
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias),
        mask=Causal(),
        positions=rope(c, dim) if c.raw("position_embedding_type") == "rope" else None,
        softmax=Softmax(scale=c.number("attention_multiplier")),
    )
    gated = GatedNorm(eps=c.number("rms_norm_eps"), gate_first=True, groups=c.size("mamba_n_groups"))
    mamba = bamba_mixer(c, int(c.number("mamba_expand") * width), gated, "mamba_proj_bias", ())
    count = c.depth("num_hidden_layers")
    kinds = layer_types(c, count, ["linear_attention"] * count, ("linear_attention", "full_attention"))
    mlp = Branch(name="mlp", pre=norm, body=feedforward(c), scale=times)
    c.expect("normalization_function", None, "rmsnorm")

    def layer(kind: str) -> Layer:
        mixer = attention if kind == "full_attention" else mamba
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer, scale=times), mlp))

    return Decoder(
        name="granite_hybrid",
        family="granitemoehybrid",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(
            vocab=c.size("vocab_size"), scale=c.number("embedding_multiplier"), tied=c.flag("tie_word_embeddings")
        ),
        layers=tuple(map(layer, kinds)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size"), scale=1 / c.number("logits_scaling")),
    )


def feedforward(c: Config) -> GatedMLP | MoE:
    """The shared layer, with experts beside it if there are any."""
    act = c.activation("hidden_act")
    shared = GatedMLP(dim=c.size("shared_intermediate_size"), act=act)
    if not c.count("num_local_experts"):
        return shared
    router = Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0)
    return MoE(router=router, expert=GatedMLP(dim=c.size("intermediate_size"), act=act), shared=shared)


def irregular(decoder: Decoder) -> list[Irregular]:
    """Gates and up projections are stored one above the other, experts as stacks."""
    lines = [Irregular("layers.*.mlp.body.router.weight", "model.layers.*.block_sparse_moe.router.layer.weight")]
    for ours, theirs, axis in (
        ("", "shared_mlp", 0),
        (".shared", "shared_mlp", 0),
        (".experts", "block_sparse_moe", 1),
    ):
        part, name = f"layers.*.mlp.body{ours}", f"model.layers.*.{theirs}"
        pair = (f"{part}.gate.weight", f"{part}.up.weight")
        lines.append(Irregular(pair, f"{name}.input_linear.weight", (Split(axis=axis),)))
        lines.append(Irregular(f"{part}.down.weight", f"{name}.output_linear.weight"))
    for i, layer in enumerate(decoder.layers):
        if isinstance(layer.branches[0].body, Mamba2):
            lines.append(Irregular(f"layers.{i}.mixer.body", f"model.layers.{i}.mamba"))
    return lines


FAMILY = Family(
    model_types=("granitemoehybrid",),
    spec=granite_hybrid,
    irregular=irregular,
    ignored=frozenset(
        """init_method intermediate_size mamba_chunk_size num_experts_per_tok rope_parameters rope_scaling
        rope_theta""".split()
    ),
)
