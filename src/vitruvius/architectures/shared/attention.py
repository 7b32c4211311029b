"""Softmax attention and latent attention in the usual keys."""

from __future__ import annotations

from ...spec import (
    Attention,
    Causal,
    Config,
    KeyValue,
    LatentAttention,
    LogTemperature,
    LowRank,
    Mask,
    OutputGate,
    QKNorm,
    RMSNorm,
    RoPE,
    Softmax,
    Window,
    yarn_mscale,
)
from .positions import rope_settings


def head_dim(c: Config) -> int:
    """`head_dim`, or where the file leaves it out the width divided among the heads."""
    if c.raw("head_dim") is not None:
        return c.size("head_dim")
    return c.share("hidden_size", "num_attention_heads")


def window(c: Config, sliding: bool = True) -> Mask:
    """A window of `sliding_window` keys where it is `sliding` and the key is set, else all that came before."""
    if c.raw("sliding_window") is None or not sliding:
        return Causal()
    return Window(size=c.size("sliding_window"))


def attention(
    c: Config,
    dim: int,
    *,
    mask: Mask,
    positions: RoPE | None,
    heads: int | None = None,
    kv_heads: int | None = None,
    bias: bool = False,
    o_bias: bool = False,
    norm: QKNorm | None = None,
    softmax: Softmax | None = None,
    gate: OutputGate | None = None,
) -> Attention:
    """Softmax attention of heads with `dim` channels.

    Args:
        heads: of queries, by default `num_attention_heads`.
        kv_heads: of keys and values, by default `num_key_value_heads`, or where that is null as many as of queries.
        bias: of queries, keys and values; `o_bias`: of the output.
        norm: of queries and of keys.
        softmax: by default one with scores scaled by dim^-½.
    """
    heads = heads or c.size("num_attention_heads")
    return Attention(
        heads=heads,
        head_dim=dim,
        q_bias=bias,
        o_bias=o_bias,
        q_norm=norm,
        kv=KeyValue(
            heads=kv_heads or c.size_or("num_key_value_heads", heads), head_dim=dim, v_dim=dim, bias=bias, k_norm=norm
        ),
        mask=mask,
        positions=positions,
        softmax=softmax or Softmax(scale=dim**-0.5),
        gate=gate,
    )


def latent_attention(
    c: Config, *, mask: Mask, positions: RoPE | None, temperature: LogTemperature | None = None
) -> LatentAttention:
    """DeepSeek's latent attention; the norms of its latents have an epsilon of their own, whatever the file says.

    Scores are scaled by dim^-½, times YaRN's mscale squared where RoPE's settings hold mscale_all_dim
    (deepseek-ai/DeepSeek-V3, inference/model.py).
    """
    inner, nope, rotary = RMSNorm(eps=1e-6), c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    scale = (nope + rotary) ** -0.5
    settings = rope_settings(c) if positions else Config({})
    all_dim = settings.number_or_none("mscale_all_dim")
    if all_dim and settings.raw("rope_type") not in (None, "default"):
        scale = float(scale * yarn_mscale(settings.number("factor"), all_dim) ** 2)
    return LatentAttention(
        heads=c.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rotary,
        v_dim=c.size("v_head_dim"),
        q=None if c.raw("q_lora_rank") is None else LowRank(rank=c.size("q_lora_rank"), norm=inner),
        kv=LowRank(rank=c.size("kv_lora_rank"), norm=inner),
        mask=mask,
        positions=positions,
        softmax=Softmax(scale=scale, temperature=temperature),
        bias=c.flag("attention_bias"),
    )
