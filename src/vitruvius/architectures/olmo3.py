"""Olmo 3: OLMo 2's layer with a window in three layers of four; RoPE is stretched only where attention is full.

Olmo Team 2025, "Olmo 3"; allenai/OLMo-core.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Layer, QKNorm, RMSNorm
from .shared import attention, decoder, head_dim, layer_types, periodic, post_norm, rope, window


def olmo3(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    over, count = QKNorm(norm=norm, over="projection"), c.depth("num_hidden_layers")
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))

    def layer(kind: str) -> Layer:
        mask = window(c, kind == "sliding_attention")
        mixer = attention(c, dim, mask=mask, positions=rope(c, dim, kind), bias=bias, o_bias=bias, norm=over)
        return post_norm(norm, mixer, mlp)

    return decoder(c, "olmo3", map(layer, layer_types(c, count, periodic(count, 4))), norm)


FAMILY = Family(model_types=("olmo3",), spec=olmo3)
