"""GGUF's metadata as a config.json, from which the same architecture function makes the spec.

The facts are those of ggml-org/llama.cpp: conversion/*.py for what a file says, src/models/*.cpp for what it leaves
unsaid.
"""

from __future__ import annotations

from math import erf
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UnknownKeysError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .gguf import GGUF

MOST_EXPERTS = 4096  # more than that is a damaged file
SIGMOID = 2  # enum llama_expert_gating_func_type


def config(gguf: GGUF, ignored: Collection[str] = ()) -> dict[str, Any]:
    """The config.json that a Hugging Face folder of this model would have, as transformers 5 writes it.

    Args:
        gguf: an open file.
        ignored: metadata keys that may go unread.

    Raises:
        InputError: the architecture is not supported, or a key is missing, impossible, or would be ignored.
    """
    meta = Metadata(gguf)
    parts = gguf.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > gguf.parts:  # only its header is here
        raise InputError(f"{gguf.path}: one of {parts} parts of a model; join them with llama-gguf-split --merge")
    result = ARCHITECTURES[known(gguf)](meta)
    for key in ("bos", "eos"):
        if (token := gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            result[f"{key}_token_id"] = token
    if unread := sorted(meta.unread() - set(ignored)):
        raise UnknownKeysError(
            f"{gguf.path}: unknown {'keys' if len(unread) > 1 else 'key'} {', '.join(unread)}", unread
        )
    return result


def known(gguf: GGUF) -> str:
    """The file's `general.architecture`. Raises InputError where it is missing or none of ours, and for a file that
    holds no model of its own."""
    refuse_additions(gguf)
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise InputError(f"{gguf.path}: general.architecture is missing; the model cannot be known without it")
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{gguf.path}: GGUF architecture {architecture[:60]!r} is not supported (only {', '.join(ARCHITECTURES)}); "
            "use the model's Hugging Face folder instead"
        )
    return architecture


# `general.type` of what goes with a model's file
ADDITIONS = {
    "adapter": "an adapter (LoRA); give the model that it was made for, or merge both with llama-export-lora",
    "mmproj": "the image or sound part of a model; give the .gguf file of its text model",
    "imatrix": "statistics for quantization; give the model's own .gguf file",
}


def refuse_additions(gguf: GGUF) -> None:
    """Raises InputError for a file that goes with a model and is none, naming what it is and what to give."""
    kind = gguf.metadata.get("general.type", "mmproj" if gguf.metadata.get("general.architecture") == "clip" else None)
    if isinstance(kind, str) and kind in ADDITIONS:
        raise InputError(f"{gguf.path}: {ADDITIONS[kind]}")


