"""Qwen3.5, dense and mixture of experts, the text model: Qwen3-Next's layers; the delta net's projections are stored
apart, and every layer of the mixture is sparse.

Qwen Team 2026, "Qwen3.5" (model cards); Yang et al. 2024, arXiv 2412.06464. Rotary positions in sections (of time,
height and width) are those of ordinary RoPE where there is text only.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Causal,
    Config,
    Decoder,
    Family,
    GatedDeltaNet,
    GatedMLP,
    Irregular,
    MoE,
    OutputGate,
    QKNorm,
    RMSNorm,
    Router,
    Split,
)
from .shared import attention, decoder, gated_delta_net, head_dim, layer_types, periodic, pre_norm, qwen_moe, rope


def qwen3_5(c: Config) -> Decoder:
    dim, bias, count = head_dim(c), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    gate, per_head = OutputGate(bias=bias), QKNorm(norm=norm)
    full = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, norm=per_head, gate=gate)
    delta = gated_delta_net(c)
    pattern = periodic(count, c.size("full_attention_interval"), "linear_attention")
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    mlp: GatedMLP | MoE
    if c.raw("model_type") == "qwen3_5_text":
        mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    else:
        experts, active = c.size("num_experts"), c.size("num_experts_per_tok")
        mlp = qwen_moe(c, Router(experts=experts, active=active, norm_topk_eps=0.0))
    c.expect("attn_output_gate", None, True)
    c.expect(
        "output_gate_type", None, "swish"
    )  # the delta rule's, which is its only one; transformers reads no such key
    layers = [pre_norm(norm, full if kind == "full_attention" else delta, mlp) for kind in kinds]
    return decoder(c, "qwen3_5_text", layers, norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates of attention are stored side by side for each head."""
    shared = "model.layers.*.mlp.shared_expert"
    lines = [
        Irregular("layers.*.mlp.body.shared", shared),
        Irregular("layers.*.mlp.body.shared.gate.weight", f"{shared}_gate.weight"),
    ]
    for i, layer in enumerate(decoder.layers):
        body, theirs, mixer = f"layers.{i}.mixer.body", f"model.layers.{i}", layer.branches[0].body
        if isinstance(mixer, Attention):
            for kind in ("weight", "bias"):
                pair = (f"{body}.q.{kind}", f"{body}.gate.{kind}")
                lines.append(Irregular(pair, f"{theirs}.self_attn.q_proj.{kind}", (Split(groups=mixer.heads),)))
        elif isinstance(mixer, GatedDeltaNet):
            theirs = f"{theirs}.linear_attn"
            together = tuple(f"{body}.{part}.weight" for part in "qkv")
            lines += [Irregular(body, theirs), Irregular(together, f"{theirs}.in_proj_qkv.weight", (Split(),))]
            for part, name in (("gate", "z"), ("beta", "b"), ("decay", "a")):
                lines.append(Irregular(f"{body}.{part}.weight", f"{theirs}.in_proj_{name}.weight"))
    return lines


FAMILY = Family(
    model_types=("qwen3_5_text", "qwen3_5_moe_text"),
    spec=qwen3_5,
    irregular=irregular,
    ignored=frozenset(
        ("intermediate_size", "mlp_only_layers", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    ),
    unused=("mtp.*",),
)
