"""What several families write in the same keys of config.json, or call by the same names: each builder makes one part
of a tree, and a family says which part stands where."""

from .attention import attention, head_dim, latent_attention, window
from .experts import deepseek_moe, noaux_tc_router, qwen_moe, topk_router
from .layers import (
    decoder,
    deepseek_layers,
    layer_types,
    per_layer_embedding,
    periodic,
    post_norm,
    pre_norm,
    sandwich,
    sharing_sources,
    side_by_side,
    sparse_after,
    sparse_layers,
    sparse_steps,
    windowed,
)
from .names import (
    beside,
    dense_names,
    first_attention,
    following_layers,
    fused_qkv,
    gate_up,
    mtp_names,
    numbered,
    stacked_experts,
)
from .positions import no_rope_layers, query_temperature, rope, rope_settings
from .recurrent import bamba_mixer, gated_delta_net

__all__ = [
    "attention",
    "bamba_mixer",
    "beside",
    "decoder",
    "deepseek_layers",
    "deepseek_moe",
    "dense_names",
    "first_attention",
    "following_layers",
    "fused_qkv",
    "gate_up",
    "gated_delta_net",
    "head_dim",
    "latent_attention",
    "layer_types",
    "mtp_names",
    "no_rope_layers",
    "noaux_tc_router",
    "numbered",
    "per_layer_embedding",
    "periodic",
    "post_norm",
    "pre_norm",
    "query_temperature",
    "qwen_moe",
    "rope",
    "rope_settings",
    "sandwich",
    "sharing_sources",
    "side_by_side",
    "sparse_after",
    "sparse_layers",
    "sparse_steps",
    "stacked_experts",
    "topk_router",
    "window",
    "windowed",
]
