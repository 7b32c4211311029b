"""Cohere's Command R and R7B: attention and the gated layer side by side on one LayerNorm without bias, logits scaled;
in Command R7B and A windows with RoPE in three layers of four and no positions in the fourth.

Cohere For AI 2024, CohereForAI/c4ai-command-r-v01 (model card); Cohere 2025, arXiv 2504.00698, section 2; transformers,
models/cohere, cohere2. RoPE turns neighbouring channels.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Causal, Config, Decoder, Family, GatedMLP, Head, LayerNorm
from .shared import attention, beside, decoder, head_dim, layer_types, periodic, rope, side_by_side, window


def cohere(c: Config) -> Decoder:
    dim, bias, count = head_dim(c), c.flag("attention_bias"), c.depth("num_hidden_layers")
    norm, turning = LayerNorm(eps=c.number("layer_norm_eps"), bias=False), rope(c, dim, interleaved=True)
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    c.expect("use_qk_norm", None, False)  # a norm of each head, which only Command R+ has
    for key, value in RELEASED.items():
        c.expect(key, None, value)
    full = attention(c, dim, mask=Causal(), positions=turning, bias=bias, o_bias=bias)
    mixers = [full] * count
    if c.raw("model_type") == "cohere2":
        kinds = layer_types(c, count, periodic(count, c.size("sliding_window_pattern")))
        sliding = replace(full, mask=window(c))
        mixers = [sliding if kind == "sliding_attention" else replace(full, positions=None) for kind in kinds]
    head = Head(vocab=c.size("vocab_size"), scale=c.number("logit_scale"))
    return decoder(c, "cohere", [side_by_side(mixer, mlp, norm) for mixer in mixers], norm, head=head)


# what released files say besides, and transformers takes for granted
RELEASED = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_gated_activation": True,
    "use_parallel_block": True,
}

FAMILY = Family(
    model_types=("cohere", "cohere2"),
    spec=cohere,
    irregular=beside,
    ignored=frozenset(
        [
            "model_max_length",
            "layer_switch",
            "sliding_window_pattern",
            "use_embedding_sharing",
            "use_parallel_embedding",
        ]
    ),
)
