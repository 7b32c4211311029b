"""Falcon-H1: attention and Mamba-2 side by side on one norm in every layer, and a multiplier at every turn (μP).

Technology Innovation Institute 2025, arXiv 2507.22448; tiiuae/Falcon-H1-1.5B-Deep-Instruct.
"""

from __future__ import annotations

from ..spec import (
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    GatedNorm,
    Head,
    Irregular,
    Layer,
    Parallel,
    RMSNorm,
    Scale,
    Softmax,
)
from .shared import attention, bamba_mixer, decoder, head_dim, rope


def falcon_h1(c: Config) -> Decoder:
    dim, bias, eps, width = head_dim(c), c.flag("attention_bias"), c.number("rms_norm_eps"), c.size("hidden_size")
    norm, softmax = RMSNorm(eps=eps), Softmax(scale=dim**-0.5 * c.number("key_multiplier"))
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, softmax=softmax)
    inner = c.size_or("mamba_d_ssm", int(c.number("mamba_expand") * width))
    gated = GatedNorm(eps=eps, gate_first=not c.flag("mamba_norm_before_gate"), groups=c.size("mamba_n_groups"))
    norms = gated if c.flag("mamba_rms_norm") else None
    mamba = bamba_mixer(c, inner, norms, "projectors_bias", multipliers(c, "ssm_multipliers", 5))
    gate_scale, down_scale = multipliers(c, "mlp_multipliers", 2)
    mlp = GatedMLP(
        dim=c.size("intermediate_size"),
        act=c.activation("hidden_act"),
        bias=c.flag("mlp_bias"),
        gate_scale=gate_scale,
    )
    into, out = Scale(factor=c.number("attention_in_multiplier")), c.number("attention_out_multiplier")
    ssm_in, ssm_out = Scale(factor=c.number("ssm_in_multiplier")), c.number("ssm_out_multiplier")
    both = Parallel(
        branches=(
            Branch(name="mamba", pre=ssm_in, body=mamba, scale=ssm_out),
            Branch(name="attention", pre=into, body=mixer, scale=out),
        )
    )
    first = Branch(name="mixer", pre=norm, body=both)
    layer = Layer(branches=(first, Branch(name="mlp", pre=norm, body=mlp, scale=down_scale)))
    c.expect("mamba_use_mlp", None, True)
    c.expect("attn_layer_indices", None)
    vocab, scale = c.size("vocab_size"), c.number("embedding_multiplier")
    embedding = Embedding(vocab=vocab, scale=scale, tied=c.flag("tie_word_embeddings"))
    head = Head(vocab=vocab, scale=c.number("lm_head_multiplier"))
    return decoder(c, "falcon_h1", [layer] * c.depth("num_hidden_layers"), norm, embedding=embedding, head=head)


def multipliers(c: Config, key: str, count: int) -> tuple[float, ...]:
    """`count` factors, all 1 where the file has none."""
    values = [1.0] * count if c.raw(key) is None else c.items(key)
    if len(values) != count or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{key} must be {count} numbers, got {values}")
    return tuple(map(float, values))


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("layers.*.mixer.body", "model.layers.*"),  # there no module of its own
        Irregular("layers.*.mixer.body.mamba.body", "model.layers.*.mamba"),
        Irregular("layers.*.mixer.body.attention.body", "model.layers.*.self_attn"),
        Irregular("layers.*.mlp.pre", "model.layers.*.pre_ff_layernorm"),
        Irregular("layers.*.mlp.body", "model.layers.*.feed_forward"),
        Irregular("final_norm", "model.final_layernorm"),
    ]


FAMILY = Family(
    model_types=("falcon_h1",),
    spec=falcon_h1,
    irregular=irregular,
    ignored=frozenset(
        """mamba_chunk_size mamba_expand mlp_expansion_factor num_logits_to_keep time_step_floor time_step_max
        time_step_min time_step_rank""".split()
    ),
)
