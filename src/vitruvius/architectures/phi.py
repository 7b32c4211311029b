"""Phi-1, Phi-1.5 and Phi-2: attention and a plain feed-forward layer side by side on one LayerNorm, RoPE over a part of
each head, biases everywhere, on the head too.

Gunasekar et al. 2023, arXiv 2306.11644; Li et al. 2023, arXiv 2309.05463, section 2.1; transformers, models/phi.
"""

from __future__ import annotations

from ..spec import MLP, Causal, Config, Decoder, Family, Head, Irregular, LayerNorm
from .shared import attention, beside, decoder, head_dim, rope, side_by_side


def phi(c: Config) -> Decoder:
    dim, norm = head_dim(c), LayerNorm(eps=c.number("layer_norm_eps"))
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=True, o_bias=True)
    mlp = MLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=True)
    c.expect("qk_layernorm", None, False)  # a norm of queries and keys, which no published model has
    head = Head(vocab=c.size("vocab_size"), bias=True)
    layer = side_by_side(mixer, mlp, norm)
    return decoder(c, "phi", [layer] * c.depth("num_hidden_layers"), norm, head=head)


def irregular(decoder: Decoder) -> list[Irregular]:
    layer, mixer = "model.layers.*", "layers.*.mixer.body"
    lines = [*beside(decoder), Irregular("final_norm", "model.final_layernorm")]
    for kind in ("weight", "bias"):
        lines += [
            Irregular(f"{mixer}.attention.body.o.{kind}", f"{layer}.self_attn.dense.{kind}"),
            Irregular(f"{mixer}.mlp.body.up.{kind}", f"{layer}.mlp.fc1.{kind}"),
            Irregular(f"{mixer}.mlp.body.down.{kind}", f"{layer}.mlp.fc2.{kind}"),
        ]
    return lines


FAMILY = Family(model_types=("phi",), spec=phi, irregular=irregular)
