"""OLMo 2: the norm comes after each branch and inside the residual, x + norm(f(x)); queries and keys are normed over
the whole projection, before the heads are split.

OLMo Team 2025, arXiv 2501.00656, section 3; allenai/OLMo-core.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, GatedMLP, QKNorm, RMSNorm
from .shared import attention, decoder, head_dim, post_norm, rope


def olmo2(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    over = QKNorm(norm=norm, over="projection")
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, norm=over)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    return decoder(c, "olmo2", [post_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(model_types=("olmo2",), spec=olmo2)
