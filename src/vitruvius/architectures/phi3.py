"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: Llama's layer whose matrices are stored together, with LongRoPE in the models
for long texts.

Abdin et al. 2024, arXiv 2404.14219, section 2, and 2412.08905 (Phi-4); LongRoPE: Ding et al. 2024, arXiv 2402.13753;
microsoft/Phi-3-mini-128k-instruct, modeling_phi3.py.
"""

from __future__ import annotations

from ..spec import Config, Decoder, Family, GatedMLP, Irregular, RMSNorm, Split
from .shared import attention, decoder, gate_up, head_dim, pre_norm, rope, window


def phi3(c: Config) -> Decoder:
    dim, norm = head_dim(c), RMSNorm(eps=c.number("rms_norm_eps"))
    mixer = attention(c, dim, mask=window(c), positions=rope(c, dim))
    mlp = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    for key in ("attention_bias", "mlp_bias", "lm_head_bias"):
        c.expect(key, None, False)
    for key in ("full_attn_mod", "interpolate_factor"):
        c.expect(key, None, 1)
    return decoder(c, "phi3", [pre_norm(norm, mixer, mlp)] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    qkv = tuple(f"layers.*.mixer.body.{name}.weight" for name in ("q", "kv.k", "kv.v"))
    return [Irregular(qkv, "model.layers.*.self_attn.qkv_proj.weight", (Split(),)), gate_up()]


FAMILY = Family(
    model_types=("phi3",),
    spec=phi3,
    irregular=irregular,
    ignored=frozenset(("original_max_position_embeddings",)),
)
