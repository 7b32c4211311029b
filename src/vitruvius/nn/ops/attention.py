"""Softmax attention over given keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .choice import is_naive


@dataclass(frozen=True)
class Mask:
    """Which keys each query sees.

    `visible` is a bool tensor (B or 1, 1, T, S), or None where a rule says it all: `causal`, query t sees keys 0 to t
    of as many keys as queries; otherwise every query sees every key.
    """

    visible: Tensor | None = None
    causal: bool = False

    def tensor(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """The mask written out, None if all is visible."""
        if self.causal:
            return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()
        return self.visible


@dataclass(frozen=True)
class Scores:
    """How scores become weights, beside their scale.

    Args:
        softcap: scores become softcap · tanh(scores / softcap).
        sharpen: (B or 1, 1, T, 1), multiplies the capped scores.
        bias: (B or 1, H, T, S), added to the scores.
        sinks: (H,), a logit of each head that takes part in the softmax and is dropped.
    """

    scale: float
    softcap: float | None = None
    sharpen: Tensor | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None


def naive_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, how: Scores) -> Tensor:
    """softmax(sharpen · softcap(scale · q kᵀ + bias)) v.

    Args:
        q: (B, H, T, D). k: (B, G, S, D) and v: (B, G, S, Dᵥ), where G divides H and consecutive heads share one of G.
        mask: what each query sees.
        how: the rest.

    Returns (B, H, T, Dᵥ).
    """
    share = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = how.scale * (q @ k.transpose(-1, -2))
    if how.bias is not None:
        scores = scores + how.bias
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    if how.sharpen is not None:
        scores = scores * how.sharpen
    visible = mask.tensor(q.shape[2], k.shape[2], q.device)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    if how.sinks is not None:
        sinks = how.sinks[:, None, None].expand(*scores.shape[:-1], 1)
        weights = torch.cat((scores, sinks), -1).softmax(-1, dtype=torch.float32)[..., :-1]
    else:
        weights = scores.softmax(-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v


def fast_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, how: Scores) -> Tensor:
    """As `naive_attention`, by PyTorch's fused kernels where they can."""
    if not (how.softcap is how.sharpen is how.sinks is None):  # which the fused kernels do not know
        return naive_attention(q, k, v, mask, how)
    batch, heads, queries, _ = q.shape
    groups = k.shape[1]
    if how.bias is not None:  # which the kernels add as a mask
        mask = Mask(biased(mask, how.bias))
    if queries == 1:  # the heads that share a key become queries of one head: each key is read once
        q = q.reshape(batch, groups, heads // groups, -1)
        seen = mask.visible
        if seen is not None and seen.shape[1] == heads:
            seen = seen.reshape(-1, groups, heads // groups, seen.shape[-1])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=how.scale)
        return out.reshape(batch, heads, 1, -1)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask.visible, is_causal=mask.causal, scale=how.scale, enable_gqa=groups != heads
    )


def biased(mask: Mask, bias: Tensor) -> Tensor:
    """The bias (B or 1, H, T, S) where a key is seen, −∞ where it is not."""
    visible = mask.tensor(bias.shape[2], bias.shape[3], bias.device)
    return bias if visible is None else bias.masked_fill(~visible, -torch.inf)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, how: Scores) -> Tensor:
    """As `naive_attention`, in the form that is asked for."""
    return (naive_attention if is_naive() else fast_attention)(q, k, v, mask, how)
