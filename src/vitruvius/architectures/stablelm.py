"""StableLM 3B and StableLM 2: Llama's layer with LayerNorm and RoPE over a quarter of each head; attention and the
gated layer side by side on one norm where the file says so.

Tow et al. 2023, "StableLM-3B-4E1T"; Bellagente et al. 2024, arXiv 2402.17834, section 2; transformers, models/stablelm.
"""

from __future__ import annotations

from ..spec import Causal, Config, Decoder, Family, GatedMLP, LayerNorm
from .shared import attention, beside, decoder, pre_norm, rope, side_by_side


def stablelm(c: Config) -> Decoder:
    dim, norm = c.share("hidden_size", "num_attention_heads"), LayerNorm(eps=c.number("layer_norm_eps"))
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=c.flag("use_qkv_bias"))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    c.expect("qk_layernorm", None, False)  # a norm of each head, which only StableLM 2 12B has
    layer = side_by_side(mixer, mlp, norm) if c.flag("use_parallel_residual") else pre_norm(norm, mixer, mlp)
    return decoder(c, "stablelm", [layer] * c.depth("num_hidden_layers"), norm)


FAMILY = Family(model_types=("stablelm",), spec=stablelm, irregular=beside)
