"""Mistral Small 4: latent attention whose queries sharpen with the position, and experts weighed by a softmax.

Mistral AI 2026; transformers, models/mistral4. The experts of a layer are one tensor, gate rows before up rows.
"""

from __future__ import annotations

from ..spec import (
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    ExpertGroups,
    Family,
    GatedMLP,
    Head,
    Irregular,
    LatentAttention,
    Layer,
    LowRank,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    Split,
    latent_scale,
    query_temperature,
    rope,
)


def mistral4(c: Config) -> Decoder:
    norm, inner = RMSNorm(eps=c.number("rms_norm_eps")), RMSNorm(eps=1e-6)  # the latents' norms ignore the config
    nope, rotary = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    attention = LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rotary,
        v_dim=c.size("v_head_dim"),
        q=None if c.raw("q_lora_rank") is None else LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=Causal(),
        positions=rope(c, c.size("qk_nope_head_dim") + rotary, interleaved=c.flag("rope_interleave")),
        softmax=Softmax(scale=latent_scale(c, nope + rotary), temperature=query_temperature(c)),
        bias=c.flag("attention_bias"),
    )
    act, dim, shared = c.activation("hidden_act"), c.size("moe_intermediate_size"), c.count("n_shared_experts")
    moe = MoE(
        router=Router(
            experts=c.size("n_routed_experts", "num_local_experts"),
            active=c.size("num_experts_per_tok"),
            groups=ExpertGroups(count=c.size("n_group"), active=c.size("topk_group"), score="top2_sum"),
            norm_topk_eps=1e-20 if c.flag("norm_topk_prob") else None,
            scale=c.number("routed_scaling_factor"),
        ),
        expert=GatedMLP(dim=dim, act=act),
        shared=GatedMLP(dim=dim * shared, act=act) if shared else None,
    )
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)

    def layer(i: int) -> Layer:
        mlp = dense if i < c.count("first_k_dense_replace") else moe
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    count = c.depth("num_hidden_layers")
    return Decoder(
        name="mistral4",
        family="mistral4",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body.experts", "model.layers.*.mlp.experts"
    both = (f"{ours}.gate.weight", f"{ours}.up.weight")
    return [
        Irregular(both, f"{theirs}.gate_up_proj", (Split(axis=1),)),
        Irregular(f"{ours}.down.weight", f"{theirs}.down_proj"),
    ]


FAMILY = Family(
    model_types=("mistral4",),
    spec=mistral4,
    irregular=irregular,
    ignored=frozenset("head_dim qk_head_dim num_key_value_heads".split()),
)
