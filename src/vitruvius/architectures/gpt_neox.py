"""GPT-NeoX-20B, Pythia: attention and a plain feed-forward layer side by side, each with a LayerNorm of its own, RoPE
over a quarter of each head.

Black et al. 2022, arXiv 2204.06745, section 2.1; Biderman et al. 2023, arXiv 2304.01373. Queries, keys and values of
each head are stored together.
"""

from __future__ import annotations

from ..spec import MLP, Causal, Config, Decoder, Family, Irregular, LayerNorm
from .shared import attention, beside, decoder, dense_names, first_attention, fused_qkv, pre_norm, rope, side_by_side


def gpt_neox(c: Config) -> Decoder:
    heads, dim = c.size("num_attention_heads"), c.share("hidden_size", "num_attention_heads")
    bias, norm = c.flag("attention_bias"), LayerNorm(eps=c.number("layer_norm_eps"))
    positions = rope(c, dim, theta="rotary_emb_base", partial="rotary_pct")
    mixer = attention(c, dim, mask=Causal(), positions=positions, kv_heads=heads, bias=bias, o_bias=bias)
    mlp = MLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"), bias=True)
    parallel = c.flag("use_parallel_residual")
    layer = side_by_side(mixer, mlp, norm, norms=2) if parallel else pre_norm(norm, mixer, mlp)
    return decoder(c, "gpt_neox", [layer] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    layer, (path, mixer) = "gpt_neox.layers.*", first_attention(decoder)
    return [
        Irregular("embedding", "gpt_neox.embed_in"),
        Irregular("layers.*", layer),
        Irregular("layers.*.mixer.body.attention.pre", f"{layer}.input_layernorm"),
        Irregular("layers.*.mixer.body.mlp.pre", f"{layer}.post_attention_layernorm"),
        *beside(decoder, layer, "attention"),
        *fused_qkv(path, f"{layer}.attention", mixer.heads),
        *dense_names(layer),
        Irregular("final_norm", "gpt_neox.final_layer_norm"),
        Irregular("head", "embed_out"),
    ]


FAMILY = Family(
    model_types=("gpt_neox",),
    spec=gpt_neox,
    irregular=irregular,
    ignored=frozenset(["classifier_dropout"]),
    unused=(
        "gpt_neox.layers.*.attention.bias",
        "gpt_neox.layers.*.attention.masked_bias",
        "gpt_neox.layers.*.attention.rotary_emb.inv_freq",
    ),
    bare="gpt_neox.",
)
