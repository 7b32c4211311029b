"""Layers that a search has shaped one by one (Llama-Nemotron, DeciLM). transformers has no class for them: the
reference is made of its Llama's own parts, each with the sizes of its layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import torch
from reference import randomize
from safetensors.torch import save_file
from torch import Tensor, nn

import vitruvius as vt
from vitruvius.cost import cost
from vitruvius.errors import InputError
from vitruvius.native import library as native

CONFIG = cases.ALONE["nemotron_nas"]
WIDTHS = (256, 512)  # 1.3 and 6.5 times ⅔ of the width 60 (52 and 260), rounded up to 256


def reference(config: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Its modules under the names of the published files, and what it computes."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding

    rest = {key: value for key, value in config.items() if key not in ("block_configs", "model_type")}
    width, eps, vocab = config["hidden_size"], config["rms_norm_eps"], config["vocab_size"]
    model = nn.Module()
    model.model, model.lm_head = nn.Module(), nn.Linear(width, vocab, bias=False)
    model.model.embed_tokens, model.model.norm = nn.Embedding(vocab, width), LlamaRMSNorm(width, eps)
    model.model.layers, own = nn.ModuleList(), []
    for i, block in enumerate(config["block_configs"]):
        layer, attends, mlp = nn.Module(), block["attention"], block["ffn"]
        groups = config["num_attention_heads"] // (attends["n_heads_in_group"] or 1)
        hidden = 0 if mlp["no_op"] else WIDTHS[mlp["ffn_mult"] > 6]
        made = LlamaConfig(**{**rest, "num_key_value_heads": groups, "intermediate_size": hidden})
        made._attn_implementation = "eager"
        if not attends["no_op"]:
            layer.input_layernorm, layer.self_attn = LlamaRMSNorm(width, eps), LlamaAttention(made, i)
        if not mlp["no_op"]:
            layer.post_attention_layernorm, layer.mlp = LlamaRMSNorm(width, eps), LlamaMLP(made)
        model.model.layers.append(layer)
        own.append((layer, attends.get("window_length")))
    turning = LlamaRotaryEmbedding(made)

    def logits(ids: Tensor) -> Tensor:
        x, positions = model.model.embed_tokens(ids), torch.arange(ids.shape[1])
        turned, back = turning(x, positions[None]), positions[:, None] - positions
        for layer, window in own:
            hidden = (back < 0) | (back >= (window or len(positions)))
            mask = torch.zeros(1, 1, *back.shape).masked_fill(hidden, torch.finfo(torch.float32).min)
            if hasattr(layer, "self_attn"):
                x = x + layer.self_attn(layer.input_layernorm(x), turned, mask)[0]
            if hasattr(layer, "mlp"):
                x = x + layer.mlp(layer.post_attention_layernorm(x))
        result: Tensor = model.lm_head(model.model.norm(x))
        return result

    return model.eval(), logits


@torch.no_grad()
def test_layers_of_their_own_shapes_compute_what_llamas_parts_do(tmp_path: Path) -> None:
    model, logits = reference(CONFIG)
    randomize(model, torch.Generator().manual_seed(3))
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    ids = torch.randint(83, (2, cases.TOKENS), generator=torch.Generator().manual_seed(4))
    wanted = logits(ids)
    assert float((vt.load(tmp_path)(ids) - wanted).abs().max()) < 2e-4
    if native.library() is not None:
        engine = vt.engine(tmp_path, "f32", threads=1)
        assert float(np.abs(engine(ids.numpy()) - wanted.numpy()).max()) < 5e-4


# nvidia/Llama-3_3-Nemotron-Super-49B-v1, config.json as NVIDIA/NeMo holds it (llm/gpt/model/llama_nemotron_config.py):
# 49 layers that attend, the first with half of a feed-forward layer, and 31 that do not
SUPER = [(8, 2.625), *[(8, 5.25)] * 48, *[(None, 2.625)] * 5, *[(None, 1.3125)] * 10, *[(None, 1.0)] * 8]
SUPER += [*[(None, 0.5)] * 6, (None, 3.28125), (None, 5.25)]


def test_the_published_model_has_its_parameters() -> None:
    counts = {"hidden_size": 8192, "num_attention_heads": 64, "num_hidden_layers": len(SUPER), "vocab_size": 128256}
    config = CONFIG | counts | {"head_dim": None, "max_position_embeddings": 131072}
    sized = cost(vt.architecture(config | {"block_configs": [cases.searched(*block) for block in SUPER]}), context=1024)
    assert sized.parameters.total == 49_867_145_216
    assert sized.state.bytes_per_token == 49 * 2 * 8 * 128 * 2  # the layers that attend, in bf16


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}}, "replace_with_linear True"),
        ({"attention": {"n_heads_in_group": 3, "num_sink_tokens": 4}, "ffn": {"no_op": True}}, "num_sink_tokens 4"),
        ({"attention": {"n_heads_in_group": 0}, "ffn": {"no_op": True}}, "n_heads_in_group must be a positive integer"),
        ({"attention": {"no_op": True}}, "ffn is missing"),
        ({"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0, "gate": "tanh"}}, "a block holds gate"),
        ("all", "a block must be an object, got 'all'"),
    ],
)
def test_blocks_that_are_not_read_are_named(block: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vt.architecture(CONFIG | {"block_configs": [block], "num_hidden_layers": 1})
