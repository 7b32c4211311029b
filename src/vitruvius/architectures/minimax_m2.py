"""MiniMax-M2: queries and keys normed over the whole projection, partial RoPE, and a mixture in every layer without a
shared expert.

MiniMax 2025, MiniMax-AI/MiniMax-M2.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Causal, Config, Decoder, Family, GatedMLP, Irregular, MoE, QKNorm, RMSNorm, Router
from .shared import attention, decoder, head_dim, numbered, pre_norm, rope


def minimax_m2(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, dim)
    if c.raw("rotary_dim") is not None and "rope_parameters" not in c:  # released files say it so
        positions = replace(positions, dim=c.size("rotary_dim"))
    mixer = attention(c, dim, mask=Causal(), positions=positions, norm=QKNorm(norm=norm, over="projection"))
    moe = MoE(
        router=Router(
            experts=c.size("num_local_experts"),
            active=c.size("num_experts_per_tok"),
            score="sigmoid",
            selection_bias=True,
            norm_topk_eps=0.0,
        ),
        expert=GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act")),
    )
    c.expect("use_qk_norm", None, True)
    c.expect("qk_norm_type", None, "per_layer")
    c.expect("use_routing_bias", None, True)
    c.expect("scoring_func", None, "sigmoid")
    c.expect("shared_intermediate_size", None, 0)
    count = c.depth("num_hidden_layers")
    c.expect("attn_type_list", None, [1] * count)  # MiniMax-Text-01's lightning attention would be 0
    return decoder(c, "minimax_m2", [pre_norm(norm, mixer, moe)] * count, norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.block_sparse_moe"
    lines = [Irregular(ours, theirs), *numbered(f"{ours}.experts", f"{theirs}.experts.{{}}")]
    return [*lines, Irregular(f"{ours}.router.selection_bias", f"{theirs}.e_score_correction_bias")]


FAMILY = Family(
    model_types=("minimax_m2",),
    spec=minimax_m2,
    irregular=irregular,
    ignored=frozenset("rotary_dim use_mtp mtp_transformer_layers num_mtp_modules".split()),
)
