"""Cutting a sequence into chunks, for recurrences that are computed a chunk at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 32  # tokens: longer chunks mean more work within them, shorter ones more steps between them


def chunk_size(tokens: int, most: int = CHUNK) -> int:
    """A power of two that is not much longer than the sequence."""
    return min(most, 1 << (tokens - 1).bit_length())


def cut(x: Tensor, size: int) -> Tensor:
    """(B, H, T, …) -> (chunks, B, H, size, …), the last chunk filled up with zeros."""
    missing = -x.shape[2] % size
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, missing))
    return x.unflatten(2, (-1, size)).movedim(2, 0).contiguous()


def kept_between(decay: Tensor) -> Tensor:
    """Log decays (…, C) -> (…, C, C): at (i, j) what token i still has of token j, exp of their sum over j + 1 … i, and
    0 for a later j.

    Each is summed on its own: a difference of running sums would lose the small ones beside a large one (Dao and Gu
    2024, arXiv 2405.21060, listing 1).
    """
    size = decay.shape[-1]
    upto = torch.ones(size, size, dtype=decay.dtype, device=decay.device).triu()
    sums = (decay[..., None, :] * upto.triu(1)) @ upto  # at (j, i)
    return sums.exp().triu().mT
