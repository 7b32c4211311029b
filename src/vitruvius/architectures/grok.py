"""Grok 2.5 (and the shape of Grok 1): a mixture beside a dense MLP, sandwich norms, and caps on scores, router logits
and logits.

xai-org/grok-2 (config.json); xai-org/grok-1, model.py. There is no reference implementation of it here, and the public
ones disagree; decided, and visible in this file: the weights of the two experts are the softmax over all eight, not
renormalised (Grok 1's model.py, sglang); GELU in its tanh form (Grok 1's jax.nn.gelu); scores grow as log(position) /
log(1024) beyond 1,024, after their cap (sglang); RoPE is not stretched (rope_type "original").
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    Irregular,
    KeyValue,
    Layer,
    LengthTemperature,
    MoE,
    RMSNorm,
    RoPE,
    Router,
    Softmax,
    head_dim,
)


def grok(c: Config) -> Decoder:
    dim, heads = head_dim(c), c.size("num_attention_heads")
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    c.expect("rope_type", "original")
    attention = Attention(
        heads=heads,
        head_dim=dim,
        kv=KeyValue(heads=c.size("num_key_value_heads"), head_dim=dim, v_dim=dim),
        mask=Causal(),
        positions=RoPE(theta=c.number("rope_theta"), dim=dim),
        softmax=Softmax(
            scale=dim**-0.5,
            softcap=c.number("attn_logit_softcapping"),
            temperature=LengthTemperature(length=c.size("attn_temperature_len")),
        ),
    )
    c.expect("residual_moe", True)
    moe = MoE(
        router=Router(
            experts=c.size("num_local_experts"),
            active=c.size("num_experts_per_tok"),
            softcap=c.number("router_logit_softcapping"),
        ),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act="gelu_tanh"),
        shared=GatedMLP(dim=c.size("intermediate_size"), act="gelu_tanh"),
        scale=2**-0.5,
    )
    layer = Layer(
        branches=(
            Branch(name="mixer", pre=norm, body=attention, post=norm),
            Branch(name="mlp", pre=norm, body=moe, post=norm),
        )
    )
    return Decoder(
        name="grok",
        family="grok",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), scale=c.number("embedding_multiplier_scale")),
        layers=(layer,) * c.depth("num_hidden_layers"),
        final_norm=norm,
        head=Head(
            vocab=c.size("vocab_size"),
            softcap=c.number("final_logit_softcapping"),
            scale=c.number("output_multiplier_scale"),
        ),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    theirs = "model.layers.*"
    moe, experts = "layers.*.mlp.body", f"{theirs}.block_sparse_moe.experts.{{}}"
    return [
        Irregular("layers.*.mixer.pre", f"{theirs}.pre_attn_norm"),
        Irregular("layers.*.mixer.post", f"{theirs}.post_attn_norm"),
        Irregular("layers.*.mlp.pre", f"{theirs}.pre_moe_norm"),
        Irregular("layers.*.mlp.post", f"{theirs}.post_moe_norm"),
        Irregular(f"{moe}.router", f"{theirs}.block_sparse_moe.gate"),
        Irregular(f"{moe}.experts.gate.weight", f"{experts}.w1.weight"),
        Irregular(f"{moe}.experts.up.weight", f"{experts}.w3.weight"),
        Irregular(f"{moe}.experts.down.weight", f"{experts}.w2.weight"),
        Irregular(f"{moe}.shared", f"{theirs}.mlp"),
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
