"""Nemotron-H and Nemotron 3: one mixer in each layer, be it Mamba-2, attention without positions, ReLU² experts (in a
latent width from Super on) or a plain ReLU² layer.

NVIDIA 2025, arXiv 2504.03624 and 2512.20848; nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, modeling_nemotron_h.py. Time
steps are cut off at `time_step_min` in decoding too, where transformers forgets it.
"""

from __future__ import annotations

from ..spec import (
    MLP,
    Attention,
    Branch,
    Causal,
    Config,
    Convolution,
    Decoder,
    Family,
    GatedNorm,
    Irregular,
    Layer,
    Mamba2,
    MoE,
    RMSNorm,
)
from .shared import attention, decoder, head_dim, layer_types, noaux_tc_router

LETTERS = {"M": "linear_attention", "*": "full_attention", "E": "moe", "-": "mlp"}


def nemotron_h(c: Config) -> Decoder:
    norm = RMSNorm(eps=c.number("layer_norm_epsilon"))
    kinds = layers(c)
    made = {kind: Layer(branches=(Branch(name="mixer", pre=norm, body=body(c, kind)),)) for kind in set(kinds)}
    c.expect("sliding_window", None)
    c.expect("rms_norm_eps", None, c.raw("layer_norm_epsilon"))
    return decoder(c, "nemotron_h", [made[kind] for kind in kinds], norm)


def layers(c: Config) -> list[str]:
    """The kind of each layer: a list, or a letter for each."""
    letters = c.raw("hybrid_override_pattern") or ""
    if not isinstance(letters, str) or not set(letters) <= set(LETTERS):
        raise ValueError(f"hybrid_override_pattern must be made of {' '.join(LETTERS)}, got {letters!r}")
    count = len(letters if c.raw("layers_block_type") is None else c.items("layers_block_type"))
    otherwise = [LETTERS[letter] for letter in letters]
    return layer_types(c, count, otherwise, tuple(LETTERS.values()), "layers_block_type")


def body(c: Config, kind: str) -> Mamba2 | Attention | MoE | MLP:
    act, bias = c.activation("mlp_hidden_act"), c.flag("mlp_bias")
    match kind:
        case "linear_attention":
            groups, act = c.size("n_groups"), c.activation("mamba_hidden_act")
            return Mamba2(
                heads=c.size("mamba_num_heads"),
                head_dim=c.size("mamba_head_dim"),
                groups=groups,
                state_dim=c.size("ssm_state_size"),
                conv=Convolution(kernel=c.size("conv_kernel"), act=act, bias=c.flag("use_conv_bias")),
                norm=GatedNorm(eps=c.number("layer_norm_epsilon"), gate_first=True, groups=groups),
                in_bias=c.flag("use_bias"),
                out_bias=c.flag("use_bias"),
                dt_limit=(c.number("time_step_min"), None),
                memory_dtype=c.choice("mamba_ssm_cache_dtype", "float32", "bfloat16", "float16"),
            )
        case "full_attention":
            either = c.raw("attention_head_dim") is not None and c.raw("head_dim") is None
            dim = c.size("attention_head_dim") if either else head_dim(c)
            return attention(c, dim, mask=Causal(), positions=None)
        case "moe":
            router = noaux_tc_router(c)
            expert = MLP(dim=c.size("moe_intermediate_size"), act=act)
            shared = MLP(dim=c.size("moe_shared_expert_intermediate_size"), act=act, bias=bias)
            latent = None if c.raw("moe_latent_size") is None else c.size("moe_latent_size")
            return MoE(router=router, expert=expert, shared=shared, latent=latent, latent_bias=bool(latent) and bias)
    return MLP(dim=c.size("intermediate_size"), act=act, bias=bias)


def irregular(decoder: Decoder) -> list[Irregular]:
    lines = {"": "", ".mixer.pre": ".norm", ".mixer.body": ".mixer"}
    for kind in ("weight", "bias"):
        for ours, theirs in (("latent_down", "fc1_latent_proj"), ("latent_up", "fc2_latent_proj")):
            lines[f".mixer.body.{ours}.{kind}"] = f".mixer.{theirs}.{kind}"
    ends = [Irregular("embedding", "backbone.embeddings"), Irregular("final_norm", "backbone.norm_f")]
    return ends + [Irregular(f"layers.*{ours}", f"backbone.layers.*{theirs}") for ours, theirs in lines.items()]


# Of kinds of layers that a model may not have.
OPTIONAL = frozenset(
    """attention_head_dim conv_kernel head_dim intermediate_size mamba_head_dim mamba_hidden_act mamba_num_heads
    mamba_ssm_cache_dtype moe_intermediate_size moe_latent_size moe_shared_expert_intermediate_size n_group n_groups
    n_routed_experts
    norm_topk_prob num_attention_heads num_experts_per_tok num_key_value_heads routed_scaling_factor ssm_state_size
    time_step_min topk_group use_bias use_conv_bias""".split()
)
IGNORED = frozenset(
    """attention_bias chunk_size expand mamba_proj_bias moe_shared_expert_overlap mtp_hybrid_override_pattern
    mtp_layers_block_type n_shared_experts norm_eps num_hidden_layers num_logits_to_keep num_nextn_predict_layers
    partial_rotary_factor rescale_prenorm_residual residual_in_fp32 rope_theta time_step_floor time_step_limit
    time_step_max time_step_rank use_mamba_kernels""".split()
)
FAMILY = Family(
    model_types=("nemotron_h",), spec=nemotron_h, irregular=irregular, ignored=IGNORED | OPTIONAL, unused=("mtp.*",)
)
