"""Kimi Linear: three layers of Kimi Delta Attention to one of latent attention without positions, and DeepSeek V3's
experts.

Kimi Team 2025, arXiv 2510.26692; moonshotai/Kimi-Linear-48B-A3B-Instruct, modeling_kimi.py.
"""

from __future__ import annotations

from ..spec import (
    Branch,
    Causal,
    Config,
    Convolution,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    GatedNorm,
    Head,
    Irregular,
    Join,
    KimiDelta,
    LatentAttention,
    Layer,
    LowRank,
    MoE,
    Reshape,
    RMSNorm,
    Softmax,
    layer_types,
    noaux_tc_router,
)


def kimi_linear(c: Config) -> Decoder:
    eps, act, count = c.number("rms_norm_eps"), c.activation("hidden_act"), c.depth("num_hidden_layers")
    norm, inner = RMSNorm(eps=eps), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, shared_key = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    attention = LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=shared_key,  # a key that all heads share, as where RoPE turns it
        v_dim=c.size("v_head_dim"),
        q=None if c.raw("q_lora_rank") is None else LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=Causal(),
        positions=None,
        softmax=Softmax(scale=(nope + shared_key) ** -0.5),
        bias=c.flag("attention_bias"),
    )
    hub = None if c.raw("linear_attn_config") is None else c.section("linear_attn_config")
    dim = hub.size("head_dim") if hub else c.size("linear_head_dim")
    heads = hub.size("num_heads") if hub else c.size("linear_num_heads")
    kernel = hub.size("short_conv_kernel_size") if hub else c.size("linear_conv_kernel_dim")
    conv, gated = Convolution(kernel=kernel, act=act), GatedNorm(eps=eps, act="sigmoid")
    delta = KimiDelta(heads=heads, head_dim=dim, gate_rank=dim, conv=conv, norm=gated)
    moe_dim, shared = c.size("moe_intermediate_size"), c.count("num_shared_experts")
    moe = MoE(
        router=noaux_tc_router(c),
        expert=GatedMLP(dim=moe_dim, act=act),
        shared=GatedMLP(dim=moe_dim * shared, act=act) if shared else None,
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    for key, value in (("mla_use_nope", True), ("moe_router_activation_func", "sigmoid"), ("moe_layer_freq", 1)):
        c.expect(key, None, value)
    first_dense = ["dense" if i < c.count("first_k_dense_replace") else "sparse" for i in range(count)]
    sparse = layer_types(c, count, first_dense, ("dense", "sparse"), "mlp_layer_types")
    kinds = layer_types(c, count, listed(hub, count), ("linear_attention", "full_attention"))

    def layer(i: int) -> Layer:
        mixer, mlp = attention if kinds[i] == "full_attention" else delta, moe if sparse[i] == "sparse" else dense
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="kimi_linear",
        family="kimi_linear",
        width=c.size("hidden_size"),
        context=c.size("model_max_length", "max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def listed(hub: Config | None, count: int) -> list[str]:
    """Which layers are which, where there is no `layer_types`: the hub's file lists them, counted from 1."""
    if hub is None:
        return ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in range(count)]
    full, linear = hub.items("full_attn_layers"), hub.items("kda_layers")
    if len(full) + len(linear) != count or not all(i in full or i in linear for i in range(1, count + 1)):
        raise ValueError(f"linear_attn_config must list each of the layers 1 to {count} once")
    return ["full_attention" if i in full else "linear_attention" for i in range(1, count + 1)]


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = []
    for name, number in (("gate", 1), ("up", 3), ("down", 2)):
        theirs = f"model.layers.*.block_sparse_moe.experts.{{}}.w{number}.weight"
        lines.append(Irregular(f"layers.*.mlp.body.experts.{name}.weight", theirs))
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
