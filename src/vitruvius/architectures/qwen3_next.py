"""Qwen3-Next: three layers of Gated DeltaNet to one of gated attention, hundreds of small experts, one shared and
gated.

Qwen Team 2025, "Qwen3-Next" (blog, model card); Yang et al. 2024, arXiv 2412.06464; Qiu et al. 2025, arXiv 2505.06708.
"""

from __future__ import annotations

from ..spec import (
    MTP,
    Attention,
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedDeltaNet,
    GatedMLP,
    Head,
    Irregular,
    KeyValue,
    Layer,
    MoE,
    OutputGate,
    QKNorm,
    RMSNorm,
    Router,
    ScalarGated,
    Softmax,
    Split,
    gated_delta_net,
    head_dim,
    layer_types,
    rope,
)


def qwen3_next(c: Config) -> Decoder:
    dim, heads, bias = head_dim(c), c.size("num_attention_heads"), c.flag("attention_bias")
    act, count, every = c.activation("hidden_act"), c.depth("num_hidden_layers"), c.size("full_attention_interval")
    norm = RMSNorm(eps=c.number("rms_norm_eps"), offset=1.0)
    per_head = QKNorm(norm=norm)
    attention = Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=bias,
        q_norm=per_head,
        kv=KeyValue(heads=c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=per_head),
        mask=Causal(),
        positions=rope(c, dim),
        softmax=Softmax(scale=dim**-0.5),
        gate=OutputGate(bias=bias),
    )
    delta = gated_delta_net(c)
    moe = MoE(
        router=Router(
            experts=c.size("num_experts"),
            active=c.size("num_experts_per_tok"),
            norm_topk_eps=0.0 if c.flag("norm_topk_prob") else None,
        ),
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=ScalarGated(body=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act)),
    )
    pattern = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    kinds = layer_types(c, count, pattern, ("linear_attention", "full_attention"))
    without, step = c.items("mlp_only_layers"), c.size("decoder_sparse_step")

    def layer(mixer: Attention | GatedDeltaNet, mlp: GatedMLP | MoE) -> Layer:
        return Layer(branches=(Branch(name="mixer", pre=norm, body=mixer), Branch(name="mlp", pre=norm, body=mlp)))

    mixers = [attention if kind == "full_attention" else delta for kind in kinds]
    dense = GatedMLP(dim=c.size("intermediate_size"), act=act)
    mlps = [dense if i in without or (i + 1) % step else moe for i in range(count)]
    return Decoder(
        name="qwen3_next",
        family="qwen3_next",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(map(layer, mixers, mlps)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
        mtp=(MTP(layer=layer(attention, moe), norm=norm),) * c.count("num_nextn_predict_layers"),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    """Queries and gates are stored side by side for each head, the delta net's projections for each key head."""
    lines = [
        Irregular("mtp.*.layer", "mtp.layers.*"),
        Irregular("mtp.*.embedding_norm", "mtp.pre_fc_norm_embedding"),
        Irregular("mtp.*.hidden_norm", "mtp.pre_fc_norm_hidden"),
        Irregular("mtp.*.join.weight", "mtp.fc.weight"),
        Irregular("mtp.*.final_norm", "mtp.norm"),
    ]
    for ours, theirs in (("layers.*", "model.layers.*"), ("mtp.*.layer", "mtp.layers.*")):
        shared, named = f"{ours}.mlp.body.shared", f"{theirs}.mlp.shared_expert"
        lines += [Irregular(shared, named), Irregular(f"{shared}.gate.weight", f"{named}_gate.weight")]

    def fused(body: str, parts: str, theirs: str, groups: int, kind: str = "weight") -> None:
        names = tuple(f"{body}.{part}.{kind}" for part in parts.split())
        lines.append(Irregular(names, f"{theirs}.{kind}", (Split(groups=groups),)))

    places = [(f"layers.{i}", f"model.layers.{i}", layer) for i, layer in enumerate(decoder.layers)]
    places += [(f"mtp.{k}.layer", f"mtp.layers.{k}", module.layer) for k, module in enumerate(decoder.mtp)]
    for ours, theirs, layer in places:
        body, mixer = f"{ours}.mixer.body", layer.branches[0].body
        if isinstance(mixer, Attention):
            for kind in ("weight", "bias"):
                fused(body, "q gate", f"{theirs}.self_attn.q_proj", mixer.heads, kind)
        elif isinstance(mixer, GatedDeltaNet):
            lines.append(Irregular(body, f"{theirs}.linear_attn"))
            fused(body, "q k v gate", f"{theirs}.linear_attn.in_proj_qkvz", mixer.k_heads)
            fused(body, "beta decay", f"{theirs}.linear_attn.in_proj_ba", mixer.k_heads)
    return lines


FAMILY = Family(model_types=("qwen3_next",), spec=qwen3_next, irregular=irregular, unused=("mtp.*",))
