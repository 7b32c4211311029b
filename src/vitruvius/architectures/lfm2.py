"""LFM2, dense and mixture of experts: short gated convolutions, and attention with normed heads in some layers.

Liquid AI 2025, arXiv 2511.23404; LiquidAI/LFM2-1.2B, LiquidAI/LFM2-8B-A1B.
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Config,
    Convolution,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Irregular,
    MoE,
    QKNorm,
    RMSNorm,
    Router,
    ShortConv,
)
from .shared import attention, decoder, head_dim, layer_types, numbered, pre_norm, rope


def lfm2(c: Config) -> Decoder:
    dim, heads, width = head_dim(c), c.size("num_attention_heads"), c.size("hidden_size")
    count, norm, bias = c.depth("num_hidden_layers"), RMSNorm(eps=c.number("norm_eps")), c.flag("conv_bias")
    full = attention(c, dim, mask=Causal(), positions=rope(c, dim), norm=QKNorm(norm=norm))
    conv = ShortConv(dim=width, conv=Convolution(kernel=c.size("conv_L_cache"), bias=bias), bias=bias)
    listed = range(count) if c.raw("full_attn_idxs") is None else c.items("full_attn_idxs")
    pattern = ["full_attention" if i in listed else "conv" for i in range(count)]
    kinds = layer_types(c, count, pattern, ("conv", "full_attention"))
    repeated = {"block_dim": width, "conv_dim": width, "conv_dim_out": width, "num_heads": heads}
    for key, value in (repeated | {"block_use_swiglu": True, "use_pos_enc": True}).items():
        c.expect(key, None, value)
    mixers, mlps = [full if kind == "full_attention" else conv for kind in kinds], feedforward(c, count)
    layers = [pre_norm(norm, mixers[i], mlps[i]) for i in range(count)]
    tied = c.flag("tie_embedding" if "tie_embedding" in c else "tie_word_embeddings")
    return decoder(c, "lfm2", layers, norm, embedding=Embedding(vocab=c.size("vocab_size"), tied=tied))


def feedforward(c: Config, count: int) -> list[GatedMLP | MoE]:
    size = c.size("block_ff_dim" if "block_ff_dim" in c else "intermediate_size")
    if c.raw("model_type") == "lfm2":
        if c.flag("block_auto_adjust_ff_dim"):
            size = int(2 * size / 3)  # and rounded up to a multiple
            if (factor := c.number_or_none("block_ffn_dim_multiplier")) is not None:
                size = -(-int(factor * size) // c.size("block_multiple_of")) * c.size("block_multiple_of")
        return [GatedMLP(dim=size, act="silu")] * count
    router = Router(
        experts=c.size("num_experts"),
        active=c.size("num_experts_per_tok"),
        score="sigmoid",
        selection_bias=c.flag("use_expert_bias"),
        norm_topk_eps=1e-6 if c.flag("norm_topk_prob") else None,
        scale=c.number("routed_scaling_factor"),
    )
    moe = MoE(router=router, expert=GatedMLP(dim=c.size("moe_intermediate_size"), act="silu"))
    return [GatedMLP(dim=size, act="silu") if i < c.count("num_dense_layers") else moe for i in range(count)]


def irregular(decoder: Decoder) -> list[Irregular]:
    names = {
        "mixer.pre": "operator_norm",
        "mixer.body.q_norm": "self_attn.q_layernorm",
        "mixer.body.kv.k_norm": "self_attn.k_layernorm",
        "mixer.body.o.weight": "self_attn.out_proj.weight",
        "mlp.pre": "ffn_norm",
        "mlp.body": "feed_forward",
        "mlp.body.router.selection_bias": "feed_forward.expert_bias",
    }
    lines = [Irregular(f"layers.*.{ours}", f"model.layers.*.{theirs}") for ours, theirs in names.items()]
    lines += numbered("layers.*.mlp.body", "model.layers.*.feed_forward")
    lines += numbered("layers.*.mlp.body.experts", "model.layers.*.feed_forward.experts.{}")
    convs = [i for i, layer in enumerate(decoder.layers) if isinstance(layer.branches[0].body, ShortConv)]
    lines += [Irregular(f"layers.{i}.mixer.body", f"model.layers.{i}.conv") for i in convs]
    return [*lines, Irregular("final_norm", "model.embedding_norm")]


FAMILY = Family(
    model_types=("lfm2", "lfm2_moe"),
    spec=lfm2,
    irregular=irregular,
    ignored=frozenset(  # the last five say how to begin training, and repeat norm_eps
        """block_ffn_dim_multiplier block_multiple_of full_attn_idxs intermediate_size tie_word_embeddings
        block_mlp_init_scale block_norm_eps block_out_init_scale block_use_xavier_init conv_use_xavier_init""".split()
    ),
)
