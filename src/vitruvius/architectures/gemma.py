"""Gemma 1 and 1.1, CodeGemma: Llama's layer with GeGLU, wide heads, one key and value head in the small size, norms
that store w − 1, and embeddings scaled by √width.

Gemma Team 2024, arXiv 2403.08295, section 2; google-deepmind/gemma. "gelu" in these files means its tanh form, as in
the authors' code (transformers, models/gemma).
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Embedding, Family, GatedMLP, RMSNorm
from .shared import attention, decoder, pre_norm, rope


def gemma(c: Config) -> Decoder:
    dim, kv_heads, bias = c.size("head_dim"), c.size("num_key_value_heads"), c.flag("attention_bias")
    norm, act = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0), c.activation("hidden_act")
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), kv_heads=kv_heads, bias=bias, o_bias=bias)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act="gelu_tanh" if act == "gelu" else act)
    c.expect("hidden_activation", None, "gelu_pytorch_tanh")
    c.expect("use_bidirectional_attention", None, False)
    scale = c.size("hidden_size") ** 0.5
    embedding = Embedding(vocab=c.size("vocab_size"), scale=scale, tied=c.flag("tie_word_embeddings"))
    layers = [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers")
    return decoder(c, "gemma", layers, norm, embedding=embedding)


FAMILY = Family(model_types=("gemma",), spec=gemma)
