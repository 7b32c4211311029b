"""Arcee Trinity Nano, Mini and Large: gated attention with normed queries and keys, windows with RoPE in three layers
of four and no positions in the fourth, sandwich norms, embeddings scaled as in μP.

Arcee AI 2025, Trinity (model cards); arcee-ai/Trinity-Nano-Preview, modeling_afmoe.py. Depth-scaled norms are an
initialisation.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Embedding, Family, GatedMLP, Irregular, Layer, OutputGate, QKNorm, RMSNorm, Router
from .shared import attention, decoder, deepseek_moe, head_dim, layer_types, periodic, rope, sandwich, window


def afmoe(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    width, count = c.size("hidden_size"), c.depth("num_hidden_layers")
    kinds = layer_types(c, count, periodic(count, c.size("global_attn_every_n_layers")))
    router = Router(
        experts=c.size("num_experts"),
        active=c.size("num_experts_per_tok"),
        score="sigmoid",
        selection_bias=True,
        norm_topk_eps=1e-20,
        scale=c.number("route_scale"),
    )
    moe = deepseek_moe(c, router, shared=c.count("num_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    for key, value in (("route_norm", True), ("score_func", "sigmoid"), ("n_group", 1), ("topk_group", 1)):
        c.expect(key, None, value)

    def layer(i: int) -> Layer:
        local = kinds[i] == "sliding_attention"
        mixer = attention(
            c,
            dim,
            mask=window(c, local),
            positions=rope(c, dim) if local else None,
            bias=bias,
            o_bias=bias,
            norm=QKNorm(norm=norm),
            gate=OutputGate(),
        )
        return sandwich(norm, mixer, dense if i < c.count("num_dense_layers") else moe)

    scale = width**0.5 if c.flag("mup_enabled") else 1.0
    embedding = Embedding(vocab=c.size("vocab_size"), scale=scale, tied=c.flag("tie_word_embeddings"))
    return decoder(c, "afmoe", map(layer, range(count)), norm, embedding=embedding)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mlp.pre", "model.layers.*.pre_mlp_layernorm"),
        Irregular("layers.*.mlp.post", "model.layers.*.post_mlp_layernorm"),
        Irregular("layers.*.mlp.body.router.weight", "model.layers.*.mlp.router.gate.weight"),
        Irregular("layers.*.mlp.body.router.selection_bias", "model.layers.*.mlp.expert_bias"),
    ]


FAMILY = Family(model_types=("afmoe",), spec=afmoe, irregular=irregular)
