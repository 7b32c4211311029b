"""Writes a GGUF file with the shapes of a catalog model and random weights, so that engines can be timed on sizes whose
weights are not at hand: `python benchmarks/random_gguf.py llama-3.2-1b out.gguf [--kind BF16]`.

Dense Llama-like models (Llama 3, Qwen3) only. The file has no tokenizer; the numbers in it mean nothing. Needs `gguf`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

import vitruvius as vt
from vitruvius.spec import Attention, Decoder, GatedMLP, Llama3Scaling, RoPE, walk

NAMES = {  # canonical name within a layer -> GGUF's
    "mixer.pre.weight": "attn_norm.weight",
    "mixer.body.q.weight": "attn_q.weight",
    "mixer.body.kv.k.weight": "attn_k.weight",
    "mixer.body.kv.v.weight": "attn_v.weight",
    "mixer.body.q_norm.norm.weight": "attn_q_norm.weight",
    "mixer.body.kv.k_norm.norm.weight": "attn_k_norm.weight",
    "mixer.body.o.weight": "attn_output.weight",
    "mlp.pre.weight": "ffn_norm.weight",
    "mlp.body.gate.weight": "ffn_gate.weight",
    "mlp.body.up.weight": "ffn_up.weight",
    "mlp.body.down.weight": "ffn_down.weight",
}
ENDS = {
    "embedding.weight": "token_embd.weight",
    "final_norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
}


def spelled(path: str, tied: bool) -> str:
    if path == "head.weight" and tied:
        return "token_embd.weight"
    if path in ENDS:
        return ENDS[path]
    _, layer, rest = path.split(".", 2)
    return f"blk.{layer}.{NAMES[rest]}"


def describe(writer: gguf.GGUFWriter, arch: Decoder) -> None:
    attention, mlp = (branch.body for branch in arch.layers[0].branches)
    assert isinstance(attention, Attention)
    assert isinstance(mlp, GatedMLP)
    assert isinstance(attention.positions, RoPE)
    writer.add_context_length(arch.context)
    writer.add_embedding_length(arch.width)
    writer.add_block_count(len(arch.layers))
    writer.add_feed_forward_length(mlp.dim)
    writer.add_head_count(attention.heads)
    writer.add_head_count_kv(attention.kv.heads)
    writer.add_key_length(attention.head_dim)
    writer.add_value_length(attention.head_dim)
    writer.add_rope_dimension_count(attention.head_dim)
    writer.add_rope_freq_base(attention.positions.theta)
    writer.add_layer_norm_rms_eps(arch.final_norm.eps)
    writer.add_vocab_size(arch.embedding.vocab)
    writer.add_tokenizer_model("none")
    if isinstance(attention.positions.scaling, Llama3Scaling):  # llama.cpp wants the factors themselves
        writer.add_tensor("rope_freqs.weight", factors(attention.positions))


def factors(rope: RoPE) -> np.ndarray:
    """What each frequency is divided by (Llama 3.1, section 3.3)."""
    scaling = rope.scaling
    assert isinstance(scaling, Llama3Scaling)
    waves = 2 * np.pi * rope.theta ** (np.arange(0, rope.dim, 2) / rope.dim)
    low, high = (scaling.original_context / f for f in (scaling.low_freq_factor, scaling.high_freq_factor))
    kept = (scaling.original_context / waves - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    mixed = 1 / ((1 - kept) / scaling.factor + kept)
    return np.where(waves > low, scaling.factor, np.where(waves < high, 1.0, mixed)).astype(np.float32)


def write(name: str, target: Path, kind: str) -> None:
    arch, random = vt.architecture(name), np.random.default_rng(0)
    family = {"llama": "llama", "qwen3": "qwen3"}[arch.family]
    wanted = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(target, family, use_temp_file=True)
    describe(writer, arch)
    for node in walk(arch, arch.width):
        for path, weight, shape in node.weights():
            if weight.role == "vector":
                writer.add_tensor(spelled(path, arch.embedding.tied), np.ones(shape, np.float32))
                continue
            values = random.standard_normal(shape, np.float32) * np.float32(0.02)
            stored = gguf.quants.quantize(values, wanted)
            writer.add_tensor(spelled(path, arch.embedding.tied), stored, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("target", type=Path)
    parser.add_argument("--kind", default="BF16", help="a GGUF kind that the gguf package can quantise to")
    options = parser.parse_args()
    write(options.model, options.target, options.kind)
