"""Ministral 3: Mistral's layer with YaRN, and queries that sharpen as the position passes the original context.

Mistral AI 2025, "Mistral 3"; the temperature is Llama 4's, with the settings in RoPE's.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, RMSNorm, Softmax
from .shared import attention, decoder, head_dim, pre_norm, query_temperature, rope, window


def ministral3(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    softmax = Softmax(scale=dim**-0.5, temperature=query_temperature(c))
    mixer = attention(c, dim, mask=window(c), positions=rope(c, dim), softmax=softmax)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    return decoder(c, "ministral3", [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(model_types=("ministral3",), spec=ministral3)
