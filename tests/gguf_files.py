"""GGUF files of tiny models, written from a Hugging Face folder with the `gguf` package, as llama.cpp's converter does
it (ggml-org/llama.cpp, conversion/*.py): its tables give the names, and here stands what is done to the weights."""

# ruff: noqa: PLR0912, PLR0915  what each family does stands in one place

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import NormalDist
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from vitruvius import catalog
from vitruvius.architectures import family_of, read
from vitruvius.checkpoints.steps import file_shapes
from vitruvius.spec import spelled

FLOAT = gguf.GGMLQuantizationType.F32
Tensors = dict[str, np.ndarray]
Config = dict[str, Any]

# model_type -> GGUF architecture
ARCHITECTURES = {
    "llama": "llama",
    "mixtral": "llama",
    "mistral": "mistral3",
    "ministral3": "mistral3",
    "smollm3": "smollm3",
    "granite": "granite",
    "qwen2": "qwen2",
    "gemma": "gemma",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "qwen3_next": "qwen3next",
    "qwen3_5_text": "qwen35",
    "qwen3_5_moe_text": "qwen35moe",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gemma3n_text": "gemma3n",
    "olmo2": "olmo2",
    "olmo3": "olmo2",
    "gpt2": "gpt2",
    "phi": "phi2",
    "phi3": "phi3",
    "glm": "chatglm",
    "glm4": "glm4",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
    "gpt_neox": "gptneox",
    "falcon": "falcon",
    "cohere": "command-r",
    "cohere2": "cohere2",
    "qwen2_moe": "qwen2moe",
    "olmoe": "olmoe",
    "granitemoe": "granitemoe",
    "gemma4_text": "gemma4",
    "mimo_v2_flash": "mimo2",
    "mistral4": "mistral4",
    "glm_moe_dsa": "glm-dsa",
    "glm4_moe_lite": "deepseek2",
    "qwen2_5_vl_text": "qwen2vl",
    "qwen3_vl_text": "qwen3vl",
    "qwen3_vl_moe_text": "qwen3vlmoe",
    "grok": "grok",
    "gpt_oss": "gpt-oss",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "kimi_k2": "deepseek2",
    "glm4_moe": "glm4moe",
    "minimax_m2": "minimax-m2",
    "llama4_text": "llama4",
    "afmoe": "afmoe",
    "falcon_h1": "falcon-h1",
    "granitemoehybrid": "granitehybrid",
    "nemotron_h": "nemotron_h_moe",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2moe",
    "mamba2": "mamba2",
    "kimi_linear": "kimi-linear",
}
TURNED = ("gpt-oss", "llama4", "qwen3vlmoe")  # whose experts are stored (…, in, out)
ROTATED = ("llama", "mistral3", "smollm3", "granite", "granitemoe", "granitehybrid")
# Experts' names that the converter changes before it looks them up
RENAMED = {
    r"backbone\.(layers\.\d+)\.mixer\.experts": r"model.\1.mlp.experts",
    r"model\.(.*feed_forward\.experts\.w\d)": r"\1",
}
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+)\.weight")


@dataclass(frozen=True)
class Made:
    """A tiny model: what a GGUF file of it says and holds, and its folder's tensors. Metadata have complete keys."""

    arch: str
    meta: dict[str, Any]
    tensors: Tensors
    folder: Tensors

    def write(self, path: Path, **more: Any) -> Path:
        """The file, with other metadata in the place of its own; keys without the architecture."""
        extra = {f"{self.arch}.{key}": value for key, value in more.items()}
        return write(path, self.arch, self.meta | extra, self.tensors)


def made(config: Config, folder: Tensors) -> Made:
    """What llama.cpp's converter makes of a folder with that config and these tensors."""
    name = ARCHITECTURES[config["model_type"]]
    if config["model_type"] == "nemotron_h" and not any("experts" in tensor for tensor in folder):
        name = "nemotron_h"
    meta = {f"{name}.{key}": value for key, value in metadata(name, config, folder).items() if value is not None}
    return Made(name, meta, converted(name, config, folder), folder)


