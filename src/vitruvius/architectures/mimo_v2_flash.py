"""MiMo-V2-Flash: windowed layers with sinks and twice the key and value heads of the full ones, values narrower than
keys and scaled, partial RoPE.

Xiaomi 2026, arXiv 2601.02780; XiaomiMiMo/MiMo-V2-Flash. Released files say the pattern and the windowed layers' sizes
in keys of their own (swa_…, hybrid_layer_pattern, moe_layer_freq); transformers says them as layer_types.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Attention,
    Causal,
    Config,
    Decoder,
    Family,
    GatedMLP,
    Irregular,
    KeyValue,
    Layer,
    MoE,
    RMSNorm,
    Softmax,
    Window,
)
from .shared import decoder, mtp_names, noaux_tc_router, pre_norm, rope


def mimo_v2_flash(c: Config) -> Decoder:
    count, ahead = c.depth("num_hidden_layers"), c.count("num_nextn_predict_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps" if "rms_norm_eps" in c else "layernorm_epsilon"))
    # the layers that predict ahead are windowed and dense
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
    local, everywhere = rope(c, dim, "sliding_attention", theta="swa_rope_theta"), rope(c, dim, "full_attention")

    def layer(i: int) -> Layer:
        mixer = Attention(
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
            positions=everywhere if full[i] else local,
            softmax=Softmax(scale=dim**-0.5, sinks=not full[i]),
        )
        return pre_norm(norm, mixer, dense if dense_layers[i] else moe)

    layers = [layer(i) for i in range(count + ahead)]
    mtp = [MTP(layer=layer, norm=norm) for layer in layers[count:]]
    return decoder(c, "mimo_v2_flash", layers[:count], norm, mtp=mtp)


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
        Irregular(f"{ours}.layer.mlp.pre", f"{theirs}.pre_mlp_layernorm"),
        *mtp_names(ours, theirs, "final_layernorm"),
    ]


FAMILY = Family(
    model_types=("mimo_v2_flash",),
    spec=mimo_v2_flash,
    irregular=irregular,
    ignored=frozenset(("attention_chunk_size", "sliding_window")),
    unused=("model.mtp.*",),
)
