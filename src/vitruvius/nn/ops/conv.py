"""A causal convolution of each channel by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from .choice import is_naive


def naive_causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, reach: Tensor | None = None) -> Tensor:
    """y₍t₎ = b + Σᵢ wᵢ · x₍t+i₎ over the kernel: the inputs begin kernel − 1 tokens before the first output.

    Args:
        x: (B, kernel − 1 + T, C).
        weight: (C, 1, kernel), the last one for a token's own input. bias: (C,) or None.
        reach: (B, T), how many inputs before its own each output may see, None for all of the kernel.

    Returns (B, T, C).
    """
    channels, _, kernel = weight.shape
    windows = x.unfold(1, kernel, 1)  # (B, T, C, kernel)
    if reach is not None:
        back = torch.arange(kernel - 1, -1, -1, device=x.device)
        windows = windows * (back <= reach[..., None])[:, :, None]
    windows = windows.permute(2, 0, 1, 3).flatten(1, 2)  # (C, B · T, kernel)
    y = (windows @ weight.mT).view(channels, x.shape[0], -1).permute(1, 2, 0)
    return y if bias is None else y + bias


def fast_causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, reach: Tensor | None = None) -> Tensor:
    """As `naive_causal_conv`, by one pass over the inputs for each place of the kernel."""
    if reach is not None:
        return naive_causal_conv(x, weight, bias, reach)
    first, *others = weight[:, 0].T.contiguous()  # a row of channels for each place of the kernel
    tokens = x.shape[1] - len(others)
    y = x[:, :tokens] * first if bias is None else torch.addcmul(bias, x[:, :tokens], first)
    for i, w in enumerate(others, 1):
        y.addcmul_(x[:, i : i + tokens], w)  # in place: no gradient needs what y was before
    return y


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, reach: Tensor | None = None) -> Tensor:
    """As `naive_causal_conv`, in the form that is asked for."""
    return (naive_causal_conv if is_naive() else fast_causal_conv)(x, weight, bias, reach)
