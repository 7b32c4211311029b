"""Gemma 4: full attention has wider heads of which few channels rotate, and in the large sizes keys and values of one
projection; a stored number scales what each layer leaves. The small sizes keep Gemma 3n's per-layer inputs and shared
keys and values, without AltUp and LAuReL; 26B-A4B has experts beside a dense feed-forward layer.

transformers, models/gemma4. Scores are not scaled, and the last layer is always a full one.
"""

from __future__ import annotations

from dataclasses import replace

from .. import spec as s
from ..spec import Config, Irregular


def gemma4(c: Config) -> s.Decoder:
    width, count, bias = c.size("hidden_size"), c.depth("num_hidden_layers"), c.flag("attention_bias")
    norm, act = s.RMSNorm(eps=c.number("rms_norm_eps")), c.activation("hidden_activation")
    kinds = s.layer_types(c, count, ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(count)])
    kinds[-1] = "full_attention"
    keeper, shapes = s.sharing_sources(c, kinds), key_value_heads(c, kinds)
    c.expect("use_bidirectional_attention", None, False, "vision")
    unified, wider, dim = c.flag("attention_k_eq_v"), c.flag("use_double_wide_mlp"), c.size("intermediate_size")
    moe = experts(c, norm, act) if c.flag("enable_moe_block") else None
    inputs = c.count("hidden_size_per_layer_input")

    def key_value(i: int) -> s.KeyValue | s.UnifiedKeyValue | s.LayerKeyValue:
        (heads, head_dim), kept = shapes[i], keeper[i]
        if kept is not None:
            return s.LayerKeyValue(layer=kept, heads=heads, head_dim=head_dim, v_dim=head_dim)
        if unified and kinds[i] == "full_attention":
            return s.UnifiedKeyValue(heads=heads, head_dim=head_dim, norm=norm, bias=bias)
        k_norm, v_norm = s.QKNorm(norm=norm), s.WeightlessNorm(eps=norm.eps)
        return s.KeyValue(heads=heads, head_dim=head_dim, v_dim=head_dim, bias=bias, k_norm=k_norm, v_norm=v_norm)

    def layer(i: int) -> s.Layer:
        kv = key_value(i)
        attention = s.Attention(
            heads=c.size("num_attention_heads"),
            head_dim=kv.head_dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=s.QKNorm(norm=norm),
            kv=kv,
            mask=s.window(c, kinds[i] == "sliding_attention"),
            positions=s.rope(c, kv.head_dim, kinds[i]),
            softmax=s.Softmax(scale=1.0),
        )
        dense = s.GatedMLP(dim=2 * dim if wider and isinstance(kv, s.LayerKeyValue) else dim, act=act)
        branches = [s.Branch(name="mixer", pre=norm, body=attention, post=norm)]
        if moe:
            beside = s.Branch(name="dense", pre=norm, body=dense, post=norm)
            both = s.Parallel(branches=(beside, s.Branch(name="sparse", body=moe, post=norm)))
            branches.append(s.Branch(name="mlp", body=both, post=norm))
        else:
            branches.append(s.Branch(name="mlp", pre=norm, body=dense, post=norm))
        if inputs:
            branches.append(s.Branch(name="input", body=s.PerLayerInput(dim=inputs, act=act, norm=norm)))
        return s.Layer(branches=tuple(branches), around=s.LayerScalar())

    embedding = s.Embedding(vocab=c.size("vocab_size"), scale=width**0.5, tied=c.flag("tie_word_embeddings"))
    if inputs:
        table = s.PerLayerTable(vocab=c.size("vocab_size_per_layer_input"), layers=count, dim=inputs)
        embedding = replace(embedding, per_layer=s.PerLayerEmbedding(table=table, norm=norm))
    return s.Decoder(
        name="gemma4",
        family="gemma4_text",
        width=width,
        context=c.size("max_position_embeddings"),
        embedding=embedding,
        layers=tuple(map(layer, range(count))),
        final_norm=norm,
        head=s.Head(vocab=c.size("vocab_size"), softcap=c.number_or_none("final_logit_softcapping")),
    )


def experts(c: Config, norm: s.RMSNorm, act: s.Activation) -> s.MoE:
    count, active, unit = c.size("num_experts"), c.size("top_k_experts"), s.UnitNorm(eps=norm.eps)
    router = s.Router(experts=count, active=active, norm_topk_eps=0.0, norm=unit, expert_scale=True)
    return s.MoE(router=router, expert=s.GatedMLP(dim=c.size("moe_intermediate_size"), act=act), norm=norm)


def key_value_heads(c: Config, kinds: list[str]) -> list[tuple[int, int]]:
    """(key/value heads, channels of a head) of each layer."""
    full = {"head_dim": c.raw("global_head_dim")}
    if (heads := c.raw("num_global_key_value_heads")) is not None and c.flag("attention_k_eq_v"):
        full["num_key_value_heads"] = heads
    layers = c.by_layer([full if kind == "full_attention" else {} for kind in kinds], "num_key_value_heads", "head_dim")
    return [(layer.size("num_key_value_heads"), layer.size("head_dim")) for layer in layers]


def irregular(decoder: s.Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp", "model.layers.*"
    dense, moe = f"{ours}.body.dense", f"{ours}.body.sparse"
    both = (f"{moe}.body.experts.gate.weight", f"{moe}.body.experts.up.weight")
    return [
        Irregular("embedding.per_layer", "model"),
        Irregular("layers.*.around", theirs),
        Irregular("layers.*.input.body", theirs),
        Irregular(f"{ours}.pre", f"{theirs}.pre_feedforward_layernorm"),
        Irregular(f"{dense}.pre", f"{theirs}.pre_feedforward_layernorm"),
        Irregular(f"{dense}.body", f"{theirs}.mlp"),
        Irregular(f"{dense}.post", f"{theirs}.post_feedforward_layernorm_1"),
        Irregular(f"{moe}.post", f"{theirs}.post_feedforward_layernorm_2"),
        Irregular(f"{moe}.body.norm", f"{theirs}.pre_feedforward_layernorm_2"),
        Irregular(f"{moe}.body.router.weight", f"{theirs}.router.proj.weight"),
        Irregular(f"{moe}.body.router.expert_scale", f"{theirs}.router.per_expert_scale"),
        Irregular(f"{moe}.body.router.norm.weight", f"{theirs}.router.scale"),
        Irregular(both, f"{theirs}.experts.gate_up_proj", (s.Split(axis=1),)),
        Irregular(f"{moe}.body.experts.down.weight", f"{theirs}.experts.down_proj"),
    ]


FAMILY = s.Family(
    model_types=("gemma4_text",),
    spec=gemma4,
    irregular=irregular,
    ignored=frozenset(("vocab_size_per_layer_input", "num_experts", "top_k_experts", "moe_intermediate_size")),
    unused=tuple(f"model.layers.*.self_attn.{name}" for name in ("[kv]_proj.*", "k_norm.weight")),
)
