"""Mistral's own format: params.json has what config.json has elsewhere, and consolidated.safetensors the tensors under
names of their own.

The facts are those of mistralai/mistral-inference (args.py, transformer_layers.py), of transformers' conversion
(models/mistral, convert_mistral_weights_to_hf.py), and of vLLM (transformers_utils/configs/mistral.py,
model_executor/models/mistral_large_3.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..spec import (
    Attention,
    Decoder,
    GatedMLP,
    Irregular,
    LatentAttention,
    MoE,
    Node,
    Reorder,
    Tensors,
    spelled,
    walk,
)

# Mistral's name -> config.json's
NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
    "tied_embeddings": "tie_word_embeddings",
    "max_position_embeddings": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "activation": "hidden_act",
}
LATENT = dict.fromkeys("q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim".split())
EXPERTS = {"num_experts": "num_local_experts", "num_experts_per_tok": "num_experts_per_tok"}
MANY_EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
    "routed_scale": "routed_scaling_factor",
    "num_expert_groups": "n_group",
    "num_expert_groups_per_tok": "topk_group",
}
YARN = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_position_embeddings",
    "beta": "beta_fast",
    "alpha": "beta_slow",
}
BESIDE = ("max_batch_size", "model_type", "vision_encoder", "multimodal", "quantization", "llama_4_scaling")
POSITIONS = 32768  # transformers' conversion, where nothing is said
FILES, TABLE, SCALES = "consolidated*.safetensors", "tok_embeddings.weight", ".qscale_weight"


def of_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that a params.json of Mistral's amounts to; of a model that sees, its text model's.

    Raises InputError for what it says beyond Mistral's layers.
    """
    moe = params.get("moe") or {}
    kind = _kind(params, moe)
    known = {*NAMES, *BESIDE, "moe", "yarn", *(LATENT if kind == "mistral4" else ())}
    other = [key for key, value in params.items() if key not in known and value]
    other += [f"moe.{key}" for key, value in moe.items() if key not in _routing(kind, moe) and value]
    if other or "dim" not in params:
        said = f"; {', '.join(sorted(other)[:4])} cannot be read there" if other else ""
        raise InputError(
            f"params.json is Mistral's own format, of which text models are read{said}: "
            "give the config.json of the repository in Hugging Face's format"
        )
    config: dict[str, Any] = {"model_type": kind, "hidden_act": "silu", "max_position_embeddings": POSITIONS}
    config |= {"sliding_window": None, "tie_word_embeddings": False, "rope_theta": 10000.0}
    config |= {NAMES[key]: value for key, value in params.items() if key in NAMES}
    routing = _routing(kind, moe)
    config |= {routing[key]: value for key, value in moe.items() if routing.get(key)}
    if kind == "mistral4":
        config |= {key: params.get(key) for key in LATENT} | {"norm_topk_prob": True}
        del config["sliding_window"]
    if kind in ("mistral4", "ministral3"):
        config["rope_parameters"] = _rope(params, config)
        del config["rope_theta"]
    if scheme := params.get("quantization"):
        config["quantization_config"] = _quantization(scheme)
    return config


def _kind(params: Mapping[str, Any], moe: Mapping[str, Any]) -> str:
    """The model_type that such a model has in Hugging Face's format."""
    if params.get("kv_lora_rank"):
        return "mistral4"
    if moe:
        return "mixtral"
    return "ministral3" if params.get("llama_4_scaling") or params.get("yarn") else "mistral"


def _routing(kind: str, moe: Mapping[str, Any]) -> Mapping[str, str]:
    """Mistral's name -> config.json's, of what there is about experts; "" for what says nothing more."""
    if kind != "mistral4":
        return EXPERTS
    every_layer = {"route_every_n": ""} if moe.get("route_every_n") == 1 else {}
    return {**MANY_EXPERTS, **every_layer, "renorm_strategy": "", "use_load_balancing_bias": ""}


