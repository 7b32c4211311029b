"""Grok 2.5 (and the shape of Grok 1): a mixture beside a dense MLP, sandwich norms, and caps on scores, router logits
and logits.

xai-org/grok-2 (config.json); xai-org/grok-1, model.py. There is no reference implementation of it here, and the public
ones disagree; decided, and visible in this file: the weights of the two experts are the softmax over all eight, not
renormalised (Grok 1's model.py, sglang); GELU in its tanh form (Grok 1's jax.nn.gelu); scores grow as log(position) /
log(1024) beyond 1,024, after their cap (sglang); RoPE is not stretched (rope_type "original").
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    Irregular,
    LengthTemperature,
    MoE,
    RMSNorm,
    RoPE,
    Router,
    Softmax,
)
from .shared import attention, decoder, head_dim, numbered, sandwich


def grok(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    c.expect("rope_type", "original")
    mixer = attention(
        c,
        dim,
        mask=Causal(),
        positions=RoPE(theta=c.number("rope_theta"), dim=dim),
        kv_heads=c.size("num_key_value_heads"),
        softmax=Softmax(
            scale=dim**-0.5,
            softcap=c.number("attn_logit_softcapping"),
            temperature=LengthTemperature(length=c.size("attn_temperature_len")),
        ),
    )
    c.expect("residual_moe", True)
    experts, active = c.size("num_local_experts"), c.size("num_experts_per_tok")
    moe = MoE(
        router=Router(experts=experts, active=active, softcap=c.number("router_logit_softcapping")),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act="gelu_tanh"),
        shared=GatedMLP(dim=c.size("intermediate_size"), act="gelu_tanh"),
        scale=2**-0.5,
    )
    layers, vocab = [sandwich(norm, mixer, moe)] * c.depth("num_hidden_layers"), c.size("vocab_size")
    embedding = Embedding(vocab=vocab, scale=c.number("embedding_multiplier_scale"))
    head = Head(vocab=vocab, softcap=c.number("final_logit_softcapping"), scale=c.number("output_multiplier_scale"))
    return decoder(c, "grok", layers, norm, embedding=embedding, head=head)


def irregular(decoder: Decoder) -> list[Irregular]:
    moe, theirs = "layers.*.mlp.body", "model.layers.*"
    return [
        Irregular("layers.*.mixer.pre", f"{theirs}.pre_attn_norm"),
        Irregular("layers.*.mixer.post", f"{theirs}.post_attn_norm"),
        Irregular("layers.*.mlp.pre", f"{theirs}.pre_moe_norm"),
        Irregular("layers.*.mlp.post", f"{theirs}.post_moe_norm"),
        Irregular(f"{moe}.router", f"{theirs}.block_sparse_moe.gate"),
        Irregular(f"{moe}.shared", f"{theirs}.mlp"),
        *numbered(f"{moe}.experts", f"{theirs}.block_sparse_moe.experts.{{}}"),
    ]


FAMILY = Family(
    model_types=("grok",),
    spec=grok,
    irregular=irregular,
    ignored=frozenset(
        """original_max_position_embeddings scaling_factor extrapolation_factor attn_factor beta_fast beta_slow
        sliding_window_size global_attn_every_n""".split()
    ),
)
