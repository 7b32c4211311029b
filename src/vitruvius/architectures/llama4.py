"""Llama 4 Scout and Maverick: three layers of four see only their chunk, with RoPE and weightless norms after it; the
fourth sees everything, without positions, at a temperature that grows with the position. One expert of many, whose
input the router scales, beside a shared one.

Meta 2025, meta-llama/llama-models, models/llama4 (model.py, moe.py). Experts of a layer are one tensor, gate columns
before up columns.
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Chunk,
    Config,
    Decoder,
    Family,
    GatedMLP,
    Irregular,
    Layer,
    LogTemperature,
    MoE,
    QKNorm,
    RMSNorm,
    Router,
    Softmax,
    WeightlessNorm,
)
from .shared import attention, decoder, head_dim, no_rope_layers, pre_norm, rope, stacked_experts


def llama4(c: Config) -> Decoder:
    dim, bias, count = head_dim(c), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    weightless = QKNorm(norm=WeightlessNorm(eps=norm.eps), when="after_rope") if c.flag("use_qk_norm") else None
    temperature = None
    if c.raw("attn_temperature_tuning"):  # whatever Python takes for true: fine-tunes say 4
        temperature = LogTemperature(scale=c.number("attn_scale"), floor=c.size("floor_scale"), shift=1)
    rotates = no_rope_layers(c, count)
    chunked = list(rotates)
    if c.raw("layer_types") is not None:
        chunked = [kind == "chunked_attention" for kind in c.items("layer_types", count)]
    step = c.size("interleave_moe_layer_step")
    sparse = [(i + 1) % step == 0 for i in range(count)]
    if c.raw("moe_layers") is not None:
        sparse = [i in c.items("moe_layers") for i in range(count)]
    act = c.activation("hidden_act")
    expert = GatedMLP(dim=c.size("intermediate_size"), act=act)
    dense = GatedMLP(dim=c.size("intermediate_size_mlp"), act=act)
    router = Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), score="sigmoid")
    moe = MoE(router=router, expert=expert, shared=expert, weigh="input")

    def layer(i: int) -> Layer:
        mixer = attention(
            c,
            dim,
            mask=Chunk(size=c.size("attention_chunk_size")) if chunked[i] else Causal(),
            positions=rope(c, dim, interleaved=True) if rotates[i] else None,
            bias=bias,
            o_bias=bias,
            norm=weightless if rotates[i] else None,
            softmax=Softmax(scale=dim**-0.5, temperature=None if rotates[i] else temperature),
        )
        return pre_norm(norm, mixer, moe if sparse[i] else dense)

    return decoder(c, "llama4_text", map(layer, range(count)), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.feed_forward"
    return [
        Irregular(ours, theirs),
        Irregular(f"{ours}.router", f"{theirs}.router"),
        Irregular(f"{ours}.shared", f"{theirs}.shared_expert"),
        *stacked_experts(f"{ours}.experts", f"{theirs}.experts", transposed=True),
    ]


FAMILY = Family(
    model_types=("llama4_text",),
    spec=llama4,
    irregular=irregular,
    ignored=frozenset(("for_llm_compressor", "attn_scale", "floor_scale")),
)
