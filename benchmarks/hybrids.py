"""The native engine against transformers on models of a few hundred million random parameters, one for each kind of
layer that is not plain attention: `python benchmarks/hybrids.py [NAME …] [--turns N] [--weights f32|bf16] [--json]`.

The configs are those of released models with fewer and narrower layers. Needs the torch extra and transformers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

import vitruvius as vt
from vitruvius.cli.bench import told
from vitruvius.inference.bench import Lengths, bench

Config = dict[str, Any]


def shrunk(name: str, **changes: Any) -> Config:
    """The config of a catalog model, changed; None takes a key out."""
    small = {"vocab_size": 32_768, "max_position_embeddings": 8192}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = {**vt.catalog.entry(name).config, **small, **tokens, **changes}
    return {key: value for key, value in config.items() if value is not None}


MODELS: dict[str, Config] = {
    "moe (Qwen3, 128 experts, 8 active)": shrunk(
        "qwen3-30b-a3b",
        hidden_size=512,
        num_hidden_layers=16,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        moe_intermediate_size=128,
    ),
    "gated-deltanet (Qwen3-Next)": shrunk(
        "qwen3-next-80b-a3b",
        hidden_size=512,
        num_hidden_layers=20,
        num_attention_heads=8,
        head_dim=128,
        linear_num_key_heads=4,
        linear_num_value_heads=8,
        num_experts=32,
        num_experts_per_tok=4,
        moe_intermediate_size=256,
        shared_expert_intermediate_size=256,
        num_nextn_predict_layers=None,
    ),
    "kimi-delta (Kimi Linear)": shrunk(
        "kimi-linear-48b-a3b",
        max_position_embeddings=None,
        model_max_length=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=20,
        num_attention_heads=8,
        num_key_value_heads=8,
        kv_lora_rank=256,
        num_experts=32,
        num_experts_per_token=4,
        moe_intermediate_size=256,
        num_nextn_predict_layers=None,
        linear_attn_config={
            "head_dim": 128,
            "num_heads": 8,
            "short_conv_kernel_size": 4,
            "kda_layers": [layer for layer in range(1, 21) if layer % 4],
            "full_attn_layers": [4, 8, 12, 16, 20],
        },
    ),
    "mamba-2 (Nemotron 3 Nano)": shrunk(
        "nemotron-3-nano-30b-a3b",
        hidden_size=512,
        hybrid_override_pattern="MEMEM*E" * 3,
        num_hidden_layers=21,
        num_attention_heads=8,
        head_dim=64,
        mamba_num_heads=16,
        n_routed_experts=32,
        num_experts_per_tok=4,
        moe_intermediate_size=512,
        moe_shared_expert_intermediate_size=768,
        num_nextn_predict_layers=None,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="the beginning of a model's name; all, if none")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--weights", default="f32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lengths = Lengths(prompts=(512,), contexts=(128,), new=options.new_tokens)
    for name, config in MODELS.items():
        if options.names and not name.startswith(tuple(options.names)):
            continue
        with tempfile.TemporaryDirectory(prefix="vitruvius-") as folder:
            arch = vt.architecture(config)
            vt.save(vt.build(arch, dtype="bfloat16" if options.weights == "bf16" else "float32"), folder)
            report = bench(folder, "native", options.weights, lengths, options.turns, options.threads, ["transformers"])
        if options.json:
            print(json.dumps({"name": name, **report.to_dict()}))
        else:
            print(f"{name}: {vt.cost(arch).parameters.total / 1e6:,.0f} M parameters\n{told(report)}\n", flush=True)


if __name__ == "__main__":
    main()
