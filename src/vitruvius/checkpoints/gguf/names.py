"""GGUF's names beside Hugging Face's: what a family spells its own way, and what llama.cpp's converter has done to its
weights, as operations that are undone on load.

Most names stand with the nouns (`gguf_spelling`). The facts are those of ggml-org/llama.cpp: conversion/*.py, and the
tables in gguf-py/gguf/constants.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ...spec import (
    Add,
    AltUpEnds,
    Attention,
    Decoder,
    GatedDeltaNet,
    GatedMLP,
    Irregular,
    Join,
    KimiDelta,
    LatentAttention,
    LogDecay,
    Mamba2,
    Node,
    Parallel,
    Reorder,
    Reshape,
    RMSNorm,
    ScalarGated,
    Split,
    Step,
    Tensors,
    Transpose,
    spelled,
    walk,
)
from ..steps import Shape, file_shapes

# RoPE tables, which follow from the metadata; copies of the embedding and the head; what layers hold that use the keys
# and values of others
UNUSED = (
    *("rope_freqs.weight", "rope_factors_*.weight", "blk.*.attn_rot_embd", "blk.*.attn_rot_embd.weight"),
    *("blk.*.nextn.embed_tokens.weight", "blk.*.nextn.shared_head_head.weight"),
)
SHARED = ("blk.*.attn_[kv].*", "blk.*.attn_k_norm.weight")

ROTATED = ("llama", "mistral3", "smollm3", "granite", "granitemoe", "granitehybrid")  # neighbours turn in ggml here
KINDS = ("weight", "bias")
TILED = ("qwen35", "qwen35moe")  # value heads of Gated DeltaNet stand by their place within a key head
POST_NORM = Irregular("layers.*.mlp.pre", "blk.*.post_attention_norm")
PER_LAYER = (
    Irregular("embedding.per_layer.table", "per_layer_token_embd"),
    Irregular("embedding.per_layer.projection.weight", "per_layer_model_proj.weight"),
    Irregular("embedding.per_layer.norm", "per_layer_proj_norm"),
)
OWN: Mapping[str, tuple[Irregular, ...]] = {
    "gpt-oss": (POST_NORM,),
    "glm4moe": (POST_NORM,),
    "qwen3next": (POST_NORM,),
    "qwen35": (POST_NORM,),
    "qwen35moe": (POST_NORM,),
    "lfm2": (Irregular("final_norm", "token_embd_norm"),),
    "lfm2moe": (Irregular("final_norm", "token_embd_norm"),),
    "falcon": (
        Irregular("layers.*.mixer.body.attention.pre", "blk.*.attn_norm_2"),
        Irregular("layers.*.mixer.body.mlp.pre", "blk.*.attn_norm"),
    ),
    "gptneox": (
        Irregular("layers.*.mixer.body.attention.pre", "blk.*.attn_norm"),
        Irregular("layers.*.mixer.body.mlp.pre", "blk.*.ffn_norm"),
    ),
    "grok": (
        Irregular("layers.*.mixer.post", "blk.*.attn_output_norm"),
        *(Irregular(f"layers.*.mlp.body.shared.{m}.weight", f"blk.*.ffn_{m}.weight") for m in ("gate", "up", "down")),
    ),
    "falcon-h1": (Irregular("layers.*.mlp.pre.weight", "blk.*.ffn_norm"),),  # as llama.cpp reads it
    "gemma3n": (*PER_LAYER, Irregular("layers.*.mixer.body.attention.post", "blk.*.post_attention_norm")),
    "gemma4": (
        *PER_LAYER,
        Irregular("layers.*.input.body", "blk.*"),
        Irregular("layers.*.mlp.body.dense.pre", "blk.*.ffn_norm"),
        Irregular("layers.*.mlp.body.dense.post", "blk.*.post_ffw_norm_1"),
        Irregular("layers.*.mlp.body.sparse.post", "blk.*.post_ffw_norm_2"),
        Irregular("layers.*.mlp.body.sparse.body.norm", "blk.*.pre_ffw_norm_2"),
        Irregular("layers.*.mlp.body.sparse.body.router.norm.weight", "blk.*.ffn_gate_inp.scale"),
        Irregular("layers.*.mlp.body.sparse.body.router.expert_scale", "blk.*.ffn_down_exps.scale"),
    ),
}


def unused(architecture: str, decoder: Decoder, names: Collection[str]) -> set[str]:
    """The tensors of a file that the model knowingly does not need; of its layers those for multi-token prediction,
    which follow the others, where the model has none."""
    patterns = (*UNUSED, *(SHARED if architecture in ("gemma3n", "gemma4") else ()))
    found = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
    if not decoder.mtp:
        after = {name: name.split(".")[1] for name in names if name.startswith("blk.")}
        found |= {name for name, layer in after.items() if layer.isdecimal() and int(layer) >= len(decoder.layers)}
    return found


def entries(architecture: str, decoder: Decoder, have: Mapping[str, Shape]) -> list[Tensors]:
    """Every tensor of the model, with its name in a file of that `general.architecture` that holds tensors of these
    names and shapes."""
    found = spelled(decoder, _lines(architecture, decoder, have), gguf=True)
    steps = _steps(architecture, decoder)
    changed = [replace(entry, steps=(*entry.steps, *steps.get(entry.ours[0], ()))) for entry in found]
    return [_squeezed(entry, have) for entry in changed]


def _squeezed(entry: Tensors, have: Mapping[str, Shape]) -> Tensors:
    """The entry, with a change of shape where the file has other dimensions of 1: ggml keeps some, and drops others."""
    wanted = file_shapes(entry)
    shapes = {have[name] for name in wanted if name in have}
    if len(shapes) != 1 or set(wanted.values()) == shapes:
        return entry
    (shape,) = shapes
    same = all(_bare(shape) == _bare(other) for other in wanted.values())
    return replace(entry, steps=(Reshape(shape), *entry.steps)) if same else entry


def _bare(shape: Shape) -> Shape:
    return tuple(size for size in shape if size > 1)


def _lines(architecture: str, decoder: Decoder, have: Mapping[str, Shape]) -> list[Irregular]:
    """The names that the nouns do not say, and those that several of our tensors share."""
    lines = [*OWN.get(architecture, ()), *_ahead(decoder)]
    if "blk.0.ffn_gate.0.weight" in have:  # one expert by itself, as the first Mixtral files had them
        for part in ("gate", "up", "down"):
            lines.append(Irregular(f"layers.*.mlp.body.experts.{part}.weight", f"blk.*.ffn_{part}.{{}}.weight"))
    for node in walk(decoder, decoder.width):
        lines += _fused(architecture, node, decoder.width, have)
    return lines


def _fused(architecture: str, node: Node, width: int, have: Collection[str]) -> Iterator[Irregular]:
    """What one part has together that the file has apart, or the other way round."""
    path, blk = node.path, _block(node.path)

    def together(parts: Sequence[str], theirs: str, *steps: Step, kind: str = "weight") -> Irregular:
        return Irregular(tuple(f"{path}.{part}.{kind}" for part in parts), f"{blk}.{theirs}.{kind}", steps)

    match node.spec:
        case Attention(heads=heads, gate=gate) if architecture in ("qwen3next", *TILED) and gate:
            yield from (together(("q", "gate"), "attn_q", Split(groups=heads), kind=kind) for kind in KINDS)
        case Attention() if f"{blk}.attn_qkv.weight" in have:
            yield from (together(("q", "kv.k", "kv.v"), "attn_qkv", Split(), kind=kind) for kind in KINDS)
        case Parallel(branches=branches):
            yield from (Irregular(f"{path}.{branch.name}.body", blk) for branch in branches)
        case GatedMLP() if node.copies and f"{blk}.ffn_gate_up_exps.weight" in have:
            yield together(("gate", "up"), "ffn_gate_up_exps", Split(axis=1))
        case GatedMLP() if not node.copies and f"{blk}.ffn_gate.weight" not in have and f"{blk}.ffn_up.weight" in have:
            yield together(("gate", "up"), "ffn_up", Split())
        case LatentAttention(heads=heads, nope_dim=nope, v_dim=v, kv=kv) if f"{blk}.attn_kv_b.weight" not in have:
            # keys and values apart, as decoding uses them, the keys the other way round
            steps = (Transpose(only=0), Join((nope, v), 1), Reshape((heads, nope + v, kv.rank)))
            yield Irregular(f"{path}.kv_b.weight", (f"{blk}.attn_k_b.weight", f"{blk}.attn_v_b.weight"), steps)
        case GatedDeltaNet(k_heads=k_heads) as delta:
            values = (_tiled(delta, only=2),) if architecture in TILED else ()
            yield together(("q", "k", "v"), "attn_qkv", Split(), *values)
            if architecture == "qwen3next":
                yield together(("beta", "decay"), "ssm_ba", Split(groups=k_heads))
        case KimiDelta(heads=heads, head_dim=dim):
            convs = tuple(f"{blk}.ssm_conv1d_{part}.weight" for part in "qkv")
            yield Irregular(f"{path}.conv", convs, (Join((heads * dim,) * 3),))
        case ScalarGated():
            yield Irregular(f"{path}.gate.weight", f"{blk}.ffn_gate_inp_shexp.weight")
        case AltUpEnds(streams=streams):
            for ours, theirs in (("spread", "altup_proj"), ("merge", "altup_unembd_proj")):
                ways = tuple(f"{path}.{ours}.{i}.weight" for i in range(streams - 1))
                yield Irregular(ways, f"{theirs}.weight", (Split(), Reshape((1, width, width))))


def _ahead(decoder: Decoder) -> Iterator[Irregular]:
    """Layers for multi-token prediction, which follow the others."""
    for k in range(len(decoder.mtp)):
        ours, blk = f"mtp.{k}", f"blk.{len(decoder.layers) + k}"
        yield Irregular(f"{ours}.layer", blk)
        yield Irregular(f"{ours}.layer.mlp.pre", f"{blk}.post_attention_norm")
        yield Irregular(f"{ours}.join.weight", f"{blk}.nextn.eh_proj.weight")
        for part, name in (("embedding_norm", "enorm"), ("hidden_norm", "hnorm"), ("final_norm", "shared_head_norm")):
            yield Irregular(f"{ours}.{part}", f"{blk}.nextn.{name}")


def _steps(architecture: str, decoder: Decoder) -> dict[str, tuple[Step, ...]]:
    """Our tensor -> what makes it from one of the file that has the same name."""
    steps: dict[str, tuple[Step, ...]] = {}
    for node in walk(decoder, decoder.width):
        path = node.path
        match node.spec:
            case Attention(heads=heads, head_dim=dim, kv=kv) if architecture in ROTATED:
                for part, count in (("q", heads), ("kv.k", kv.heads)):
                    halves = Reorder(groups=count, rows=dim // 2, columns=2)
                    steps |= dict.fromkeys((f"{path}.{part}.weight", f"{path}.{part}.bias"), (halves,))
            case RMSNorm(offset=offset) if offset and architecture.startswith(("gemma", "qwen")):
                steps[f"{path}.weight"] = (Add(-offset),)  # stored as they multiply
            case Mamba2(norm=norm) as mamba:
                steps[f"{path}.A_log"] = (LogDecay(),)
                if norm:
                    inner = mamba.heads * mamba.head_dim
                    steps[f"{path}.norm.weight"] = (Reshape((norm.groups, inner // norm.groups)),)
            case KimiDelta():
                steps[f"{path}.A_log"] = (LogDecay(),)
            case GatedDeltaNet() as delta:
                steps[f"{path}.A_log"] = (LogDecay(),)
                if architecture in TILED:
                    steps |= _tiled_steps(path, delta)
    return steps


def _tiled(delta: GatedDeltaNet, unit: int | None = None, axis: int = 0, only: int | None = None) -> Reorder:
    """Value heads: in the file the first of every key head come first, here those of the first key head."""
    each = delta.v_dim if unit is None else unit
    return Reorder(1, delta.v_heads // delta.k_heads, delta.k_heads, each, axis, only)


def _tiled_steps(path: str, delta: GatedDeltaNet) -> dict[str, tuple[Step, ...]]:
    heads, keys, values = _tiled(delta, unit=1), 2 * delta.k_heads * delta.k_dim, delta.v_heads * delta.v_dim
    # of the convolution only the values' channels, which come after those of queries and keys
    last = Reorder(1, delta.v_heads // delta.k_heads, delta.k_heads, delta.v_dim, only=1)
    return {
        f"{path}.A_log": (LogDecay(), heads),
        f"{path}.dt_bias": (heads,),
        f"{path}.beta.weight": (heads,),
        f"{path}.decay.weight": (heads,),
        f"{path}.gate.weight": (_tiled(delta),),
        f"{path}.o.weight": (_tiled(delta, axis=1),),
        f"{path}.conv": (Split(), last, Join((keys, values))),
    }


def _block(path: str) -> str:
    """ "blk.3" for what lies in our layer 3."""
    group, _, rest = path.partition(".")
    return f"blk.{rest.partition('.')[0]}" if group == "layers" else ""