class Metadata:
    """The metadata of one file's architecture, remembering what was read. Keys go without the architecture's name."""

    def __init__(self, gguf: GGUF) -> None:
        self.gguf = gguf
        self.architecture = str(gguf.metadata.get("general.architecture"))
        self._read = {f"{self.architecture}.{key}" for key in HARMLESS}

    def __contains__(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.gguf.metadata

    def get(self, key: str, default: object = None) -> Any:
        """The value of a key, or `default` where the file does not have it."""
        full = f"{self.architecture}.{key}"
        self._read.add(full)
        return self.gguf.metadata.get(full, default)

    def _required(self, key: str, default: object) -> Any:
        value = self.get(key, default)
        if value is None:
            raise InputError(f"{self.gguf.path}: {self.architecture}.{key} is missing; convert the model again")
        return value

    def refuse(self, key: str, value: object, wanted: str) -> InputError:
        """The error to raise about the value of a key."""
        return InputError(f"{self.gguf.path}: {self.architecture}.{key} is {repr(value)[:60]}, not {wanted}")

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive integer; a list of equal ones, one for each layer, counts as one."""
        value = self._required(key, default)
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if type(value) is not int or value <= 0:
            raise self.refuse(key, value, "a positive integer")
        return value

    def whole_or(self, key: str, default: int) -> int:
        """An integer that may be 0."""
        return default if self.get(key, default) == 0 else self.whole(key, default)

    def number(self, key: str, default: float | None = None) -> float:
        """A float32 as the shortest decimal that gives it: the number that was in config.json."""
        value = self._required(key, default)
        if type(value) not in (int, float) or not np.isfinite(value):
            raise self.refuse(key, value, "a number")
        return float(str(np.float32(value)))

    def share(self, key: str, among: int) -> int:
        """A positive integer divided evenly."""
        value = self.whole(key)
        if value % among:
            raise self.refuse(key, value, f"a multiple of {among}")
        return value // among

    def items(self, key: str, count: int) -> list[Any]:
        """A list of so many numbers, one for each layer."""
        value = self._required(key, None)
        if not isinstance(value, list) or len(value) != count or not all(type(v) in (int, float) for v in value):
            raise self.refuse(key, value, f"a list of {count} numbers")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a matrix that says what the metadata leave unsaid."""
        info = self.gguf.tensors.get(name)
        if info is None or len(info.shape) != 2:
            raise InputError(f"{self.gguf.path}: no matrix {name}; convert the model again")
        return info.shape

    def layers(self) -> int:
        """The number of layers; each has some tensors, so there are fewer of them than tensors."""
        count = self.whole("block_count")
        if count > len(self.gguf.tensors):
            raise self.refuse("block_count", count, f"that of a file with {len(self.gguf.tensors)} tensors")
        return count

    def unread(self) -> set[str]:
        """Keys of the architecture that nobody has asked for."""
        return {key for key in self.gguf.metadata if key.startswith(f"{self.architecture}.")} - self._read


# What changes nothing: the embedding gives the vocabulary, the layout is the same for all, and provenance.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "rope.dimension_sections")


def outside(meta: Metadata) -> dict[str, Any]:
    """The keys of config.json that every family has."""
    embedding = meta.gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise InputError(f"{meta.gguf.path}: no matrix token_embd.weight; the file does not hold a language model")
    if meta.get("attention.causal", True) is not True:
        raise meta.refuse("attention.causal", False, "true: this is not a decoder")
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": meta.whole("embedding_length"),
        "num_hidden_layers": meta.layers() - meta.whole_or("nextn_predict_layers", 0),
        "max_position_embeddings": meta.whole("context_length"),
        "tie_word_embeddings": "output.weight" not in meta.gguf.tensors,
    }


def attention(meta: Metadata) -> dict[str, Any]:
    """Heads, and their dimension. Hybrids say for each layer how many keys it has, 0 where it has no attention."""
    heads = meta.whole("attention.head_count")
    dim = meta.whole("attention.key_length", meta.whole("embedding_length") // heads)
    if (value := meta.whole("attention.value_length", dim)) != dim:
        raise meta.refuse("attention.value_length", value, f"the head dimension {dim}, which is all that is supported")
    kv = meta.get("attention.head_count_kv", heads)
    several = sorted(set(kv) - {0}) if isinstance(kv, list) and all(type(item) is int for item in kv) else [kv]
    if len(several) != 1 or type(several[0]) is not int or several[0] <= 0:
        raise meta.refuse("attention.head_count_kv", kv, "a positive integer")
    return {"num_attention_heads": heads, "num_key_value_heads": several[0], "head_dim": dim}


def dense(meta: Metadata, partial: bool = False) -> dict[str, Any]:
    """What Llama and its kin say. RoPE over a part of each head is read where it is `partial`."""
    heads = attention(meta)
    return {
        **outside(meta),
        **heads,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, heads["head_dim"], partial=partial),
    }


def biased(meta: Metadata, part: str = "attn_q") -> bool:
    """Whether a projection has a bias in some layer."""
    return any(f"blk.{i}.{part}.bias" in meta.gguf.tensors for i in range(meta.layers()))


def present(meta: Metadata, part: str) -> list[bool]:
    """Which layers have a tensor."""
    return [f"blk.{i}.{part}" in meta.gguf.tensors for i in range(meta.layers())]


def has_keys(meta: Metadata) -> list[bool]:
    """Which layers of a hybrid have attention: those whose number of keys is not 0."""
    kv = meta.get("attention.head_count_kv")
    if not isinstance(kv, list):
        return [True] * meta.layers()
    return [item > 0 for item in kv[: meta.layers()]]


