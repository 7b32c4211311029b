"""Granite 3 and Granite Code, dense and mixture of experts: Llama's layer with multipliers of embeddings, branches,
scores and logits.

IBM Granite Team 2024, "Granite 3.0 Language Models"; μP: Yang et al. 2022, arXiv 2203.03466; transformers,
models/granite, granitemoe. The experts of a layer are one tensor, gate rows before up rows.
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
    MoE,
    RMSNorm,
    Router,
    Softmax,
    Split,
)
from .shared import attention, decoder, head_dim, pre_norm, rope


def granite(c: Config) -> Decoder:
    dim, bias, norm = head_dim(c), c.flag("attention_bias"), RMSNorm(eps=c.number("rms_norm_eps"))
    softmax = Softmax(scale=c.number("attention_multiplier"))
    mixer = attention(c, dim, mask=Causal(), positions=rope(c, dim), bias=bias, o_bias=bias, softmax=softmax)
    layer = pre_norm(norm, mixer, feedforward(c), c.number("residual_multiplier"))
    vocab, scale = c.size("vocab_size"), c.number("embedding_multiplier")
    embedding = Embedding(vocab=vocab, scale=scale, tied=c.flag("tie_word_embeddings"))
    head = Head(vocab=vocab, scale=1 / c.number("logits_scaling"))
    return decoder(c, "granite", [layer] * c.depth("num_hidden_layers"), norm, embedding=embedding, head=head)


def feedforward(c: Config) -> GatedMLP | MoE:
    dim, act = c.size("intermediate_size"), c.activation("hidden_act")
    if c.raw("model_type") == "granite":
        return GatedMLP(dim=dim, act=act, bias=c.flag("mlp_bias"))
    router = Router(experts=c.size("num_local_experts"), active=c.size("num_experts_per_tok"), norm_topk_eps=0.0)
    return MoE(router=router, expert=GatedMLP(dim=dim, act=act))


def irregular(decoder: Decoder) -> list[Irregular]:
    ours, theirs = "layers.*.mlp.body", "model.layers.*.block_sparse_moe"
    both = (f"{ours}.experts.gate.weight", f"{ours}.experts.up.weight")
    return [
        Irregular(f"{ours}.router.weight", f"{theirs}.router.layer.weight"),
        Irregular(both, f"{theirs}.input_linear.weight", (Split(axis=1),)),
        Irregular(f"{ours}.experts.down.weight", f"{theirs}.output_linear.weight"),
    ]


FAMILY = Family(model_types=("granite", "granitemoe"), spec=granite, irregular=irregular)
