"""MiMo-V2-Flash: windowed layers with sinks and twice the key and value heads of the full ones, values narrower than
keys and scaled, partial RoPE.

Xiaomi 2026, arXiv 2601.02780; XiaomiMiMo/MiMo-V2-Flash. Released files say the pattern and the windowed layers' sizes
in keys of their own (swa_…, hybrid_layer_pattern, moe_layer_freq); transformers says them as layer_types.
"""

from __future__ import annotations

from ..spec import (
    MTP,
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
    RMSNorm,
    Softmax,
    Window,
    noaux_tc_router,
    rope,
)


def mimo_v2_flash(c: Config) -> Decoder:
    count = c.depth("num_hidden_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps" if "rms_norm_eps" in c else "layernorm_epsilon"))
    ahead = c.count("num_nextn_predict_layers")  # these layers are windowed and dense
    full = pattern(c, count, "hybrid_layer_pattern", "layer_types", "full_attention") + [False] * ahead
    dense_layers = pattern(c, count, "moe_layer_freq", "mlp_layer_types", "dense") + [True] * ahead
    heads, bias, dim = c.size("num_attention_heads"), c.flag("attention_bias"), c.size("head_dim")
    for key in ("num_attention_heads", "head_dim", "v_head_dim"):
        c.expect(f"swa_{key}", None, c.raw(key))
    for key, value in (("add_swa_attention_sink_bias", True), ("add_full_attention_sink_bias", False)):
        c.expect(key, None, value)
    c.expect("n_shared_experts", None)
    act = c.activation("hidden_act")
    moe = MoE(router=noaux_tc_router(c), expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    kv_heads, v_scale = c.size("num_key_value_heads"), c.number_or_none("attention_value_scale")

    def layer(i: int) -> Layer:
        attention = Attention(
            heads=heads,
            head_dim=dim,
            q_bias=bias,
            kv=KeyValue(
                heads=kv_heads if full[i] else c.size_or("swa_num_key_value_heads", 2 * kv_heads),
                head_dim=dim,
                v_dim=c.size("v_head_dim"),
                bias=bias,
                v_scale=1.0 if v_scale is None else v_scale,
            ),
            mask=Causal() if full[i] else Window(size=window_size(c)),
            positions=rope(c, dim, "full_attention")
            if full[i]
            else rope(c, dim, "sliding_attention", theta="swa_rope_theta"),
            softmax=Softmax(scale=dim**-0.5, sinks=not full[i]),
        )
        mlp = dense if dense_layers[i] else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="mimo_v2_flash",
        family="mimo_v2_flash",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=tuple(MTP(layer=layer(count + k), norm=norm) for k in range(ahead)),
    )


def pattern(c: Config, count: int, theirs: str, ours: str, kind: str) -> list[bool]:
    """Which layers are of a kind: in released files those with a 0 in `theirs`, otherwise those named so in `ours`."""
    if c.raw(theirs) is not None:
        return [not item for item in c.items(theirs, count)]
    if c.raw(ours) is not None:
        return [item == kind for item in c.items(ours, count)]
    return [i == 0 or (kind == "full_attention" and (i + 1) % 6 == 0) for i in range(count)]


def window_size(c: Config) -> int:
    """The window; the older `sliding_window_size` does not count the query itself."""
    return c.size("sliding_window") if c.raw("sliding_window_size") is None else c.size("sliding_window_size") + 1


def irregular(decoder: Decoder) -> list[Irregular]:
    """The layers for multi-token prediction are named as sglang reads them (models/mimo_v2_flash_nextn.py)."""
    ours, theirs, sinks = "mtp.*", "model.mtp.layers.*", "mixer.body.softmax.sinks"
    return [
        Irregular(f"layers.*.{sinks}", "model.layers.*.self_attn.attention_sink_bias"),
        Irregular(f"{ours}.layer.{sinks}", f"{theirs}.self_attn.attention_sink_bias"),
        Irregular(f"{ours}.layer", theirs),
        Irregular(f"{ours}.layer.mlp.pre", f"{theirs}.pre_mlp_layernorm"),
        Irregular(f"{ours}.embedding_norm", f"{theirs}.enorm"),
        Irregular(f"{ours}.hidden_norm", f"{theirs}.hnorm"),
        Irregular(f"{ours}.join.weight", f"{theirs}.eh_proj.weight"),
        Irregular(f"{ours}.final_norm", f"{theirs}.final_layernorm"),
    ]


FAMILY = Family(
    model_types=("mimo_v2_flash",),
    spec=mimo_v2_flash,
    irregular=irregular,
    ignored=frozenset(("attention_chunk_size", "sliding_window")),
    unused=("model.mtp.*",),
)
