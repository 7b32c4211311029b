"""Olmo Hybrid: three layers of Gated DeltaNet with a norm before each branch to one layer of OLMo 2's attention with
norms after them; the delta net's eigenvalues may be negative.

Ai2 2026, allenai/Olmo-Hybrid-7B (model card); allenai/OLMo-core.
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
    Join,
    KeyValue,
    Layer,
    QKNorm,
    RMSNorm,
    Softmax,
    head_dim,
    layer_types,
    rope,
    rope_settings,
)


def olmo_hybrid(c: Config) -> Decoder:
    dim, heads, bias, count = (
        head_dim(c),
        c.size("num_attention_heads"),
        c.flag("attention_bias"),
        c.depth("num_hidden_layers"),
    )
    width, act, norm = c.size("hidden_size"), c.activation("hidden_act"), RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        q_norm=over,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=over),
        mask=Causal(),
        positions=None if rope_settings(c).raw("rope_theta") is None else rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
    )
    k_heads = c.size_or("linear_num_key_heads", heads)
    k_dim = c.size_or("linear_key_head_dim", int(0.75 * width / k_heads))
    delta = GatedDeltaNet(
        k_heads=k_heads,
        v_heads=c.size_or("linear_num_value_heads", heads),
        k_dim=k_dim,
        v_dim=c.size_or("linear_value_head_dim", 2 * k_dim),
        conv=Convolution(kernel=c.size("linear_conv_kernel_dim"), act=act),
        norm=GatedNorm(eps=1e-5),  # flash-linear-attention's own, whatever the config says
        beta_scale=2.0 if c.flag("linear_allow_neg_eigval") else 1.0,
    )
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=act)
    after = Layer(branches=(Branch(name="mixer", body=attention, post=norm), Branch(name="mlp", body=mlp, post=norm)))
    before = Layer(branches=(Branch(name="mixer", pre=norm, body=delta), Branch(name="mlp", pre=norm, body=mlp)))
    pattern = ["linear_attention" if (i + 1) % 4 else "full_attention" for i in range(count)]
    if count < 4:  # one layer at least is attention
        pattern[-1] = "full_attention"
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    return Decoder(
        name="olmo_hybrid",
        family="olmo_hybrid",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(after if kind == "full_attention" else before for kind in kinds),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = [
        Irregular("layers.*.mixer.pre", "model.layers.*.attention_layer_norm"),
        Irregular("layers.*.mlp.pre", "model.layers.*.feedforward_layer_norm"),
        Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_feedforward_layernorm"),
    ]
    for i, layer in enumerate(decoder.layers):
        if isinstance(mixer := layer.branches[0].body, GatedDeltaNet):
            ours, theirs = f"layers.{i}.mixer.body", f"model.layers.{i}.linear_attn"
            convs, sizes = (
                tuple(f"{theirs}.{name}_conv1d.weight" for name in "qkv"),
                tuple(a.size for a in mixer.channels),
            )
            lines += [
                Irregular(ours, theirs),
                Irregular(f"{ours}.norm", f"{theirs}.o_norm"),
                Irregular(f"{ours}.o.weight", f"{theirs}.o_proj.weight"),
                Irregular(f"{ours}.conv", convs, (Join(sizes),)),
            ]
    return lines


FAMILY = Family(
    model_types=("olmo_hybrid",),
    spec=olmo_hybrid,
    irregular=irregular,
    ignored=frozenset("linear_a_log_max linear_a_log_min linear_dt_init_floor linear_dt_max linear_dt_min".split()),
)
