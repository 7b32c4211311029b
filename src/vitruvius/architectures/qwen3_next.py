"""Qwen3-Next: three layers of Gated DeltaNet to one of gated attention, hundreds of small experts, one shared and
gated.

Qwen Team 2025, "Qwen3-Next" (blog, model card); Yang et al. 2024, arXiv 2412.06464; Qiu et al. 2025, arXiv 2505.06708.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Attention,
    Causal,
    Config,
    Decoder,
    Family,
    GatedDeltaNet,
    GatedMLP,
    Irregular,
    OutputGate,
    QKNorm,
    RMSNorm,
    Split,
)
from .shared import (
    attention,
    decoder,
    gated_delta_net,
    head_dim,
    layer_types,
    periodic,
    pre_norm,
    qwen_moe,
    rope,
    sparse_steps,
    topk_router,
)


def qwen3_next(c: Config) -> Decoder:
    dim, bias, count = head_dim(c), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    gate, per_head = OutputGate(bias=bias), QKNorm(norm=norm)
    full = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, norm=per_head, gate=gate)
    delta, moe = gated_delta_net(c), qwen_moe(c, topk_router(c))
    pattern = periodic(count, c.size("full_attention_interval"), "linear_attention")
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    mixers = [full if kind == "full_attention" else delta for kind in kinds]
    sparse = sparse_steps(c, count)
    layers = [pre_norm(norm, mixers[i], moe if sparse[i] else dense) for i in range(count)]
    mtp = [MTP(layer=pre_norm(norm, full, moe), norm=norm)] * c.count("num_nextn_predict_layers")
    return decoder(c, "qwen3_next", layers, norm, mtp=mtp)


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates are stored side by side for each head, the delta net's projections for each key head."""
    lines = [
        Irregular("mtp.*.layer", "mtp.layers.*"),
        Irregular("mtp.*.embedding_norm", "mtp.pre_fc_norm_embedding"),
        Irregular("mtp.*.hidden_norm", "mtp.pre_fc_norm_hidden"),
        Irregular("mtp.*.join.weight", "mtp.fc.weight"),
        Irregular("mtp.*.final_norm", "mtp.norm"),
    ]
    for ours, theirs in (("layers.*", "model.layers.*"), ("mtp.*.layer", "mtp.layers.*")):
        shared, named = f"{ours}.mlp.body.shared", f"{theirs}.mlp.shared_expert"
        lines += [Irregular(shared, named), Irregular(f"{shared}.gate.weight", f"{named}_gate.weight")]

    def fused(body: str, parts: str, theirs: str, groups: int, kind: str = "weight") -> None:
        names = tuple(f"{body}.{part}.{kind}" for part in parts.split())
        lines.append(Irregular(names, f"{theirs}.{kind}", (Split(groups=groups),)))

    places = [(f"layers.{i}", f"model.layers.{i}", layer) for i, layer in enumerate(decoder.layers)]
    places += [(f"mtp.{k}.layer", f"mtp.layers.{k}", module.layer) for k, module in enumerate(decoder.mtp)]
    for ours, theirs, layer in places:
        body, mixer = f"{ours}.mixer.body", layer.branches[0].body
        if isinstance(mixer, Attention):
            for kind in ("weight", "bias"):
                fused(body, "q gate", f"{theirs}.self_attn.q_proj", mixer.heads, kind)
        elif isinstance(mixer, GatedDeltaNet):
            lines.append(Irregular(body, f"{theirs}.linear_attn"))
            fused(body, "q k v gate", f"{theirs}.linear_attn.in_proj_qkvz", mixer.k_heads)
            fused(body, "beta decay", f"{theirs}.linear_attn.in_proj_ba", mixer.k_heads)
    return lines


FAMILY = Family(model_types=("qwen3_next",), spec=qwen3_next, irregular=irregular, unused=("mtp.*",))
