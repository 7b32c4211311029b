"""Random tiny configs: options in combinations that nobody would write down."""

from __future__ import annotations

from random import Random
from typing import Any

from cases import FULL, SLIDING, VISION, Config

FAMILIES = (
    "gpt2 llama mistral mixtral qwen3 qwen3_moe gemma2 gemma3_text olmo2 olmo3 smollm3 deepseek_v2 deepseek_v3 kimi_k2 "
    "gemma3 mistral3"
).split()


def random_config(r: Random) -> Config:
    return _of(r, r.choice(FAMILIES))


def _of(r: Random, family: str) -> Config:
    match family:
        case "gpt2":
            return _gpt2(r)
        case "gemma3" | "mistral3":
            return _wrapped(r, family)
        case "deepseek_v2" | "deepseek_v3" | "kimi_k2":
            return _sizes(r, family) | _latent(r, family) | _one_rope(r)
    options = {
        "mistral": _window,
        "mixtral": _mixtral,
        "qwen3": _qwen3,
        "qwen3_moe": _qwen3_moe,
        "gemma2": _gemma,
        "gemma3_text": _gemma3,
        "olmo3": _olmo3,
        "smollm3": _smollm3,
    }
    keys = _sizes(r, family) | _heads(r)
    keys["hidden_activation" if family.startswith("gemma") else "hidden_act"] = _act(r)
    if family not in ("mistral", "mixtral"):
        keys["attention_bias"] = _often(r, 0.4)
    if family in ("llama", "smollm3"):
        keys["mlp_bias"] = _often(r, 0.4)
    keys |= options[family](r, keys["num_hidden_layers"]) if family in options else {}
    return keys if family in ("gemma3_text", "olmo3") else keys | _one_rope(r)


def _often(r: Random, share: float = 0.5) -> bool:
    return r.random() < share