def rope(meta: Metadata, dim: int, theta: float = 10_000.0, partial: bool = False) -> dict[str, Any]:
    """`rope_parameters` of config.json; `theta` where the file is silent, as in llama.cpp."""
    theta, turned = meta.number("rope.freq_base", theta), meta.whole("rope.dimension_count", dim)
    if turned != dim and not partial:
        raise meta.refuse("rope.dimension_count", turned, f"the head dimension {dim}, which is all that is supported")
    part = {"partial_rotary_factor": turned / dim} if partial else {}
    kind = meta.get("rope.scaling.type", "none")
    derived = llama3_scaling(meta, dim, theta)
    if kind != "none" and derived:
        raise meta.refuse("rope.scaling.type", kind, "possible together with rope_freqs.weight")
    if kind == "none":
        linear = meta.number("rope.scale_linear", 1.0)  # how the first files said it
        scaling = derived or ({"rope_type": "linear", "factor": linear} if linear != 1 else {"rope_type": "default"})
    elif kind == "linear":
        scaling = {"rope_type": kind, "factor": meta.number("rope.scaling.factor")}
    elif kind == "yarn":
        scaling = {
            "rope_type": kind,
            "factor": meta.number("rope.scaling.factor"),
            "original_max_position_embeddings": meta.whole("rope.scaling.original_context_length"),
        }
        for key, name in YARN.items():
            if f"rope.scaling.{key}" in meta:
                scaling[name] = meta.number(f"rope.scaling.{key}")
    else:
        raise meta.refuse("rope.scaling.type", kind, "none, linear or yarn, which is all that is supported")
    return {"rope_theta": theta, **part, **scaling}


YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}


def llama3_scaling(meta: Metadata, dim: int, theta: float) -> dict[str, Any]:
    """Llama 3.1's scaling of RoPE, recognised by the table `rope_freqs.weight` of divisors that it was turned into.

    All published models share the original context 8,192 and the thresholds 1 and 4 (Llama 4: 1 and 1), and differ in
    the factor.
    """
    if "rope_freqs.weight" not in meta.gguf.tensors:
        return {}
    divisors = meta.gguf.array("rope_freqs.weight").reshape(-1)
    factor, low, context = float(divisors.max()), 1.0, 8192
    high = 1.0 if meta.architecture == "llama4" else 4.0
    turns = context / (2 * np.pi * theta ** (np.arange(0, dim, 2) / dim))
    blend = np.clip((turns - low) / (high - low), 0, 1) if high > low else np.where(turns < low, 0.0, 1.0)
    if not (np.isfinite(factor) and factor > 0):
        factor = 1.0
    expected = 1 / ((1 - blend) / factor + blend)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
        raise InputError(
            f"{meta.gguf.path}: rope_freqs.weight is not Llama 3's scaling of RoPE, the only one supported"
        )
    if factor == 1:
        return {}
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }


def llama(meta: Metadata) -> dict[str, Any]:
    """Llama, and Mixtral where there are experts."""
    base = {**dense(meta), "hidden_act": "silu"}
    if meta.get("expert_count", 0):
        return {"model_type": "mixtral", **base, **experts(meta, "num_local_experts")}
    meta.get("expert_used_count")
    return {"model_type": "llama", **base, "attention_bias": biased(meta), "mlp_bias": biased(meta, "ffn_up")}


def experts(meta: Metadata, count_key: str = "num_experts") -> dict[str, Any]:
    """How many experts there are and how many of them a token uses."""
    count = meta.whole("expert_count")
    if count > MOST_EXPERTS:
        raise meta.refuse("expert_count", count, f"at most {MOST_EXPERTS}")
    return {count_key: count, "num_experts_per_tok": meta.whole("expert_used_count")}


def routed(meta: Metadata) -> dict[str, Any]:
    """DeepSeek's experts, in the keys that its kin share."""
    return {
        **experts(meta, "n_routed_experts"),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "n_shared_experts": meta.whole_or("expert_shared_count", 0),
        "first_k_dense_replace": meta.whole_or("leading_dense_block_count", 0),
        "routed_scaling_factor": meta.number("expert_weights_scale", 1.0),
        "norm_topk_prob": bool(meta.get("expert_weights_norm", False)),
        "n_group": meta.whole("expert_group_count", 1),
        "topk_group": meta.whole("expert_group_used_count", 1),
    }


def mistral(meta: Metadata) -> dict[str, Any]:
    """The text models of Mistral Small 3.1 and, where there is a temperature, Ministral 3; both are mistral3 here."""
    base = {**dense(meta), "hidden_act": "silu", "sliding_window": None}
    if "attention.temperature_scale" not in meta:
        return {"model_type": "mistral", **base}
    base["rope_parameters"] |= {
        "llama_4_scaling_beta": meta.number("attention.temperature_scale"),
        "mscale": 1.0,
        "mscale_all_dim": meta.number("rope.scaling.yarn_log_multiplier", 0.0),
    }
    return {"model_type": "ministral3", **base}


