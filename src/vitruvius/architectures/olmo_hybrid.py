"""Olmo Hybrid: three layers of Gated DeltaNet with a norm before each branch to one layer of OLMo 2's attention with
norms after them; the delta net's eigenvalues may be negative.

Ai2 2026, allenai/Olmo-Hybrid-7B (model card); allenai/OLMo-core.
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Config,
    Convolution,
    Decoder,
    Family,
    GatedDeltaNet,
    GatedMLP,
    GatedNorm,
    Irregular,
    Join,
    QKNorm,
    RMSNorm,
)
from .shared import attention, decoder, head_dim, layer_types, periodic, post_norm, pre_norm, rope, rope_settings


def olmo_hybrid(c: Config) -> Decoder:
    dim, bias, count = head_dim(c), c.flag("attention_bias"), c.depth("num_hidden_layers")
    heads, act, norm = c.size("num_attention_heads"), c.activation("hidden_act"), RMSNorm(eps=c.number("rms_norm_eps"))
    positions = None if rope_settings(c).raw("rope_theta") is None else rope(c, dim)
    over = QKNorm(norm=norm, over="projection")
    full = attention(c, dim, mask=Causal(), positions=positions, bias=bias, o_bias=bias, norm=over)
    k_heads = c.size_or("linear_num_key_heads", heads)
    k_dim = c.size_or("linear_key_head_dim", int(0.75 * c.size("hidden_size") / k_heads))
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
    pattern = periodic(count, 4, "linear_attention")
    if count < 4:  # one layer at least is attention
        pattern[-1] = "full_attention"
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    after, before = post_norm(norm, full, mlp), pre_norm(norm, delta, mlp)
    return decoder(c, "olmo_hybrid", [after if kind == "full_attention" else before for kind in kinds], norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = [
        Irregular("layers.*.mixer.pre", "model.layers.*.attention_layer_norm"),
        Irregular("layers.*.mlp.pre", "model.layers.*.feedforward_layer_norm"),
    ]
    for i, layer in enumerate(decoder.layers):
        if isinstance(mixer := layer.branches[0].body, GatedDeltaNet):
            ours, theirs = f"layers.{i}.mixer.body", f"model.layers.{i}.linear_attn"
            convs = tuple(f"{theirs}.{name}_conv1d.weight" for name in "qkv")
            lines += [
                Irregular(ours, theirs),
                Irregular(f"{ours}.norm", f"{theirs}.o_norm"),
                Irregular(f"{ours}.o.weight", f"{theirs}.o_proj.weight"),
                Irregular(f"{ours}.conv", convs, (Join(tuple(axis.size for axis in mixer.channels)),)),
            ]
    return lines


FAMILY = Family(
    model_types=("olmo_hybrid",),
    spec=olmo_hybrid,
    irregular=irregular,
    ignored=frozenset("linear_a_log_max linear_a_log_min linear_dt_init_floor linear_dt_max linear_dt_min".split()),
)
