"""gpt-oss 20b and 120b: a learned sink for every head, a window of 128 in every other layer, biases everywhere, and
experts with a clamped SwiGLU.

OpenAI 2025, arXiv 2508.10925, section 2; openai/gpt-oss, gpt_oss/torch/model.py. Files hold the experts of a layer in
one tensor, with gate and up columns in turn.
"""

from __future__ import annotations

from ..spec import (
    ClampedSwiGLU,
    Config,
    Decoder,
    Family,
    GatedMLP,
    Irregular,
    Layer,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    Split,
    Transpose,
)
from .shared import attention, decoder, head_dim, layer_types, periodic, pre_norm, rope, window


def gpt_oss(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    kv_heads, count = c.size("num_key_value_heads"), c.depth("num_hidden_layers")
    act = ClampedSwiGLU(limit=c.number("swiglu_limit"), alpha=c.number("swiglu_alpha"))
    experts, active = c.size("num_local_experts"), c.size("num_experts_per_tok")
    moe = MoE(
        # a softmax over all, divided by the sum of the chosen, is the softmax of the chosen logits
        router=Router(experts=experts, active=active, norm_topk_eps=0.0, bias=True),
        expert=GatedMLP(dim=c.size("intermediate_size"), act=act, bias=True),
    )

    def layer(kind: str) -> Layer:
        mixer = attention(
            c,
            dim,
            mask=window(c, kind == "sliding_attention"),
            positions=rope(c, dim),
            kv_heads=kv_heads,
            bias=bias,
            o_bias=bias,
            softmax=Softmax(scale=dim**-0.5, sinks=True),
        )
        return pre_norm(norm, mixer, moe)

    return decoder(c, "gpt_oss", map(layer, layer_types(c, count, periodic(count, 2))), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.mlp"
    moe = decoder.layers[0].branches[1].body
    assert isinstance(moe, MoE)
    gate_up, down, turns = f"{theirs}.experts.gate_up_proj", f"{theirs}.experts.down_proj", moe.expert.dim

    def both(kind: str) -> tuple[str, str]:
        return f"{ours}.experts.gate.{kind}", f"{ours}.experts.up.{kind}"

    return [
        Irregular(f"{ours}.router", f"{theirs}.router"),
        Irregular(both("weight"), gate_up, (Transpose(), Split(axis=1, groups=turns))),
        Irregular(both("bias"), f"{gate_up}_bias", (Split(axis=1, groups=turns),)),
        Irregular(f"{ours}.experts.down.weight", down, (Transpose(),)),
        Irregular(f"{ours}.experts.down.bias", f"{down}_bias"),
    ]


FAMILY = Family(
    model_types=("gpt_oss",),
    spec=gpt_oss,
    irregular=irregular,
    ignored=frozenset("experts_per_token hidden_act initial_context_length".split()),
)