def smollm3(meta: Metadata) -> dict[str, Any]:
    """SmolLM3. The file does not say which layers go without RoPE: every fourth (src/models/smollm3.cpp)."""
    return {
        **llama(meta),
        "model_type": "smollm3",
        "no_rope_layer_interval": 4,
        "no_rope_layers": [int((i + 1) % 4 != 0) for i in range(meta.layers())],
        "use_sliding_window": False,
    }


def qwen2(meta: Metadata) -> dict[str, Any]:
    """Qwen 2 and 2.5, dense."""
    return {"model_type": "qwen2", **dense(meta), "hidden_act": "silu", "use_sliding_window": False}


def gemma(meta: Metadata) -> dict[str, Any]:
    """Gemma 1."""
    return {"model_type": "gemma", **dense(meta), "attention_bias": biased(meta)}


def granite(meta: Metadata) -> dict[str, Any]:
    """Granite 3, dense."""
    return {
        **llama(meta),
        "model_type": "granite",
        "attention_multiplier": meta.number("attention.scale"),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def qwen3(meta: Metadata) -> dict[str, Any]:
    """Qwen3, dense."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    return {"model_type": "qwen3", **base, "use_sliding_window": False}


def qwen3_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3 with experts in every layer and normalised weights, as llama.cpp has it (src/models/qwen3moe.cpp)."""
    return {
        **qwen3(meta),
        "model_type": "qwen3_moe",
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def delta_net(meta: Metadata, model_type: str) -> dict[str, Any]:
    """What Qwen3-Next and Qwen3.5 share: Gated DeltaNet, and every so many layers attention over a part of each
    head."""
    heads = meta.whole("ssm.time_step_rank")
    return {
        **dense(meta, partial=True),
        "model_type": model_type,
        "attention_bias": biased(meta),
        "full_attention_interval": meta.whole("full_attention_interval", 4),
        "layer_types": ["full_attention" if item else "linear_attention" for item in present(meta, "attn_q.weight")],
        "linear_conv_kernel_dim": meta.whole("ssm.conv_kernel"),
        "linear_key_head_dim": meta.whole("ssm.state_size"),
        "linear_num_key_heads": meta.whole("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_value_head_dim": meta.share("ssm.inner_size", heads),
    }


def qwen3_next(meta: Metadata) -> dict[str, Any]:
    """Qwen3-Next."""
    return {
        **delta_net(meta, "qwen3_next"),
        **gated_shared(meta),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def gated_shared(meta: Metadata) -> dict[str, Any]:
    """Qwen's experts with a shared one."""
    return {
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "shared_expert_intermediate_size": meta.whole("expert_shared_feed_forward_length"),
    }


def qwen3_5(meta: Metadata) -> dict[str, Any]:
    """Qwen3.5, dense."""
    return delta_net(meta, "qwen3_5_text")


def qwen3_5_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3.5 with experts."""
    meta.get("feed_forward_length")
    base = {**delta_net(meta, "qwen3_5_moe_text"), **gated_shared(meta)}
    return {key: value for key, value in base.items() if key != "intermediate_size"}


def _gemma(meta: Metadata, largest: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share. Scores are scaled by the head dimension, but in the largest model, known by its number
    of layers, by the width of a head's share (src/models/gemma2.cpp, gemma3.cpp)."""
    base = dense(meta)
    share = base["hidden_size"] // base["num_attention_heads"]
    return {
        **base,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": biased(meta),
        "query_pre_attn_scalar": share if base["num_hidden_layers"] == largest else base["head_dim"],
    }


def gemma2(meta: Metadata) -> dict[str, Any]:
    """Gemma 2: the first of every two layers is windowed."""
    return {
        "model_type": "gemma2",
        **_gemma(meta, largest=46),
        "sliding_window": meta.whole("attention.sliding_window", 4096),
        "layer_types": windows(meta, every=2),
        "attn_logit_softcapping": meta.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 30.0),
    }


def gemma3(meta: Metadata) -> dict[str, Any]:
    """Gemma 3: five windowed layers for each full one, each kind with its own RoPE; without a window all are full."""
    windowed = "attention.sliding_window" in meta
    return {
        "model_type": "gemma3_text",
        **_gemma(meta, largest=62),
        "rope_parameters": two_ropes(meta, 1_000_000.0),
        "sliding_window": meta.whole("attention.sliding_window") if windowed else None,
        "layer_types": windows(meta, every=6 if windowed else 1),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
    }


def two_ropes(meta: Metadata, theta: float, local: float = 10_000.0, partial: bool = False) -> dict[str, Any]:
    """RoPE of full and of windowed layers, with the bases where the file is silent; a scaling is of the full ones."""
    full = rope(meta, attention(meta)["head_dim"], theta, partial)
    part = {"partial_rotary_factor": full["partial_rotary_factor"]} if partial else {}
    base = meta.number("rope.freq_base_swa", local)
    return {"full_attention": full, "sliding_attention": {"rope_theta": base, "rope_type": "default", **part}}


def gemma3n(meta: Metadata) -> dict[str, Any]:
    """Gemma 3n. Where channels stay inactive the file gives the threshold in standard deviations."""
    base = dense(meta) | {"rope_parameters": two_ropes(meta, 1_000_000.0)}
    deviations = meta.items("activation_sparsity_scale", base["num_hidden_layers"])
    laurel, table = meta.shape("blk.0.laurel_l.weight"), meta.shape("per_layer_token_embd.weight")
    return {
        "model_type": "gemma3n_text",
        **base,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": biased(meta),
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": windows(meta, every=5),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
        "activation_sparsity_pattern": [round((1 + erf(z / 2**0.5)) / 2, 6) for z in deviations],
        "altup_active_idx": meta.whole_or("altup.active_idx", 0),
        "altup_num_inputs": meta.whole("altup.num_inputs"),
        "altup_correct_scale": present(meta, "altup_correct_scale.weight")[0],
        "hidden_size_per_layer_input": meta.whole("embedding_length_per_layer_input"),
        "vocab_size_per_layer_input": table[0],
        "num_kv_shared_layers": meta.whole_or("attention.shared_kv_layers", 0),
        "laurel_rank": laurel[0],
    }


def olmo2(meta: Metadata) -> dict[str, Any]:
    """OLMo 2, and Olmo 3 where there is a window; scaling of RoPE then belongs to the full layers."""
    base = {**dense(meta), "hidden_act": "silu", "attention_bias": biased(meta)}
    if "attention.sliding_window" not in meta:
        return {"model_type": "olmo2", **base}
    return {
        "model_type": "olmo3",
        **base,
        "rope_parameters": two_ropes(meta, 10_000.0, base["rope_parameters"]["rope_theta"]),
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": windows(meta, every=4),
    }


def gpt2(meta: Metadata) -> dict[str, Any]:
    """GPT-2."""
    base = outside(meta)
    meta.get("attention.head_count_kv")
    return {
        "model_type": "gpt2",
        "vocab_size": base["vocab_size"],
        "tie_word_embeddings": base["tie_word_embeddings"],
        "n_embd": base["hidden_size"],
        "n_layer": base["num_hidden_layers"],
        "n_positions": base["max_position_embeddings"],
        "n_head": meta.whole("attention.head_count"),
        "n_inner": meta.whole("feed_forward_length"),
        "layer_norm_epsilon": meta.number("attention.layer_norm_epsilon"),
    }


def gpt_oss(meta: Metadata) -> dict[str, Any]:
    """gpt-oss: every second layer is windowed, the first one too."""
    meta.get("feed_forward_length")
    base = dense(meta)
    base["rope_parameters"]["truncate"] = False
    return {
        "model_type": "gpt_oss",
        **base,
        **experts(meta, "num_local_experts"),
        "intermediate_size": meta.whole("expert_feed_forward_length"),
        "attention_bias": biased(meta),
        "sliding_window": meta.whole("attention.sliding_window"),
    }


def latent(meta: Metadata) -> dict[str, Any]:
    """Latent attention. Newer files say the sizes of a head under names of their own."""
    rotary = meta.whole("rope.dimension_count")
    length = "_mla" if "attention.key_length_mla" in meta else ""
    for key in ("key_length", "value_length", "head_count_kv"):
        meta.get(f"attention.{key}")
    return {
        "num_attention_heads": meta.whole("attention.head_count"),
        "q_lora_rank": meta.get("attention.q_lora_rank"),
        "kv_lora_rank": meta.whole("attention.kv_lora_rank"),
        "qk_nope_head_dim": meta.whole(f"attention.key_length{length}") - rotary,
        "qk_rope_head_dim": rotary,
        "v_head_dim": meta.whole(f"attention.value_length{length}"),
    }


def deepseek2(meta: Metadata) -> dict[str, Any]:
    """DeepSeek V2, and V3 and its kin where a sigmoid scores."""
    base = {
        **outside(meta),
        **latent(meta),
        **routed(meta),
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, meta.whole("rope.dimension_count")),
    }
    if "rope.scaling.yarn_log_multiplier" in meta:  # a tenth of mscale_all_dim, which mscale equals
        mscale = round(10 * meta.number("rope.scaling.yarn_log_multiplier"), 6)
        base["rope_parameters"] |= {"mscale": mscale, "mscale_all_dim": mscale}
    if meta.get("expert_gating_func") == SIGMOID or any(present(meta, "exp_probs_b.bias")):
        return {"model_type": "deepseek_v3", **base, "num_nextn_predict_layers": 0}
    grouped = base["n_group"] > 1
    return {"model_type": "deepseek_v2", **base, "topk_method": "group_limited_greedy" if grouped else "greedy"}


def glm4_moe(meta: Metadata) -> dict[str, Any]:
    """GLM-4.5 and what follows. Its layers for multi-token prediction are the last of the file's."""
    meta.get("expert_gating_func")
    return {
        "model_type": "glm4_moe",
        **dense(meta, partial=True),
        **routed(meta),
        "attention_bias": biased(meta),
        "use_qk_norm": present(meta, "attn_q_norm.weight")[0],
        "num_nextn_predict_layers": meta.whole_or("nextn_predict_layers", 0),
    }


def minimax_m2(meta: Metadata) -> dict[str, Any]:
    """MiniMax-M2."""
    meta.get("expert_gating_func")
    meta.get("feed_forward_length")
    base = {**dense(meta, partial=True), **experts(meta, "num_local_experts")}
    return {"model_type": "minimax_m2", **base, "intermediate_size": meta.whole("expert_feed_forward_length")}


def llama4(meta: Metadata) -> dict[str, Any]:
    """Llama 4. The file does not say the chunk, the temperature and which layers go without RoPE, and that 128 experts
    mean no norms of queries and keys (src/models/llama4.cpp, llama-model.cpp)."""
    meta.get("leading_dense_block_count")
    meta.get("expert_gating_func")
    base = {**dense(meta), **experts(meta, "num_local_experts")}
    step = meta.whole("interleave_moe_layer_step", 1)
    return {
        "model_type": "llama4_text",
        **base,
        "intermediate_size": meta.whole("expert_feed_forward_length"),
        "intermediate_size_mlp": base["intermediate_size"],
        "interleave_moe_layer_step": step,
        "attention_bias": biased(meta),
        "no_rope_layer_interval": 4,
        "attention_chunk_size": 8192,
        "attn_temperature_tuning": True,
        "attn_scale": 0.1,
        "floor_scale": 8192,
        "use_qk_norm": base["num_local_experts"] != 128,
    }


def afmoe(meta: Metadata) -> dict[str, Any]:
    """Trinity. Every fourth layer sees everything (src/models/afmoe.cpp)."""
    meta.get("expert_gating_func")
    return {
        "model_type": "afmoe",
        **dense(meta),
        **experts(meta),
        "attention_bias": biased(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "num_shared_experts": meta.whole_or("expert_shared_count", 0),
        "num_dense_layers": meta.whole_or("leading_dense_block_count", 0),
        "route_norm": bool(meta.get("expert_weights_norm", True)),
        "route_scale": meta.number("expert_weights_scale", 1.0),
        "sliding_window": meta.whole("attention.sliding_window"),
        "global_attn_every_n_layers": 4,
        "mup_enabled": True,
    }


def bamba(meta: Metadata) -> dict[str, Any]:
    """Mamba-2 in the keys of Bamba and its kin."""
    heads = meta.whole("ssm.time_step_rank")
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": meta.share("ssm.inner_size", heads),
        "mamba_n_groups": meta.whole("ssm.group_count"),
        "mamba_d_state": meta.whole("ssm.state_size"),
        "mamba_d_conv": meta.whole("ssm.conv_kernel"),
        "mamba_conv_bias": biased(meta, "ssm_conv1d"),
        "mamba_proj_bias": biased(meta, "ssm_in"),
    }


FACTORS = """attention_in_multiplier attention_out_multiplier ssm_in_multiplier ssm_out_multiplier key_multiplier
    embedding_multiplier lm_head_multiplier""".split()


def falcon_h1(meta: Metadata) -> dict[str, Any]:
    """Falcon-H1, whose multipliers are folded into the weights; a tied head then is no longer the embedding."""
    return {
        "model_type": "falcon_h1",
        **dense(meta),
        **bamba(meta),
        "mamba_d_ssm": meta.whole("ssm.inner_size"),
        "mamba_rms_norm": present(meta, "ssm_norm.weight")[0],
        "mamba_norm_before_gate": False,
        "projectors_bias": biased(meta, "ssm_out"),
        "attention_bias": biased(meta),
        "mlp_bias": biased(meta, "ffn_up"),
        **dict.fromkeys(FACTORS, 1.0),
        "ssm_multipliers": [1.0] * 5,
        "mlp_multipliers": [1.0] * 2,
    }


def granite_hybrid(meta: Metadata) -> dict[str, Any]:
    """Granite 4."""
    rotates = bool(meta.get("rope.scaling.finetuned", False))
    base = {**dense(meta), **bamba(meta)}
    count = meta.whole_or("expert_count", 0)
    meta.get("expert_used_count")
    if not rotates:
        del base["rope_parameters"]
    return {
        "model_type": "granitemoehybrid",
        **base,
        **(experts(meta, "num_local_experts") if count else {"num_local_experts": 0}),
        "mamba_expand": meta.whole("ssm.inner_size") / base["hidden_size"],
        "layer_types": ["attention" if item else "mamba" for item in has_keys(meta)],
        "position_embedding_type": "rope" if rotates else None,
        "attention_bias": biased(meta),
        "shared_intermediate_size": meta.whole("expert_shared_feed_forward_length", base["intermediate_size"]),
        "attention_multiplier": meta.number("attention.scale"),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def nemotron_h(meta: Metadata) -> dict[str, Any]:
    """Nemotron-H and Nemotron 3: a layer has attention where it has keys, channels where it has a width, else a
    recurrence."""
    base, heads = outside(meta), meta.whole("ssm.time_step_rank")
    count, moe = base.pop("num_hidden_layers"), "expert_count" in meta
    widths = meta.items("feed_forward_length", count)
    kinds = zip(has_keys(meta), widths, strict=True)
    wide = [width for width in widths if width]
    sparse = {}
    if moe:
        sparse = routed(meta) | {"moe_shared_expert_intermediate_size": meta.whole("expert_shared_feed_forward_length")}
        sparse["moe_latent_size"] = meta.get("moe_latent_size")
        del sparse["first_k_dense_replace"]
    return {
        "model_type": "nemotron_h",
        **base,
        **attention(meta),
        **sparse,
        "layers_block_type": [
            "attention" if keys else ("moe" if moe else "mlp") if width else "mamba" for keys, width in kinds
        ],
        "layer_norm_epsilon": meta.number("attention.layer_norm_rms_epsilon"),
        "mamba_num_heads": heads,
        "mamba_head_dim": meta.share("ssm.inner_size", heads),
        "n_groups": meta.whole("ssm.group_count"),
        "ssm_state_size": meta.whole("ssm.state_size"),
        "conv_kernel": meta.whole("ssm.conv_kernel"),
        "use_bias": biased(meta, "ssm_in"),
        "use_conv_bias": biased(meta, "ssm_conv1d"),
        "mlp_bias": biased(meta, "ffn_up") or biased(meta, "ffn_up_shexp"),
        **({"intermediate_size": wide[0]} if wide and not moe else {}),
    }


def lfm2(meta: Metadata) -> dict[str, Any]:
    """LFM2, dense."""
    base = dense(meta)
    return {
        "model_type": "lfm2",
        **{key: value for key, value in base.items() if key != "rms_norm_eps"},
        "norm_eps": base["rms_norm_eps"],
        "layer_types": ["full_attention" if item else "conv" for item in has_keys(meta)],
        "conv_L_cache": meta.whole("shortconv.l_cache"),
        "conv_bias": biased(meta, "shortconv.conv"),
        "block_auto_adjust_ff_dim": False,
    }


def lfm2_moe(meta: Metadata) -> dict[str, Any]:
    """LFM2 with experts."""
    meta.get("expert_gating_func")
    base = lfm2(meta)
    del base["block_auto_adjust_ff_dim"]
    return {
        **base,
        "model_type": "lfm2_moe",
        **experts(meta),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "num_dense_layers": meta.whole_or("leading_dense_block_count", 0),
        "use_expert_bias": any(present(meta, "exp_probs_b.bias")),
        "norm_topk_prob": True,
        "routed_scaling_factor": meta.number("expert_weights_scale", 1.0),
    }


def mamba2(meta: Metadata) -> dict[str, Any]:
    """Mamba-2."""
    base, heads = outside(meta), meta.whole("ssm.time_step_rank")
    meta.get("feed_forward_length")
    meta.get("attention.head_count")
    return {
        "model_type": "mamba2",
        **base,
        "num_heads": heads,
        "head_dim": meta.share("ssm.inner_size", heads),
        "n_groups": meta.whole("ssm.group_count"),
        "state_size": meta.whole("ssm.state_size"),
        "expand": meta.whole("ssm.inner_size") / base["hidden_size"],
        "conv_kernel": meta.whole("ssm.conv_kernel"),
        "use_conv_bias": biased(meta, "ssm_conv1d"),
        "use_bias": biased(meta, "ssm_in"),
        "layer_norm_epsilon": meta.number("attention.layer_norm_rms_epsilon"),
    }


def kimi_linear(meta: Metadata) -> dict[str, Any]:
    """Kimi Linear."""
    base, sparse = outside(meta), routed(meta)
    full = [i + 1 for i, item in enumerate(has_keys(meta)) if item]
    dim, recurrent = meta.whole("kda.head_dim"), next((i for i, item in enumerate(has_keys(meta)) if not item), 0)
    count, shared = base["num_hidden_layers"], sparse.pop("n_shared_experts")
    meta.get("expert_gating_func")
    meta.get("rope.freq_base")  # of no use: nothing rotates
    moved = {"num_experts": "n_routed_experts", "num_experts_per_token": "num_experts_per_tok"}
    moved |= {"num_expert_group": "n_group", "moe_renormalize": "norm_topk_prob"}
    sparse |= {new: sparse.pop(old) for new, old in moved.items()}
    sparse["moe_renormalize"] = bool(meta.get("expert_weights_norm", True))
    return {
        "model_type": "kimi_linear",
        **{key: value for key, value in base.items() if key != "max_position_embeddings"},
        "model_max_length": base["max_position_embeddings"],
        **latent(meta),
        **sparse,
        "num_shared_experts": shared,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "intermediate_size": meta.whole("feed_forward_length"),
        "linear_attn_config": {
            "full_attn_layers": full,
            "kda_layers": [i for i in range(1, count + 1) if i not in full],
            "num_heads": meta.shape(f"blk.{recurrent}.attn_q.weight")[0] // dim,
            "head_dim": dim,
            "short_conv_kernel_size": meta.whole("ssm.conv_kernel"),
        },
    }


def windows(meta: Metadata, every: int) -> list[str]:
    """`layer_types`: as the file lists them, or with the last of `every` layers full."""
    key, count = "attention.sliding_window_pattern", meta.layers()
    pattern = meta.get(key, every)
    if type(pattern) is int and pattern > 0:
        pattern = [(i + 1) % pattern != 0 for i in range(count)]
    if not isinstance(pattern, list) or len(pattern) != count or not all(type(item) is bool for item in pattern):
        raise meta.refuse(key, pattern, f"a period or one truth value for each of {count} layers")
    return ["sliding_attention" if item else "full_attention" for item in pattern]


ARCHITECTURES: dict[str, Callable[[Metadata], dict[str, Any]]] = {
    "llama": llama,
    "mistral3": mistral,
    "smollm3": smollm3,
    "granite": granite,
    "qwen2": qwen2,
    "gemma": gemma,
    "qwen3": qwen3,
    "qwen3moe": qwen3_moe,
    "qwen3next": qwen3_next,
    "qwen35": qwen3_5,
    "qwen35moe": qwen3_5_moe,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "olmo2": olmo2,
    "gpt2": gpt2,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
    "glm4moe": glm4_moe,
    "minimax-m2": minimax_m2,
    "llama4": llama4,
    "afmoe": afmoe,
    "falcon-h1": falcon_h1,
    "granitehybrid": granite_hybrid,
    "nemotron_h": nemotron_h,
    "nemotron_h_moe": nemotron_h,
    "lfm2": lfm2,
    "lfm2moe": lfm2_moe,
    "mamba2": mamba2,
    "kimi-linear": kimi_linear,
}
