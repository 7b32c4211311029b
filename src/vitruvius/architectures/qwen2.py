"""Qwen 2 and 2.5 with their text models for vision (Qwen2.5-VL), and Qwen1.5's and Qwen2's mixtures: Llama's layer with
biases on queries, keys and values; in a mixture a shared expert with a gate of its own.

Yang et al. 2024, arXiv 2407.10671, section 2.2; arXiv 2412.15115 (Qwen2.5); transformers, models/qwen2, qwen2_moe. In
mixtures the windowed layers are every second one before `max_window_layers`, elsewhere those from it on.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Irregular, MoE, RMSNorm
from .shared import attention, decoder, head_dim, pre_norm, qwen_moe, rope, sparse_steps, topk_router, window, windowed


def qwen2(c: Config) -> Decoder:
    dim, norm, count = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps")), c.depth("num_hidden_layers")
    mixture, positions = c.raw("model_type") == "qwen2_moe", rope(c, dim)
    first = c.count("max_window_layers") if c.flag("use_sliding_window") else count
    bias = c.flag("qkv_bias") if mixture else True
    windows = windowed(c, [i % 2 == 0 and i < first if mixture else i >= first for i in range(count)])
    mixers = [attention(c, dim, mask=window(c, sliding), positions=positions, bias=bias) for sliding in windows]
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    mlps: list[GatedMLP | MoE] = [dense] * count
    if mixture:
        moe = qwen_moe(c, topk_router(c))
        mlps = [moe if sparse else dense for sparse in sparse_steps(c, count)]
    return decoder(c, "qwen2", [pre_norm(norm, mixers[i], mlps[i]) for i in range(count)], norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    shared = "model.layers.*.mlp.shared_expert"
    return [
        Irregular("layers.*.mlp.body.shared", shared),
        Irregular("layers.*.mlp.body.shared.gate.weight", f"{shared}_gate.weight"),
    ]


FAMILY = Family(
    model_types=("qwen2", "qwen2_moe", "qwen2_vl_text", "qwen2_5_vl_text"),
    spec=qwen2,
    irregular=irregular,
    ignored=frozenset(("max_window_layers",)),
)