def _rope(params: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters`: YaRN, and the temperature of queries."""
    yarn, scaling = params.get("yarn") or {}, params.get("llama_4_scaling") or {}
    parameters: dict[str, Any] = {"rope_theta": config["rope_theta"], "rope_type": "yarn"}
    parameters |= {YARN[key]: value for key, value in yarn.items() if key in YARN}
    if config["model_type"] == "mistral4":
        nope, rotary = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        parameters |= {"mscale": 1.0, "mscale_all_dim": 1.0, "partial_rotary_factor": rotary / (nope + rotary)}
    elif yarn.get("apply_scale") is False:
        parameters["attention_factor"] = 1.0
    context = parameters.get("original_max_position_embeddings")
    if scaling.get("original_max_position_embeddings", context) != context:
        raise InputError(f"params.json: llama_4_scaling and yarn have other original contexts: {scaling}, {yarn}")
    return parameters | {"llama_4_scaling_beta": scaling.get("beta", 0.0)}


def _quantization(scheme: Mapping[str, Any]) -> dict[str, Any]:
    """`quantization_config` of config.json."""
    if scheme.get("qformat_weight") == "fp8_e4m3":
        dynamic = scheme.get("qscheme_act") == "NO_SCALES"
        return {"quant_method": "fp8", "activation_scheme": "dynamic" if dynamic else "static"}
    return {**scheme, "quant_method": str(scheme.get("quant_method", "")).lower().replace("_", "-")}


def files(folder: Path) -> list[Path]:
    """The tensors of a folder that has params.json and no config.json; else none."""
    own = (folder / "params.json").exists() and not (folder / "config.json").exists()
    return sorted(folder.glob(FILES)) if own else []


def names(decoder: Decoder, have: Collection[str]) -> list[Tensors]:
    """Every tensor of the model, as Mistral spells it; in files that hold these.

    Raises InputError for weights in FP8, whose scales have names of their own.
    """
    if any(name.endswith(SCALES) for name in have):
        raise InputError(
            "weights in FP8 are not loaded from Mistral's own format: give the repository's folder in Hugging Face's"
        )
    lines = [*LINES, *(line for node in walk(decoder, decoder.width) for line in _parts(node))]
    return spelled(decoder, lines)


def beside(have: Collection[str]) -> set[str]:
    """Tensors of what sees."""
    return {name for name in have if name.startswith(("vision_", "patch_merger.", "pre_mm_projector"))}


LAYER = "layers.*"
LINES = (
    Irregular("embedding", "tok_embeddings"),
    Irregular("final_norm", "norm"),
    Irregular("head", "output"),
    Irregular(LAYER, LAYER),
    Irregular(f"{LAYER}.mixer.pre", f"{LAYER}.attention_norm"),
    Irregular(f"{LAYER}.mlp.pre", f"{LAYER}.ffn_norm"),
)
GATED = {"gate": "w1", "up": "w3", "down": "w2"}
LATENTS = {"q_a": "wq_a", "q_b": "wq_b", "q": "wq", "kv_a": "wkv_a_with_mqa", "kv_b": "wkv_b", "o": "wo"}
LATENTS |= {"q_norm": "q_a_norm", "kv_norm": "kv_a_norm"}


def _parts(node: Node) -> list[Irregular]:
    """The names of a part's own matrices. Attention's halves of a head, which rotate together, are neighbours there, as
    in Llama's own code."""
    path, layer = node.path, ".".join(node.path.split(".")[:2])
    match node.spec:
        case Attention(heads=heads, head_dim=dim, kv=kv):
            rest = _named(path, f"{layer}.attention", {"kv.v": "wv", "o": "wo"})
            turned = (("q", "wq", heads), ("kv.k", "wk", kv.heads))
            return rest + [
                Irregular(f"{path}.{ours}.weight", f"{layer}.attention.{theirs}.weight", (Reorder(count, dim // 2, 2),))
                for ours, theirs, count in turned
            ]
        case LatentAttention():
            return _named(path, f"{layer}.attention", LATENTS)
        case GatedMLP() if path == f"{layer}.mlp.body":
            return _named(path, f"{layer}.feed_forward", GATED)
        case MoE(shared=shared):
            place = layer if shared else f"{layer}.feed_forward"
            experts = _named(f"{path}.experts", f"{place}.experts.{{}}", GATED)
            beside = _named(f"{path}.shared", f"{place}.shared_experts", GATED)
            return [*_named(path, place, {"router": "gate"}), *experts, *(beside if shared else ())]
    return []


def _named(ours: str, theirs: str, pairs: Mapping[str, str]) -> list[Irregular]:
    return [Irregular(f"{ours}.{one}.weight", f"{theirs}.{other}.weight") for one, other in pairs.items()]
