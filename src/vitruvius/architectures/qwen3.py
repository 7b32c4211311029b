"""Qwen3, dense and mixture of experts, with the text models of Qwen3-VL: Llama's layer with a norm on every query and
key head, and no biases.

Yang et al. 2025, arXiv 2505.09388, section 2. transformers windows all layers of the mixture where it windows any.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Irregular, MoE, QKNorm, RMSNorm
from .shared import (
    attention,
    decoder,
    head_dim,
    pre_norm,
    rope,
    sparse_steps,
    stacked_experts,
    topk_router,
    window,
    windowed,
)

VISION_MOE = "qwen3_vl_moe_text"


def qwen3(c: Config) -> Decoder:
    c.expect("use_qk_norm", None, True)
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    count, per_head, positions = c.depth("num_hidden_layers"), QKNorm(norm=norm), rope(c, dim)
    mixers = [
        attention(c, dim, mask=window(c, sliding), positions=positions, bias=bias, o_bias=bias, norm=per_head)
        for sliding in windows(c, count)
    ]
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    mlps: list[GatedMLP | MoE] = [dense] * count
    if is_mixture(c):
        expert = GatedMLP(dim=c.size("moe_intermediate_size"), act=c.activation("hidden_act"))
        moe = MoE(router=topk_router(c), expert=expert)
        mlps = [moe if sparse else dense for sparse in sparse_steps(c, count)]
    family = VISION_MOE if c.raw("model_type") == VISION_MOE else "qwen3"
    return decoder(c, family, [pre_norm(norm, mixers[i], mlps[i]) for i in range(count)], norm)


def windows(c: Config, count: int) -> list[bool]:
    """Which layers are windowed: in the mixture all or none, in dense models those from `max_window_layers` on."""
    on = c.flag("use_sliding_window")
    if is_mixture(c):
        c.ignore("max_window_layers")
        return [on] * count
    first = c.count("max_window_layers") if on else count
    return windowed(c, [i >= first for i in range(count)])


def is_mixture(c: Config) -> bool:
    return c.raw("model_type") in ("qwen3_moe", VISION_MOE)


def irregular(decoder: Decoder) -> list[Irregular]:
    """Qwen3-VL has the experts of a layer in one tensor, gate columns before up columns."""
    experts = stacked_experts("layers.*.mlp.body.experts", "model.layers.*.mlp.experts", transposed=True)
    return experts if decoder.family == VISION_MOE else []


FAMILY = Family(
    model_types=("qwen3", "qwen3_moe", "qwen3_vl_text", VISION_MOE),
    spec=qwen3,
    irregular=irregular,
    ignored=frozenset(("max_window_layers",)),
)
