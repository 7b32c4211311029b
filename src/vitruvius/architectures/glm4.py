"""GLM-4 9B and GLM-4-0414: half of each head rotates in neighbouring pairs, biases on queries, keys and values only;
from 0414 on a norm before and after every branch.

GLM Team 2024, arXiv 2406.12793, section 2; transformers, models/glm, glm4. Gate and up rows are stored together.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, GatedMLP, Irregular, RMSNorm
from .shared import attention, decoder, gate_up, pre_norm, rope, sandwich


def glm4(c: Config) -> Decoder:
    dim, kv_heads, norm = c.size("head_dim"), c.size("num_key_value_heads"), RMSNorm(eps=c.number("rms_norm_eps"))
    positions = rope(c, dim, interleaved=True)
    mixer = attention(c, dim, mask=Causal(), positions=positions, kv_heads=kv_heads, bias=c.flag("attention_bias"))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    layer = pre_norm(norm, mixer, mlp) if c.raw("model_type") == "glm" else sandwich(norm, mixer, mlp)
    return decoder(c, "glm4", [layer] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.post", "model.layers.*.post_self_attn_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_mlp_layernorm"),
        gate_up(),
    ]


FAMILY = Family(model_types=("glm4", "glm"), spec=glm4, irregular=irregular)
