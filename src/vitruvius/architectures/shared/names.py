"""Irregular names that several families have in common."""

from __future__ import annotations

from ...spec import Attention, Decoder, Irregular, Split, Transpose, walk


def numbered(ours: str, theirs: str) -> list[Irregular]:
    """A gated layer's matrices, called w1 (gate), w3 (up) and w2 (down) as in Llama's own code."""
    names = (("gate", "w1"), ("up", "w3"), ("down", "w2"))
    return [Irregular(f"{ours}.{part}.weight", f"{theirs}.{name}.weight") for part, name in names]


def stacked_experts(ours: str, theirs: str, transposed: bool = False) -> list[Irregular]:
    """The experts of a layer in one tensor, gate rows (or columns, where it is transposed) before up rows."""
    both, turn = (f"{ours}.gate.weight", f"{ours}.up.weight"), (Transpose(),) if transposed else ()
    return [
        Irregular(both, f"{theirs}.gate_up_proj", (*turn, Split(axis=1))),
        Irregular(f"{ours}.down.weight", f"{theirs}.down_proj", turn),
    ]


def gate_up() -> Irregular:
    """A dense layer's gate rows before its up rows in one tensor."""
    both = ("layers.*.mlp.body.gate.weight", "layers.*.mlp.body.up.weight")
    return Irregular(both, "model.layers.*.mlp.gate_up_proj.weight", (Split(),))


def mtp_names(ours: str, theirs: str, last: str) -> list[Irregular]:
    """A layer for multi-token prediction, as DeepSeek V3 calls its parts; `last` is the final norm."""
    return [
        Irregular(f"{ours}.layer", theirs),
        Irregular(f"{ours}.embedding_norm", f"{theirs}.enorm"),
        Irregular(f"{ours}.hidden_norm", f"{theirs}.hnorm"),
        Irregular(f"{ours}.join.weight", f"{theirs}.eh_proj.weight"),
        Irregular(f"{ours}.final_norm", f"{theirs}.{last}"),
    ]


def following_layers(decoder: Decoder) -> list[Irregular]:
    """Layers for multi-token prediction whose names go on counting where the model's layers end, as DeepSeek V3 has
    them (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md)."""
    after = [f"model.layers.{len(decoder.layers) + k}" for k in range(len(decoder.mtp))]
    return [line for k, theirs in enumerate(after) for line in mtp_names(f"mtp.{k}", theirs, "shared_head.norm")]


def first_attention(decoder: Decoder) -> tuple[str, Attention]:
    """The path of attention in every layer, and what it is in the first: it may stand beside the feed-forward layer."""
    node = next(node for node in walk(decoder, decoder.width) if isinstance(node.spec, Attention))
    assert isinstance(node.spec, Attention)
    return node.path.replace("layers.0.", "layers.*."), node.spec


def beside(decoder: Decoder, layer: str = "model.layers.*", attention: str = "self_attn") -> list[Irregular]:
    """Attention and the feed-forward layer side by side, which files name as if they came in turn."""
    path, _ = first_attention(decoder)
    return [
        Irregular(path, f"{layer}.{attention}"),
        Irregular("layers.*.mixer.body.mlp.body", f"{layer}.mlp"),
        *(Irregular(f"layers.*.mixer.body{branch}", layer) for branch in ("", ".attention", ".mlp")),
    ]


def fused_qkv(ours: str, theirs: str, groups: int) -> list[Irregular]:
    """Queries, keys and values in one tensor, side by side within each group of heads, as Megatron-LM has them."""
    lines = []
    for kind in ("weight", "bias"):
        qkv = tuple(f"{ours}.{name}.{kind}" for name in ("q", "kv.k", "kv.v"))
        lines.append(Irregular(qkv, f"{theirs}.query_key_value.{kind}", (Split(groups=groups),)))
        lines.append(Irregular(f"{ours}.o.{kind}", f"{theirs}.dense.{kind}"))
    return lines


def dense_names(layer: str) -> list[Irregular]:
    """A plain feed-forward layer, as Megatron-LM calls its matrices; it may stand beside attention."""
    lines = []
    for kind in ("weight", "bias"):
        for ours in ("layers.*.mlp.body", "layers.*.mixer.body.mlp.body"):
            lines.append(Irregular(f"{ours}.up.{kind}", f"{layer}.mlp.dense_h_to_4h.{kind}"))
            lines.append(Irregular(f"{ours}.down.{kind}", f"{layer}.mlp.dense_4h_to_h.{kind}"))
    return lines
