"""SmolLM3: Llama's layer, with no positions at all (NoPE) in every fourth one.

Bakouch et al. 2025, huggingface.co/blog/smollm3; NoPE: Kazemnejad et al. 2023, arXiv 2305.19466. In `no_rope_layers` a
1 means that the layer does rotate.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Layer, RMSNorm
from .shared import attention, decoder, head_dim, layer_types, no_rope_layers, pre_norm, rope, window


def smollm3(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=c.flag("mlp_bias"))
    count, positions, sliding = c.depth("num_hidden_layers"), rope(c, dim), c.flag("use_sliding_window")
    rotates = no_rope_layers(c, count)
    kinds = layer_types(c, count, ["full_attention" if r else "sliding_attention" for r in rotates])

    def layer(i: int) -> Layer:
        mask = window(c, sliding and kinds[i] == "sliding_attention")
        mixer = attention(c, dim, mask=mask, positions=positions if rotates[i] else None, bias=bias, o_bias=bias)
        return pre_norm(norm, mixer, mlp)

    return decoder(c, "smollm3", map(layer, range(count)), norm)


FAMILY = Family(model_types=("smollm3",), spec=smollm3, ignored=frozenset(("max_window_layers",)))
