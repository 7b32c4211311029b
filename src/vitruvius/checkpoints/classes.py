"""What transformers calls the class that runs a model: `architectures` in config.json, by which other programs
choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# where the name does not follow from the model_type
IRREGULAR = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "grok": "Grok1ForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "mimo_v2_flash": "MiMoV2FlashForCausalLM",
    "minimax_m2": "MiniMaxM2ForCausalLM",
    "nemotron-nas": "DeciLMForCausalLM",
    "qwen2_vl_text": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl_text": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl_text": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe_text": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "switch_transformers": "SwitchTransformersForConditionalGeneration",
}


def class_of(model_type: str) -> str:
    """The class of a text model: "Gemma3nForCausalLM" for gemma3n_text."""
    words = model_type.removesuffix("_text").split("_")
    return IRREGULAR.get(model_type) or "".join(word[:1].upper() + word[1:] for word in words) + "ForCausalLM"


def base_class(config: Mapping[str, Any]) -> str:
    """The class of the same model without a head."""
    said = config.get("architectures")
    name = str(said[0]) if isinstance(said, list) and said else class_of(str(config.get("model_type")))
    for ending in ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"):
        name = name.removesuffix(ending)
    return f"{name}Model"