def _act(r: Random) -> str:
    return r.choice(["silu", "silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])


def _sizes(r: Random, family: str) -> Config:
    return {
        "model_type": family,
        "vocab_size": r.choice([83, 101]),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "max_position_embeddings": r.choice([64, 256]),
        "rms_norm_eps": r.choice([1e-6, 1e-5, 4e-3]),
        "num_hidden_layers": r.randint(1, 7),
        "intermediate_size": r.randint(10, 70),
        "tie_word_embeddings": _often(r),
    }


def _heads(r: Random) -> Config:
    heads = r.choice([2, 3, 4, 6])
    sizes = {"num_attention_heads": heads, "hidden_size": heads * 2 * r.randint(6, 12)}
    sizes["num_key_value_heads"] = r.choice([groups for groups in (1, 2, 3, 4, 6) if heads % groups == 0])
    return sizes | ({"head_dim": 2 * r.randint(3, 12)} if _often(r) else {})


def _experts(r: Random, name: str) -> Config:
    experts = r.randint(2, 8)
    return {name: experts, "num_experts_per_tok": r.randint(1, min(4, experts))}


def _window(r: Random, depth: int) -> Config:
    return {"sliding_window": r.choice([None, 1, 2, 5, 9])}


def _mixtral(r: Random, depth: int) -> Config:
    # where head_dim is null, transformers cannot scale RoPE
    return _window(r, depth) | _experts(r, "num_local_experts") | {"head_dim": 2 * r.randint(3, 12)}


def _kinds(r: Random, depth: int) -> list[str]:
    return [r.choice([FULL, SLIDING]) for _ in range(depth)]


def _scaling(r: Random) -> Config:
    match r.choice(["none", "linear", "llama3", "yarn", "yarn"]):
        case "linear":
            return {"rope_type": "linear", "factor": r.choice([2.0, 3.5, 8.0])}
        case "llama3":
            factors = {"low_freq_factor": r.choice([1.0, 1.5]), "high_freq_factor": r.choice([2.0, 4.0])}
            context = {"original_max_position_embeddings": r.choice([8, 16, 32])}
            return {"rope_type": "llama3", "factor": r.choice([2.0, 8.0, 32.0]), **factors, **context}
        case "yarn":
            keys: Config = {"rope_type": "yarn", "factor": r.choice([2.0, 4.0, 16.0, 40.0])}
            if _often(r, 0.9):
                keys["original_max_position_embeddings"] = r.choice([8, 16, 32])
            if _often(r, 0.6):
                keys |= {"beta_fast": r.choice([1.0, 4.0, 32]), "beta_slow": r.choice([0.1, 0.25, 1.0])}
            if _often(r, 0.2):
                keys["attention_factor"] = r.choice([0.8, 1.0, 1.4])
            for key in ("mscale", "mscale_all_dim"):
                if _often(r, 0.6):
                    keys[key] = r.choice([0.707, 1.0, 0.4])
            return keys
    return {}


def _one_rope(r: Random) -> Config:
    """In the old spelling or the new."""
    theta, scaling = r.choice([50.0, 100.0, 1e3, 1e4, 5e5, 1e6]), _scaling(r)
    if scaling.get("rope_type") == "yarn" and _often(r, 0.3):
        scaling["truncate"] = _often(r)
    if _often(r):
        return {"rope_parameters": {"rope_type": "default", **scaling, "rope_theta": theta}}
    if scaling and _often(r):
        scaling["type"] = scaling.pop("rope_type")
    return {"rope_theta": theta, "rope_scaling": scaling or None}


def _ropes(r: Random, **old: Any) -> Config:
    """One for each kind of layer, in the old spelling with the keys `old`, or in the new."""
    if _often(r):
        return {"rope_scaling": _scaling(r) or None, **old}
    new = {kind: {"rope_type": "default", "rope_theta": r.choice([50.0, 1e4])} for kind in (FULL, SLIDING)}
    return {"rope_parameters": {FULL: new[FULL] | _scaling(r), SLIDING: new[SLIDING]}}


def _qwen3(r: Random, depth: int) -> Config:
    keys: Config = {"head_dim": 2 * r.randint(3, 10)}
    if _often(r):
        keys |= {
            "use_sliding_window": True,
            "sliding_window": r.choice([1, 3, 8]),
            "max_window_layers": r.randint(0, 8),
        }
        return keys | ({"layer_types": _kinds(r, depth)} if _often(r, 0.4) else {})
    return keys | {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 1}


def _qwen3_moe(r: Random, depth: int) -> Config:
    keys = _experts(r, "num_experts") | {"moe_intermediate_size": r.randint(6, 20), "norm_topk_prob": _often(r)}
    keys |= {"decoder_sparse_step": r.choice([1, 1, 2, 3])}
    if _often(r):
        keys |= {"use_sliding_window": True, "sliding_window": r.choice([1, 3, 8])}
    return keys | ({"mlp_only_layers": r.sample(range(depth), r.randint(0, depth))} if _often(r) else {})


def _gemma(r: Random, depth: int) -> Config:
    keys: Config = {"query_pre_attn_scalar": r.choice([5, 7, 16, 64]), "sliding_window": r.choice([1, 4, 8])}
    keys |= {"head_dim": 2 * r.randint(3, 10), "final_logit_softcapping": r.choice([None, 3.0, 30.0])}
    keys["attn_logit_softcapping"] = r.choice([None, 2.0, 50.0])
    return keys | ({"layer_types": _kinds(r, depth)} if _often(r) else {})


def _gemma3(r: Random, depth: int) -> Config:
    ropes = _ropes(r, rope_theta=r.choice([100.0, 1e6]), rope_local_base_freq=r.choice([10.0, 1e4]))
    pattern = {"sliding_window_pattern": r.choice([1, 2, 4])} if _often(r, 0.4) else {}
    return _gemma(r, depth) | pattern | (ropes if _often(r, 0.8) else {})


def _olmo3(r: Random, depth: int) -> Config:
    # in the old spelling transformers gives the windowed layers its default theta, whatever the file says
    kinds = {"layer_types": _kinds(r, depth)} if _often(r) else {}
    return {"sliding_window": r.choice([1, 4, 8])} | kinds | _ropes(r, rope_theta=500_000.0)


def _smollm3(r: Random, depth: int) -> Config:
    keys: Config = {"no_rope_layer_interval": r.randint(1, 4)}
    if _often(r):
        keys = {"no_rope_layers": [int(_often(r, 0.6)) for _ in range(depth)]}
    return keys | ({"use_sliding_window": True, "sliding_window": r.choice([1, 3, 8])} if _often(r) else {})


def _latent(r: Random, family: str) -> Config:
    heads, groups, each = r.choice([1, 2, 4, 5]), r.choice([1, 2, 3, 4]), r.randint(2, 4)
    active = r.randint(1, groups)
    keys: Config = {
        "hidden_size": heads * 4 * r.randint(3, 5) + (20 * heads if heads < 3 else 0),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": r.choice([None, 2 * r.randint(6, 15)]),
        "kv_lora_rank": 2 * r.randint(4, 15),
        "qk_nope_head_dim": 2 * r.randint(2, 8),
        "qk_rope_head_dim": 2 * r.randint(1, 6),
        "v_head_dim": 2 * r.randint(2, 8),
        "moe_intermediate_size": r.randint(8, 24),
        "n_shared_experts": r.randint(1, 3),
        "first_k_dense_replace": r.randint(0, 3),
        "routed_scaling_factor": r.choice([1.0, 2.5, 0.5]),
        "attention_bias": _often(r, 0.3),
        "hidden_act": _act(r),
        "norm_topk_prob": family != "deepseek_v2" and _often(r),
        "n_group": groups,
        "topk_group": active,
        "n_routed_experts": groups * each,
        "num_experts_per_tok": r.randint(1, min(4, active * each)),
    }
    if family == "deepseek_v2":
        return keys | {"topk_method": r.choice(["greedy", "group_limited_greedy"]), "mlp_bias": _often(r, 0.3)}
    interleave = {"rope_interleave": _often(r, 0.6)} if family == "deepseek_v3" else {}
    return keys | {"num_nextn_predict_layers": 0} | interleave


def _gpt2(r: Random) -> Config:
    heads = r.choice([2, 3, 4])
    return {
        "model_type": "gpt2",
        "vocab_size": 83,
        "n_positions": r.choice([40, 64]),
        "n_embd": heads * r.randint(6, 11),
        "n_layer": r.randint(1, 6),
        "n_head": heads,
        "n_inner": r.choice([None, r.randint(20, 90)]),
        "layer_norm_epsilon": r.choice([1e-5, 4e-3]),
        "activation_function": _act(r),
        "tie_word_embeddings": _often(r, 0.7),
        "scale_attn_weights": _often(r, 0.8),
        "scale_attn_by_inverse_layer_idx": _often(r, 0.4),
        "reorder_and_upcast_attn": _often(r, 0.2),
    }


def _wrapped(r: Random, family: str) -> Config:
    text = _of(r, "gemma3_text" if family == "gemma3" else "mistral")
    del text["tie_word_embeddings"]  # the wrapper says it
    vision = {"model_type": "siglip_vision_model", "patch_size": 8, **VISION}
    tokens = {"mm_tokens_per_image": 4, "image_token_index": 71, "boi_token_index": 72, "eoi_token_index": 73}
    if family == "mistral3":
        vision |= {"model_type": "pixtral", "head_dim": 8}
        tokens = {"image_token_index": 71}
    keys = {"model_type": family, "text_config": text, "vision_config": vision, "tie_word_embeddings": _often(r)}
    return keys | tokens