def random(config: Config, seed: int = 3) -> Made:
    """A model of that config with random weights."""
    arch, rng = read(config, "random", catalog.implicit), np.random.default_rng(seed)
    names = {k: v for entry in spelled(arch, family_of(arch).irregular(arch)) for k, v in file_shapes(entry).items()}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}
    return made({**catalog.implicit(config["model_type"]), **config}, tensors)


def convert(folder: Path, path: Path, implied: Config | None = None) -> Path:
    """Writes the model of a folder as a GGUF file."""
    config = {**(implied or {}), **json.loads((folder / "config.json").read_text("utf-8"))}
    tensors = load_file(folder / "model.safetensors")
    if "text_config" in config:  # of which the converter takes the text model
        config = {**config["text_config"], "tie_word_embeddings": config["tie_word_embeddings"]}
        tensors = {n.replace("language_model.", ""): v for n, v in tensors.items() if "visual" not in n}
    return made(config, tensors).write(path)


def write(path: Path, arch: str, meta: dict[str, Any], tensors: dict[str, Any], alignment: int | None = None) -> Path:
    """A GGUF file made by the `gguf` package; a tensor is a float array, or (kind, rows of packed bytes)."""
    writer = gguf.GGUFWriter(path, arch)
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in meta.items():  # what is None is left out
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    for name, tensor in tensors.items():
        plain = not isinstance(tensor, tuple)
        kind, data = (FLOAT, np.ascontiguousarray(tensor, np.float32)) if plain else tensor
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pick(config: Config, *keys: str) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def metadata(arch: str, c: Config, tensors: Tensors) -> dict[str, Any]:
    """What a file of the architecture says (TextModel.set_gguf_parameters, and that of each model's class)."""
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    full = rope.get("full_attention", rope)
    heads = pick(c, "num_attention_heads", "n_head")
    width = pick(c, "hidden_size", "n_embd")
    dim = c.get("head_dim")
    kv = c.get("num_key_value_heads")
    count = pick(c, "num_hidden_layers", "n_layer") or len(c.get("layers_block_type", ()))
    meta: dict[str, Any] = {
        "block_count": count,
        "context_length": pick(c, "max_position_embeddings", "n_positions", "model_max_length"),
        "embedding_length": width,
        "feed_forward_length": pick(c, "intermediate_size", "n_inner"),
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": pick(c, "rms_norm_eps", "norm_eps"),
        "attention.key_length": dim,
        "attention.value_length": dim,
        "rope.freq_base": pick(full, "rope_theta") or c.get("rope_theta"),
        "rope.freq_base_swa": rope.get("sliding_attention", {}).get("rope_theta"),
        "expert_count": pick(c, "num_local_experts", "num_experts"),
        "expert_used_count": pick(c, "num_experts_per_tok", "num_experts_per_token"),
        "expert_group_count": c.get("n_group"),
        "expert_group_used_count": c.get("topk_group"),
    }
    kind = full.get("rope_type", full.get("type"))
    if kind in ("linear", "yarn"):
        meta |= {"rope.scaling.type": kind, "rope.scaling.factor": full["factor"]}
    if kind == "yarn":
        meta["rope.scaling.original_context_length"] = full["original_max_position_embeddings"]
        meta["rope.scaling.yarn_attn_factor"] = full.get("attention_factor")
        meta["rope.scaling.yarn_beta_fast"] = full.get("beta_fast")
        meta["rope.scaling.yarn_beta_slow"] = full.get("beta_slow")
    partial = pick(full, "partial_rotary_factor") or c.get("partial_rotary_factor")
    rotated = int((dim or width // max(heads or 1, 1)) * (partial or 1.0))
    if arch in (
        "llama",
        "mistral3",
        "smollm3",
        "afmoe",
        "llama4",
        "qwen3next",
        "qwen35",
        "qwen35moe",
        "glm4moe",
        "minimax-m2",
        "phi3",
        "glm4",
        "chatglm",
        "stablelm",
        "cohere2",
    ):
        meta["rope.dimension_count"] = c.get("rotary_dim") if arch == "minimax-m2" and not partial else rotated
    moe = {"expert_feed_forward_length": c.get("moe_intermediate_size")}
    layers = c.get("layer_types") or []
    match arch:
        case "mistral3" if c["model_type"] == "ministral3":
            meta["attention.temperature_scale"] = full["llama_4_scaling_beta"]
            meta["rope.scaling.yarn_log_multiplier"] = full["mscale_all_dim"]
        case "qwen3moe":
            meta |= moe
        case "qwen2vl" | "qwen3vl" | "qwen3vlmoe":
            meta |= moe | {"rope.dimension_sections": [*full["mrope_section"], 0]}
            if arch != "qwen2vl":
                meta["n_deepstack_layers"] = 1
        case "grok":
            meta |= moe | {
                "attention.output_scale": dim**-0.5,
                "attention.temperature_length": c["attn_temperature_len"],
                "attn_logit_softcapping": c["attn_logit_softcapping"],
                "router_logit_softcapping": c["router_logit_softcapping"],
                "final_logit_softcapping": c["final_logit_softcapping"],
                "embedding_scale": c["embedding_multiplier_scale"],
                "logit_scale": c["output_multiplier_scale"],
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 16.0,
                "rope.scaling.original_context_length": 8192,
                "rope.scaling.yarn_ext_factor": 1.0,
                "rope.scaling.yarn_attn_factor": 1.0,
                "rope.scaling.yarn_beta_fast": 8.0,
                "rope.scaling.yarn_beta_slow": 1.0,
            }
        case "mimo2":
            sliding = [int(kind == "sliding_attention") for kind in layers]
            meta |= moe | {
                "attention.head_count_kv": [kv * (2 if windowed else 1) for windowed in sliding],
                "attention.sliding_window": c["sliding_window"],
                "attention.sliding_window_pattern": sliding,
                "attention.value_length": c["v_head_dim"],
                "attention.value_scale": c["attention_value_scale"],
                "expert_count": c["n_routed_experts"],
                "rope.dimension_count": int(dim * full["partial_rotary_factor"]),
            }
        case "gemma4":
            shared, sliding = c["num_kv_shared_layers"], [kind == "sliding_attention" for kind in layers]
            wide, own = c["intermediate_size"], count - c["num_kv_shared_layers"]
            shapes = [c["per_layer_config"].get(str(i), {}) for i in range(count)]
            meta |= moe | {
                "attention.head_count_kv": [shape.get("num_key_value_heads", kv) for shape in shapes],
                "attention.key_length": (wider := next(shape["head_dim"] for shape in shapes if shape)),
                "attention.value_length": wider,
                "attention.key_length_swa": dim,
                "attention.value_length_swa": dim,
                "attention.shared_kv_layers": shared,
                "attention.sliding_window": c["sliding_window"],
                "attention.sliding_window_pattern": sliding,
                "embedding_length_per_layer_input": c["hidden_size_per_layer_input"],
                "expert_used_count": c.get("top_k_experts"),
                "feed_forward_length": [wide] * own + [2 * wide] * shared if c["use_double_wide_mlp"] else wide,
                "final_logit_softcapping": c["final_logit_softcapping"],
                "rope.dimension_count": wider,
                "rope.dimension_count_swa": dim,
            }
        case "qwen3next" | "qwen35" | "qwen35moe":
            meta |= moe | {
                "expert_shared_feed_forward_length": c.get("shared_expert_intermediate_size"),
                "ssm.conv_kernel": c["linear_conv_kernel_dim"],
                "ssm.state_size": c["linear_key_head_dim"],
                "ssm.group_count": c["linear_num_key_heads"],
                "ssm.time_step_rank": c["linear_num_value_heads"],
                "ssm.inner_size": c["linear_value_head_dim"] * c["linear_num_value_heads"],
                "full_attention_interval": c.get("full_attention_interval", 4),
            }
        case "qwen2moe":
            meta |= moe | {"expert_shared_feed_forward_length": c["shared_expert_intermediate_size"]}
        case "olmoe":
            meta["attention.layer_norm_rms_epsilon"] = 1e-5  # whatever the config says
        case "phi3":
            original = pick(c, "original_max_position_embeddings") or c["max_position_embeddings"]
            meta |= {
                "attention.key_length": None,
                "attention.value_length": None,
                "attention.sliding_window": c.get("sliding_window") or 0,
                "rope.scaling.original_context_length": original,
            }
            if kind == "longrope":
                scale = c["max_position_embeddings"] / original
                meta["rope.scaling.attn_factor"] = (1 + log(scale) / log(original)) ** 0.5
        case "stablelm":
            meta |= {
                "attention.layer_norm_epsilon": c["layer_norm_eps"],
                "use_parallel_residual": c["use_parallel_residual"],
            }
        case "phi2":
            meta |= {
                "attention.head_count_kv": heads,
                "attention.layer_norm_epsilon": c["layer_norm_eps"],
                "feed_forward_length": 4 * width,
                "rope.freq_base": None,
                "rope.dimension_count": int(partial * width) // heads,
            }
        case "starcoder2":
            meta["attention.layer_norm_epsilon"] = c["norm_epsilon"]
        case "gptneox":
            meta |= {
                "attention.head_count_kv": None,
                "attention.layer_norm_epsilon": c["layer_norm_eps"],
                "use_parallel_residual": c["use_parallel_residual"],
                "rope.freq_base": None,
                "rope.dimension_count": int(partial * (width // heads)),
            }
        case "falcon":
            meta |= {
                "attention.head_count_kv": c.get("num_kv_heads") if c["new_decoder_architecture"] else 1,
                "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
                "context_length": 2048,
                "feed_forward_length": 4 * width,
                "rope.freq_base": None,
                "tensor_data_layout": "jploski",
            }
        case "command-r" | "cohere2":
            meta |= {
                "attention.layer_norm_epsilon": c["layer_norm_eps"],
                "logit_scale": c["logit_scale"],
                "rope.scaling.type": "none",
            }
            if arch == "cohere2":
                meta |= {"attention.sliding_window": c["sliding_window"], "vocab_size": c["vocab_size"]}
        case "gemma2":
            meta["attn_logit_softcapping"] = c["attn_logit_softcapping"]
            meta["final_logit_softcapping"] = c["final_logit_softcapping"]
            meta["attention.sliding_window"] = c["sliding_window"]
        case "gemma3" | "gemma3n":
            meta["attention.sliding_window"] = c["sliding_window"]
            meta["final_logit_softcapping"] = c.get("final_logit_softcapping")
            meta["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in layers]
            if arch == "gemma3n":
                shares = c["activation_sparsity_pattern"]
                meta |= {
                    "altup.active_idx": c["altup_active_idx"],
                    "altup.num_inputs": c["altup_num_inputs"],
                    "embedding_length_per_layer_input": c["hidden_size_per_layer_input"],
                    "attention.shared_kv_layers": c["num_kv_shared_layers"],
                    "activation_sparsity_scale": [NormalDist().inv_cdf(s) if s else -float("inf") for s in shares],
                }
                if isinstance(c["intermediate_size"], list):
                    meta["feed_forward_length"] = c["intermediate_size"][0]
        case "olmo2" if c["model_type"] == "olmo3":
            meta["attention.sliding_window"] = c["sliding_window"]
            meta["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in layers]
        case "gpt2":
            meta["attention.layer_norm_epsilon"] = c["layer_norm_epsilon"]
            meta["feed_forward_length"] = 4 * width
        case "gpt-oss":
            meta["attention.sliding_window"] = c["sliding_window"]
            meta["expert_feed_forward_length"] = c["intermediate_size"]
        case "deepseek2" | "glm4moe" | "mistral4" | "glm-dsa":
            if full.get("mscale_all_dim") is not None:
                meta["rope.scaling.yarn_log_multiplier"] = 0.1 * full["mscale_all_dim"]
            meta |= moe | {
                "expert_count": c["n_routed_experts"],
                "expert_shared_count": c["n_shared_experts"],
                "leading_dense_block_count": c["first_k_dense_replace"],
                "expert_weights_scale": c["routed_scaling_factor"],
                "expert_weights_norm": c.get("norm_topk_prob") or None,
            }
            if arch == "glm4moe":
                meta["expert_gating_func"] = 2
            else:
                meta |= mla(c)
            if arch == "glm-dsa":
                meta |= {
                    "attention.indexer.head_count": c["index_n_heads"],
                    "attention.indexer.key_length": c["index_head_dim"],
                    "attention.indexer.top_k": c["index_topk"],
                }
        case "minimax-m2":
            meta["expert_feed_forward_length"] = c["intermediate_size"]
        case "llama4":
            meta["interleave_moe_layer_step"] = c["interleave_moe_layer_step"]
            meta["expert_feed_forward_length"] = c["intermediate_size"]
            meta["feed_forward_length"] = c["intermediate_size_mlp"]
        case "afmoe":
            meta |= moe | {
                "expert_shared_count": c["num_shared_experts"],
                "leading_dense_block_count": c["num_dense_layers"],
                "expert_weights_scale": c["route_scale"],
                "expert_weights_norm": True,
                "attention.sliding_window": c["sliding_window"],
            }
        case "falcon-h1":
            meta |= mamba(c) | {"ssm.inner_size": c["mamba_d_ssm"]}
        case "granite" | "granitemoe":
            meta |= {
                "attention.scale": c["attention_multiplier"],
                "embedding_scale": c["embedding_multiplier"],
                "residual_scale": c["residual_multiplier"],
                "logit_scale": c["logits_scaling"],
            }
        case "granitehybrid":
            meta |= mamba(c) | {
                "attention.scale": c["attention_multiplier"],
                "embedding_scale": c["embedding_multiplier"],
                "residual_scale": c["residual_multiplier"],
                "logit_scale": c["logits_scaling"],
                "expert_shared_feed_forward_length": c["shared_intermediate_size"],
                "attention.head_count_kv": [kv if kind in ("attention", "full_attention") else 0 for kind in layers],
                "rope.scaling.finetuned": False,
            }
        case "nemotron_h" | "nemotron_h_moe":
            wide = c["intermediate_size"] if arch == "nemotron_h" else c["moe_intermediate_size"]
            kinds = c["layers_block_type"]
            meta |= {
                "attention.layer_norm_rms_epsilon": c["layer_norm_epsilon"],
                "attention.head_count_kv": [kv if kind in ("attention", "full_attention") else 0 for kind in kinds],
                "feed_forward_length": [wide if kind in ("moe", "mlp") else 0 for kind in kinds],
                "ssm.conv_kernel": c["conv_kernel"],
                "ssm.state_size": c["ssm_state_size"],
                "ssm.group_count": c["n_groups"],
                "ssm.inner_size": c["mamba_num_heads"] * c["mamba_head_dim"],
                "ssm.time_step_rank": c["mamba_num_heads"],
            }
            if arch == "nemotron_h_moe":
                meta |= moe | {
                    "expert_shared_feed_forward_length": c["moe_shared_expert_intermediate_size"],
                    "expert_count": c["n_routed_experts"],
                    "expert_shared_count": c["n_shared_experts"],
                    "expert_weights_norm": c["norm_topk_prob"],
                    "expert_weights_scale": c["routed_scaling_factor"],
                    "moe_latent_size": c.get("moe_latent_size"),
                }
            else:
                meta["expert_count"] = meta["expert_used_count"] = None
                meta["expert_group_count"] = meta["expert_group_used_count"] = None
        case "lfm2" | "lfm2moe":
            meta |= {
                "attention.head_count_kv": [kv if kind == "full_attention" else 0 for kind in layers],
                "shortconv.l_cache": c["conv_L_cache"],
            }
            if arch == "lfm2":
                meta["feed_forward_length"] = next(v for k, v in tensors.items() if k.endswith("w1.weight")).shape[0]
            else:
                meta |= moe | {"leading_dense_block_count": c["num_dense_layers"], "expert_gating_func": 2}
        case "mamba2":
            inner = c["expand"] * c["hidden_size"]
            meta |= {
                "context_length": 2**20,
                "feed_forward_length": 0,
                "attention.head_count": 0,
                "attention.layer_norm_rms_epsilon": c["layer_norm_epsilon"],
                "ssm.conv_kernel": c["conv_kernel"],
                "ssm.state_size": c["state_size"],
                "ssm.group_count": c["n_groups"],
                "ssm.inner_size": inner,
                "ssm.time_step_rank": inner // c["head_dim"],
                "attention.key_length": None,
                "attention.value_length": None,
            }
        case "kimi-linear":
            full_layers = [kind == "full_attention" for kind in layers]
            meta |= (
                mla(c)
                | moe
                | {
                    "attention.head_count_kv": [int(item) for item in full_layers],
                    "ssm.conv_kernel": c["linear_conv_kernel_dim"],
                    "kda.head_dim": c["linear_head_dim"],
                    "expert_count": pick(c, "num_experts", "n_routed_experts", "num_local_experts"),
                    "expert_shared_count": c["num_shared_experts"],
                    "leading_dense_block_count": c["first_k_dense_replace"],
                    "expert_weights_scale": c["routed_scaling_factor"],
                    "expert_group_count": pick(c, "n_group", "num_expert_group"),
                }
            )
    return meta


def mla(c: Config) -> dict[str, Any]:
    rotary, rank = c["qk_rope_head_dim"], c["kv_lora_rank"]
    return {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": c.get("q_lora_rank"),
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rotary,
        "attention.value_length": rank,
        "attention.key_length_mla": c["qk_nope_head_dim"] + rotary,
        "attention.value_length_mla": c["v_head_dim"],
        "rope.dimension_count": rotary,
    }


def mamba(c: Config) -> dict[str, Any]:
    return {
        "ssm.conv_kernel": c["mamba_d_conv"],
        "ssm.state_size": c["mamba_d_state"],
        "ssm.group_count": c["mamba_n_groups"],
        "ssm.inner_size": int(c["mamba_expand"] * c["hidden_size"]),
        "ssm.time_step_rank": c["mamba_n_heads"],
    }


def converted(arch: str, c: Config, tensors: Tensors) -> Tensors:
    """GGUF's tensors."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    count = (pick(c, "num_hidden_layers", "n_layer") or len(c.get("layers_block_type", ()))) + 4
    names = gguf.get_tensor_name_map(kind, count)
    found: Tensors = {}
    for name, value in stacked(tensors).items():
        for new, changed in changes(arch, c, name, value):
            if new.startswith(("blk.", "altup_")):
                found[new] = changed
                continue
            called = names.get_name(renamed(new), try_suffixes=(".weight", ".bias"))
            assert called, f"{arch} has no name for {new}"
            found[called] = changed
    for length in ("long", "short"):
        if factors := (c.get("rope_parameters") or c.get("rope_scaling") or {}).get(f"{length}_factor"):
            found[f"rope_factors_{length}.weight"] = np.array(factors)
    if arch == "gemma4":
        wider = metadata(arch, c, tensors)["attention.key_length"]
        turning = int(wider * c["rope_parameters"]["full_attention"].get("partial_rotary_factor", 1.0) / 2)
        found["rope_freqs.weight"] = np.array([1.0] * turning + [1e30] * (wider // 2 - turning))
    for way in ("altup_proj", "altup_unembd_proj"):
        if streams := [found.pop(f"{way}.{i}") for i in range(8) if f"{way}.{i}" in found]:
            found[f"{way}.weight"] = np.stack(streams)
    return found


def renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = re.sub(old, new, name)
    return name


def stacked(tensors: Tensors) -> Tensors:
    """Experts that are tensors of their own as one tensor, under a name that has no number."""
    found: Tensors = {}
    several: dict[str, dict[int, np.ndarray]] = {}
    for name, value in tensors.items():
        if match := EXPERT.fullmatch(name):
            several.setdefault(f"{match[1]}.{match[3]}.weight", {})[int(match[2])] = value
        else:
            found[name] = value
    return found | {name: np.stack([each[i] for i in range(len(each))]) for name, each in several.items()}


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Halves of a head become neighbours (LlamaModel.permute)."""
    paired = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return paired.swapaxes(1, 2).reshape(weights.shape)


def tiled(weights: np.ndarray, c: Config, dim: int, axis: int = 0) -> np.ndarray:
    """Value heads by their place within a key head (_LinearAttentionVReorderBase)."""
    keys, shape = c["linear_num_key_heads"], weights.shape
    wide = weights.reshape(*shape[:axis], keys, c["linear_num_value_heads"] // keys, dim, *shape[axis + 1 :])
    return wide.swapaxes(axis, axis + 1).reshape(shape)


def changes(arch: str, c: Config, name: str, x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, values) of what one Hugging Face tensor becomes; names that gguf's tables know, or GGUF's own."""
    layer = re.search(r"layers\.(\d+)\.", name)
    blk = f"blk.{layer[1]}" if layer else ""
    if arch in ROTATED and name.split(".")[-2] in ("q_proj", "k_proj"):
        x = permuted(x, c["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
    if arch in ("gemma", "gemma2", "gemma3") and name.endswith("norm.weight"):
        x = x + 1
    if arch in ("qwen3next", "qwen35", "qwen35moe"):
        if name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
            x = x + 1
        if arch != "qwen3next" and "linear_attn" in name:
            x = tiled_part(name, c, x)
        if "conv1d" in name:
            x = x.squeeze()
        if "in_proj_qkvz" in name:
            return fused(c, blk, x)
    if name.endswith("kv_b_proj.weight"):
        heads, nope, v = c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"]
        both = x.reshape(heads, nope + v, -1)
        keys = both[:, :nope].swapaxes(1, 2)
        return [(name.replace("kv_b", "k_b"), keys), (name.replace("kv_b", "v_b"), both[:, nope:])]
    if name.endswith(("query_key_value.weight", "query_key_value.bias")):
        groups = meta_groups(arch, c)
        parts = x.reshape(groups, -1, c["hidden_size"] // c["num_attention_heads"], *x.shape[1:])
        return [(name, np.concatenate([y.reshape(-1, *x.shape[1:]) for y in np.split(parts, (-2, -1), axis=1)]))]
    if arch in ("gemma4", "mistral4") and ".experts." in name and not name.endswith(".weight"):
        return [(f"{name}.weight", x)]
    if arch == "gemma4" and name.endswith(("router.scale", "router.per_expert_scale")):
        return [(f"{blk}.{'ffn_gate_inp' if name.endswith('router.scale') else 'ffn_down_exps'}.scale", x)]
    if "gate_up_proj" in name and "experts" in name:
        bias = name.endswith("_bias")
        x = x if bias or arch not in TURNED else x.swapaxes(-1, -2)
        axis = 1
        half = x.shape[axis] // 2
        gate, up = (x[:, ::2], x[:, 1::2]) if arch == "gpt-oss" else (x[:, :half], x[:, half:])
        end = ".bias" if bias else ".weight"
        base = name.removesuffix("_bias").removesuffix("gate_up_proj")
        return [(f"{base}gate_proj{end}", gate), (f"{base}up_proj{end}", up)]
    if name.endswith(("experts.down_proj", "experts.down_proj_bias")):
        bias = name.endswith("_bias")
        x = x.swapaxes(-1, -2) if not bias and arch in TURNED else x
        return [(name.removesuffix("_bias") + (".bias" if bias else ".weight"), x)]
    if arch == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        x = x.T
    if arch in ("granitehybrid", "granitemoe") and "input_linear" in name:
        gate, up = np.split(x, 2, axis=-2)
        end = "exps" if "block_sparse" in name else "shexp" if c.get("num_local_experts") else ""
        return [(f"{blk}.ffn_{part}{'_' + end if end else ''}.weight", v) for part, v in (("gate", gate), ("up", up))]
    if arch == "granitehybrid" and "shared_mlp.output_linear" in name and not c.get("num_local_experts"):
        return [(f"{blk}.ffn_down.weight", x)]
    if arch == "gemma3n":
        if match := re.search(r"(altup_\w*projections)\.(\d)\.", name):
            return [(f"altup_{'unembd_' if 'unembed' in match[1] else ''}proj.{match[2]}", x)]
        name = f"{name}.weight" if name.endswith("_scale") else name
    recurrent = arch in ("mamba2", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe")
    if name.endswith(("A_log", "dt_bias")) or (recurrent and name.endswith((".D", "conv1d.weight"))):
        x = -np.exp(x) if name.endswith("A_log") else x
        x = x.reshape(-1, 1) if recurrent and name.endswith(("A_log", ".D")) else x
        x = x.squeeze() if name.endswith("conv1d.weight") else x
        name = name.replace("dt_bias", "dt_proj.bias" if arch != "nemotron_h_moe" else "dt.bias")
    if recurrent and name.endswith(("mixer.norm.weight", "mamba.norm.weight")):
        x = x.reshape(pick(c, "n_groups", "mamba_n_groups"), -1)
    if arch in ("lfm2", "lfm2moe") and "conv.conv" in name:
        x = x.squeeze(1)
    if arch == "kimi-linear" and "conv1d" in name:
        x = x.reshape(1, x.shape[0], 1, x.shape[-1])
    if arch == "falcon-h1":
        x = multiplied(c, name, x)
    if name.endswith("expert_bias"):
        name = f"{name}.bias"
    if name.endswith("e_score_correction_bias"):
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
    if name.endswith(("sinks", "attention_sink_bias", "layer_scalar")):
        name = f"{name}.weight"
    return [(name, x)]


def meta_groups(arch: str, c: Config) -> int:
    """How many groups of queries, keys and values lie one after the other."""
    if arch == "gptneox":
        groups: int = c["num_attention_heads"]
        return groups
    return c["num_kv_heads"] if c["new_decoder_architecture"] else 1


def tiled_part(name: str, c: Config, x: np.ndarray) -> np.ndarray:
    dim, keys = c["linear_value_head_dim"], 2 * c["linear_num_key_heads"] * c["linear_key_head_dim"]
    if "in_proj_qkv" in name or "conv1d" in name:
        return np.concatenate([x[:keys], tiled(x[keys:], c, dim)])
    if "in_proj_z" in name:
        return tiled(x, c, dim)
    if "out_proj" in name:
        return tiled(x, c, dim, axis=1)
    return tiled(x, c, 1) if "norm" not in name else x


def fused(c: Config, blk: str, x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Qwen3-Next's projections, stored for each key head, one after the other."""
    heads, k = c["linear_num_key_heads"], c["linear_key_head_dim"]
    v = c["linear_num_value_heads"] // heads * c["linear_value_head_dim"]
    parts = np.split(x.reshape(heads, -1, x.shape[-1]), np.cumsum([k, k, v]), axis=1)
    q, k_, v_, z = (part.reshape(-1, x.shape[-1]) for part in parts)
    return [(f"{blk}.attn_qkv.weight", np.concatenate([q, k_, v_])), (f"{blk}.attn_gate.weight", z)]


def multiplied(c: Config, name: str, x: np.ndarray) -> np.ndarray:
    """Falcon-H1's multipliers, folded into the weights."""
    into = c["attention_in_multiplier"]
    gate, down = c["mlp_multipliers"]
    factors = {
        "down_proj": down,
        "gate_proj": gate,
        "k_proj": c["key_multiplier"] * into,
        "q_proj": into,
        "v_proj": into,
        "o_proj": c["attention_out_multiplier"],
        "out_proj": c["ssm_out_multiplier"],
        "in_proj": c["ssm_in_multiplier"],
        "lm_head": c["lm_head_multiplier"],
        "embed_tokens": c["embedding_multiplier"],
    }
    part = next((key for key in factors if f".{key}." in f".{name}"), None)
    x = x * factors[part] if part and name.endswith("weight") else x
    if part == "in_proj" and name.endswith("weight"):
        inner, state = c["mamba_d_ssm"], c["mamba_n_groups"] * c["mamba_d_state"]
        cuts = np.cumsum([inner, inner, state, state])
        x = np.concatenate([y * m for y, m in zip(np.split(x, cuts), c["ssm_multipliers"], strict=True)])
    return x
