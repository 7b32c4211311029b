"""Llama 2, 3, 3.1, 3.2 and what follows their shape (SmolLM2): pre-norm, RoPE, SwiGLU, grouped queries.

Touvron et al. 2023, arXiv 2307.09288; Grattafiori et al. 2024, arXiv 2407.21783; meta-llama/llama-models,
models/llama3.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, GatedMLP, RMSNorm
from .shared import attention, decoder, head_dim, pre_norm, rope


def llama(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=c.flag("mlp_bias"))
    return decoder(c, "llama", [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(
    model_types=("llama",),
    spec=llama,
    ignored=frozenset(("rope_interleaved", "is_llama_config")),
    unused=("model.layers.*.self_attn.rotary_emb.inv_freq",),
)
