"""What people have tried: real configs whose answer is known from elsewhere (transformers, engines)."""

from __future__ import annotations

from typing import Any

import cases
import pytest

import vitruvius as vt
from vitruvius.cost import cost
from vitruvius.spec import RoPE

Config = dict[str, Any]

QWEN3_8B = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
}
NEMOTRON_H_8B = {
    "model_type": "nemotron_h",
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 21504,
    "num_hidden_layers": 52,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_head_dim": 128,  # beside what others call head_dim
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "layer_norm_epsilon": 1e-5,
    "rms_norm_eps": 1e-5,  # the same again
    "max_position_embeddings": 8192,
}
QWEN3_VL_30B = {
    "model_type": "qwen3_vl_moe",
    "vision_config": {"model_type": "qwen3_vl_moe", "depth": 27},
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_vl_moe_text",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5e6,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]},
    },
}
MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (NEMOTRON_H_8B, 8_100_852_736),
        (QWEN3_VL_30B, 30_532_122_624),
        (
            QWEN3_8B
            | {"vocab_size": 151669, "id2label": {"0": "yes"}, "architectures": ["Qwen3ForSequenceClassification"]},
            7_567_315_968,
        ),
        (MISTRAL_7B | {"architectures": ["MistralForCausalLM"]}, 7_241_732_096),
        (MISTRAL_7B | {"architectures": ["MistralModel"]}, 7_110_660_096),
    ],
)
def test_totals_equal_those_of_transformers(config: Config, parameters: int) -> None:
    assert cost(vt.architecture(config)).parameters.total == parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LlamaForCausalLMEagle", "drafts for another model"),
        ("LlamaForCausalLMEagle3", "drafts for another model"),
        ("MedusaLlamaForCausalLM", "drafts for another model"),
        ("LlamaForTokenClassification", "not known here"),
    ],
)
def test_heads_that_are_not_known_are_refused_by_name(name: str, message: str) -> None:
    config = cases.CASES["llama"] | {"architectures": [name], "draft_vocab_size": 40}
    with pytest.raises(vt.InputError, match=f"architectures is {name}.*{message}"):
        vt.architecture(config)


def test_an_epsilon_that_contradicts_another_is_refused() -> None:
    with pytest.raises(vt.InputError, match="rms_norm_eps"):
        vt.architecture(NEMOTRON_H_8B | {"rms_norm_eps": 1e-6})


@pytest.mark.parametrize(
    ("positions", "context"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 32768}, 40960),
        ({"rope_type": "linear", "factor": 4.0}, 40960),
    ],
)
def test_yarn_extends_the_context(positions: Config, context: int) -> None:
    """As vLLM takes it where `max_position_embeddings` was left as it was: factor times the original context."""
    arch = vt.architecture(QWEN3_8B | {"rope_scaling": positions})
    assert arch.context == context


def test_a_flat_config_of_a_vision_model_is_its_text_models() -> None:
    text = cases.CASES["qwen2"] | {"rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 1]}}
    flat = text | {"model_type": "qwen2_5_vl", "vision_config": {"depth": 2}, "image_token_id": 5, "vision_token_id": 6}
    assert vt.architecture(flat) == vt.architecture(cases.CASES["qwen2"])
    assert isinstance(vt.architecture(flat).layers[0].branches[0].body.positions, RoPE)
