"""Mistral 7B and Mistral Small 3.1: Llama's layer without biases, and one window for all layers or none.

Jiang et al. 2023, arXiv 2310.06825; mistralai/mistral-inference.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, RMSNorm
from .shared import attention, decoder, head_dim, pre_norm, rope, window


def mistral(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    mixer = attention(c, dim, mask=window(c), positions=rope(c, dim))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    return decoder(c, "mistral", [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(model_types=("mistral",), spec=mistral)
