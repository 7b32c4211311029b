"""Kimi Linear: three layers of Kimi Delta Attention to one of latent attention without positions, and DeepSeek V3's
experts.

Kimi Team 2025, arXiv 2510.26692; moonshotai/Kimi-Linear-48B-A3B-Instruct, modeling_kimi.py.
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Config,
    Convolution,
    Decoder,
    Family,
    GatedMLP,
    GatedNorm,
    Irregular,
    Join,
    KimiDelta,
    MoE,
    Reshape,
    RMSNorm,
)
from .shared import (
    decoder,
    deepseek_moe,
    latent_attention,
    layer_types,
    noaux_tc_router,
    numbered,
    pre_norm,
    sparse_layers,
)


def kimi_linear(c: Config) -> Decoder:
    eps, count = c.number("rms_norm_eps"), c.depth("num_hidden_layers")
    norm, full = RMSNorm(eps=eps), latent_attention(c, mask=Causal(), positions=None)
    hub = None if c.raw("linear_attn_config") is None else c.section("linear_attn_config")
    dim = hub.size("head_dim") if hub else c.size("linear_head_dim")
    heads = hub.size("num_heads") if hub else c.size("linear_num_heads")
    kernel = hub.size("short_conv_kernel_size") if hub else c.size("linear_conv_kernel_dim")
    conv, gated = Convolution(kernel=kernel, act=c.activation("hidden_act")), GatedNorm(eps=eps, act="sigmoid")
    delta = KimiDelta(heads=heads, head_dim=dim, gate_rank=dim, conv=conv, norm=gated)
    moe = deepseek_moe(c, noaux_tc_router(c), shared=c.count("num_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    for key, value in (("mla_use_nope", True), ("moe_router_activation_func", "sigmoid"), ("moe_layer_freq", 1)):
        c.expect(key, None, value)
    sparse = sparse_layers(c, count, [i >= c.count("first_k_dense_replace") for i in range(count)])
    kinds = layer_types(c, count, listed(hub, count), ("linear_attention", "full_attention"))
    mixers = [full if kind == "full_attention" else delta for kind in kinds]
    layers = [pre_norm(norm, mixers[i], moe if sparse[i] else dense) for i in range(count)]
    context = c.size("model_max_length", "max_position_embeddings")
    return decoder(c, "kimi_linear", layers, norm, context=context)


def listed(hub: Config | None, count: int) -> list[str]:
    """Which layers are which, where there is no `layer_types`: the hub's file lists them, counted from 1."""
    if hub is None:
        return ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in range(count)]
    full, linear = hub.items("full_attn_layers"), hub.items("kda_layers")
    if len(full) + len(linear) != count or not all(i in full or i in linear for i in range(1, count + 1)):
        raise ValueError(f"linear_attn_config must list each of the layers 1 to {count} once")
    return ["full_attention" if i in full else "linear_attention" for i in range(1, count + 1)]


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = numbered("layers.*.mlp.body.experts", "model.layers.*.block_sparse_moe.experts.{}")
    for i, layer in enumerate(decoder.layers):
        ours, theirs, mixer, mlp = f"layers.{i}", f"model.layers.{i}", layer.branches[0].body, layer.branches[1].body
        if isinstance(mlp, MoE):
            lines.append(Irregular(f"{ours}.mlp.body", f"{theirs}.block_sparse_moe"))
        if isinstance(mixer, KimiDelta):
            convs, shape = tuple(f"{theirs}.self_attn.{x}_conv1d.weight" for x in "qkv"), (1, 1, mixer.heads, 1)
            lines.append(Irregular(f"{ours}.mixer.body.A_log", f"{theirs}.self_attn.A_log", (Reshape(shape),)))
            lines.append(Irregular(f"{ours}.mixer.body.conv", convs, (Join((mixer.heads * mixer.head_dim,) * 3),)))
    return lines


FAMILY = Family(
    model_types=("kimi_linear",),
    spec=kimi_linear,
    irregular=irregular,
    ignored=frozenset(
        """head_dim linear_conv_kernel_dim linear_head_dim linear_num_heads n_routed_experts num_key_value_heads
        num_local_experts num_nextn_predict_layers qk_head_dim rope_scaling rope_theta use_grouped_topk""".split()
    ),
)
