"""Mixtral: Mistral's attention with eight experts in every layer, two for each token, weighed by a renormalised
softmax.

Jiang et al. 2024, arXiv 2401.04088.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Irregular, MoE, RMSNorm, Router
from .shared import attention, decoder, head_dim, numbered, pre_norm, rope, window


def mixtral(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    mixer = attention(c, dim, mask=window(c), positions=rope(c, dim))
    moe = MoE(
        router=Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0),
        expert=GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act")),
    )
    return decoder(c, "mixtral", [pre_norm(norm, mixer, moe)] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.block_sparse_moe"
    return [Irregular(ours, theirs), *numbered(f"{ours}.experts", f"{theirs}.experts.{{}}")]


FAMILY = Family(model_types=("mixtral",), spec=mixtral, irregular=irregular)
