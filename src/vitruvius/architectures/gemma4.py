"""Gemma 4: full attention has wider heads of which few channels rotate, and in the large sizes keys and values of one
projection; a stored number scales what each layer leaves. The small sizes keep Gemma 3n's per-layer inputs and shared
keys and values, without AltUp and LAuReL; 26B-A4B has experts beside a dense feed-forward layer.

transformers, models/gemma4. Scores are not scaled, and the last layer is always a full one.
"""

from __future__ import annotations

from dataclasses import replace

from .. import spec as s
from ..spec import Config, Irregular
from .shared import decoder, layer_types, per_layer_embedding, periodic, rope, sharing_sources, stacked_experts, window


def gemma4(c: Config) -> s.Decoder:
    width, count, bias = c.size("hidden_size"), c.depth("num_hidden_layers"), c.flag("attention_bias")
    norm, act = s.RMSNorm(eps=c.number("rms_norm_eps")), c.activation("hidden_activation")
    kinds = [*layer_types(c, count, periodic(count, 6))[:-1], "full_attention"]
    kvs, inputs = key_values(c, kinds, norm), c.count("hidden_size_per_layer_input")
    c.expect("use_bidirectional_attention", None, False, "vision")
    wider, dim = c.flag("use_double_wide_mlp"), c.size("intermediate_size")
    moe = experts(c, norm, act) if c.flag("enable_moe_block") else None

    def layer(i: int) -> s.Layer:
        attention = s.Attention(
            heads=c.size("num_attention_heads"),
            head_dim=kvs[i].head_dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=s.QKNorm(norm=norm),
            kv=kvs[i],
            mask=window(c, kinds[i] == "sliding_attention"),
            positions=rope(c, kvs[i].head_dim, kinds[i]),
            softmax=s.Softmax(scale=1.0),
        )
        dense = s.GatedMLP(dim=2 * dim if wider and isinstance(kvs[i], s.LayerKeyValue) else dim, act=act)
        mlp = s.Branch(name="mlp", pre=norm, body=dense, post=norm)
        if moe:
            both = (replace(mlp, name="dense"), s.Branch(name="sparse", body=moe, post=norm))
            mlp = s.Branch(name="mlp", body=s.Parallel(branches=both), post=norm)
        branches = [s.Branch(name="mixer", pre=norm, body=attention, post=norm), mlp]
        if inputs:
            branches.append(s.Branch(name="input", body=s.PerLayerInput(dim=inputs, act=act, norm=norm)))
        return s.Layer(branches=tuple(branches), around=s.LayerScalar())

    vocab, per_layer = c.size("vocab_size"), per_layer_embedding(c, inputs, norm) if inputs else None
    embedding = s.Embedding(vocab=vocab, scale=width**0.5, tied=c.flag("tie_word_embeddings"), per_layer=per_layer)
    head = s.Head(vocab=vocab, softcap=c.number_or_none("final_logit_softcapping"))
    return decoder(c, "gemma4_text", map(layer, range(count)), norm, embedding=embedding, head=head)


KeyValues = s.KeyValue | s.UnifiedKeyValue | s.LayerKeyValue


def key_values(c: Config, kinds: list[str], norm: s.RMSNorm) -> list[KeyValues]:
    """Each layer's own keys and values, those of one projection in full attention of the large sizes, or those of an
    earlier layer."""
    unified, bias, full = c.flag("attention_k_eq_v"), c.flag("attention_bias"), {"head_dim": c.raw("global_head_dim")}
    if (heads := c.raw("num_global_key_value_heads")) is not None and unified:
        full["num_key_value_heads"] = heads
    shapes = c.by_layer([full if kind == "full_attention" else {} for kind in kinds], "num_key_value_heads", "head_dim")
    sources, k_norm, v_norm = sharing_sources(c, kinds), s.QKNorm(norm=norm), s.WeightlessNorm(eps=norm.eps)

    def key_value(i: int) -> KeyValues:
        heads, dim, source = shapes[i].size("num_key_value_heads"), shapes[i].size("head_dim"), sources[i]
        if source is not None:
            return s.LayerKeyValue(layer=source, heads=heads, head_dim=dim, v_dim=dim)
        if unified and kinds[i] == "full_attention":
            return s.UnifiedKeyValue(heads=heads, head_dim=dim, norm=norm, bias=bias)
        return s.KeyValue(heads=heads, head_dim=dim, v_dim=dim, bias=bias, k_norm=k_norm, v_norm=v_norm)

    return [key_value(i) for i in range(len(kinds))]


def experts(c: Config, norm: s.RMSNorm, act: s.Activation) -> s.MoE:
    count, active, unit = c.size("num_experts"), c.size("top_k_experts"), s.UnitNorm(eps=norm.eps)
    router = s.Router(experts=count, active=active, norm_topk_eps=0.0, norm=unit, expert_scale=True)
    return s.MoE(router=router, expert=s.GatedMLP(dim=c.size("moe_intermediate_size"), act=act), norm=norm)


def irregular(decoder: s.Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp", "model.layers.*"
    dense, moe = f"{ours}.body.dense", f"{ours}.body.sparse"
    names = {
        "layers.*.around": "",
        "layers.*.input.body": "",
        f"{ours}.pre": ".pre_feedforward_layernorm",
        f"{dense}.pre": ".pre_feedforward_layernorm",
        f"{dense}.body": ".mlp",
        f"{dense}.post": ".post_feedforward_layernorm_1",
        f"{moe}.post": ".post_feedforward_layernorm_2",
        f"{moe}.body.norm": ".pre_feedforward_layernorm_2",
        f"{moe}.body.router.weight": ".router.proj.weight",
        f"{moe}.body.router.expert_scale": ".router.per_expert_scale",
        f"{moe}.body.router.norm.weight": ".router.scale",
    }
    lines = [Irregular(mine, f"{theirs}{name}") for mine, name in names.items()]
    lines.append(Irregular("embedding.per_layer", "model"))
    return lines + stacked_experts(f"{moe}.body.experts", f"{theirs}.experts")


FAMILY = s.Family(
    model_types=("gemma4_text",),
    spec=gemma4,
    irregular=irregular,
    ignored=frozenset(("vocab_size_per_layer_input", "num_experts", "top_k_experts", "moe_intermediate_size")),
    unused=tuple(f"model.layers.*.self_attn.{name}" for name in ("[kv]_proj.*", "k_norm.weight")),
)
