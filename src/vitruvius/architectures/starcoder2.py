"""StarCoder 2: a plain feed-forward layer, LayerNorm and biases as in GPT-2, RoPE and grouped queries as in Llama, and
one window for all layers or none.

Lozhkov et al. 2024, arXiv 2402.19173, section 5; transformers, models/starcoder2.
"""

from __future__ import annotations

from ..spec import MLP, Config, Decoder, Family, Irregular, LayerNorm
from .shared import attention, decoder, head_dim, pre_norm, rope, window


def starcoder2(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("use_bias"), LayerNorm(eps=c.number("norm_epsilon"))
    kv_heads = c.size("num_key_value_heads")
    mixer = attention(c, dim, mask=window(c), positions=rope(c, dim), kv_heads=kv_heads, bias=bias, o_bias=bias)
    mlp = MLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=bias)
    for key, value in (("mlp_type", "default"), ("norm_type", "layer_norm"), ("scale_attn_weights", True)):
        c.expect(key, None, value)
    return decoder(c, "starcoder2", [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = []
    for kind in ("weight", "bias"):
        lines.append(Irregular(f"layers.*.mlp.body.up.{kind}", f"model.layers.*.mlp.c_fc.{kind}"))
        lines.append(Irregular(f"layers.*.mlp.body.down.{kind}", f"model.layers.*.mlp.c_proj.{kind}"))
    return lines


FAMILY = Family(
    model_types=("starcoder2",),
    spec=starcoder2,
    irregular=irregular,
    ignored=frozenset(  # dropout, and what older files repeat or say of precision
        """activation_function attention_softmax_in_fp32 embedding_dropout layer_norm_epsilon residual_dropout
        scale_attention_softmax_in_fp32""".split()
    ),
)
