"""Granite 4.0 hybrids: Mamba-2 or attention in each layer, experts beside a shared layer or that layer alone, and
Granite's multipliers of embeddings, branches, scores and logits.

IBM Research 2025, Granite 4.0 (model cards); ibm-granite/granite-4.0-h-tiny.
"""

from __future__ import annotations

from ..spec import (
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    GatedNorm,
    Head,
    Irregular,
    Mamba2,
    MoE,
    RMSNorm,
    Router,
    Softmax,
    Split,
)
from .shared import attention, bamba_mixer, decoder, head_dim, layer_types, pre_norm, rope


def granite_hybrid(c: Config) -> Decoder:
    dim, bias, width = head_dim(c), c.flag("attention_bias"), c.size("hidden_size")
    norm, scale = RMSNorm(eps=c.number("rms_norm_eps")), c.number("residual_multiplier")
    softmax = Softmax(scale=c.number("attention_multiplier"))
    positions = rope(c, dim) if c.raw("position_embedding_type") == "rope" else None
    full = attention(c, dim, mask=Causal(), positions=positions, bias=bias, o_bias=bias, softmax=softmax)
    gated = GatedNorm(eps=c.number("rms_norm_eps"), gate_first=True, groups=c.size("mamba_n_groups"))
    mamba = bamba_mixer(c, int(c.number("mamba_expand") * width), gated, "mamba_proj_bias")
    count, mlp = c.depth("num_hidden_layers"), feedforward(c)
    kinds = layer_types(c, count, ["linear_attention"] * count, ("linear_attention", "full_attention"))
    c.expect("normalization_function", None, "rmsnorm")
    layers = [pre_norm(norm, full if kind == "full_attention" else mamba, mlp, scale) for kind in kinds]
    vocab, times = c.size("vocab_size"), c.number("embedding_multiplier")
    embedding = Embedding(vocab=vocab, scale=times, tied=c.flag("tie_word_embeddings"))
    head = Head(vocab=vocab, scale=1 / c.number("logits_scaling"))
    return decoder(c, "granitemoehybrid", layers, norm, embedding=embedding, head=head)


def feedforward(c: Config) -> GatedMLP | MoE:
    """The shared layer, with experts beside it if there are any."""
    act = c.activation("hidden_act")
    shared = GatedMLP(dim=c.size("shared_intermediate_size"), act=act)
    if not c.count("num_local_experts"):
        return shared
    router = Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0)
    return MoE(router=router, expert=GatedMLP(dim=c.size("intermediate_size"), act=act), shared=shared)


def irregular(decoder: Decoder) -> list[Irregular]:
    """Gates and up projections are stored one above the other, experts as stacks."""
    lines = [Irregular("layers.*.mlp.body.router.weight", "model.layers.*.block_sparse_moe.router.layer.weight")]
    for ours, theirs, axis in (
        ("", "shared_mlp", 0),
        (".shared", "shared_mlp", 0),
        (".experts", "block_sparse_moe", 1),
    ):
        part, name = f"layers.*.mlp.body{ours}", f"model.layers.*.{theirs}"
        pair = (f"{part}.gate.weight", f"{part}.up.weight")
        lines.append(Irregular(pair, f"{name}.input_linear.weight", (Split(axis=axis),)))
        lines.append(Irregular(f"{part}.down.weight", f"{name}.output_linear.weight"))
    for i, layer in enumerate(decoder.layers):
        if isinstance(layer.branches[0].body, Mamba2):
            lines.append(Irregular(f"layers.{i}.mixer.body", f"model.layers.{i}.mamba"))
    return lines


FAMILY = Family(
    model_types=("granitemoehybrid",),
    spec=granite_hybrid,
    irregular=irregular,
    ignored=frozenset(
        """init_method intermediate_size mamba_chunk_size num_experts_per_tok rope_parameters rope_scaling
        rope_theta""".split()
    ),
)
