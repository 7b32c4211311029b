"""The selective state space of Mamba-2: a linear memory that forgets."""

from __future__ import annotations

import torch
from torch import Tensor

from .choice import is_naive
from .chunks import chunk_size, cut, kept_between


def naive_state_space(c: Tensor, b: Tensor, x: Tensor, decay: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Token after token: S ← eᵍ S + b ⊗ x, and the output is cᵀ S. Dao and Gu 2024, arXiv 2405.21060, section 2.

    Args:
        c: (B, G, T, N) and b: (B, G, T, N), where G divides H and consecutive heads share one of G.
        x: (B, H, T, P), times its time step. With g = 0 and x = 0 a token leaves the memory as it is.
        decay: g, at most 0, (B, H, T).
        memory: S (B, H, N, P).

    Returns the outputs (B, H, T, P) and the memory after the last token.
    """
    share = x.shape[1] // b.shape[1]
    c, b = c.repeat_interleave(share, 1), b.repeat_interleave(share, 1)
    kept = decay.exp()[..., None, None]
    outputs = []
    for t in range(x.shape[2]):
        memory = kept[:, :, t] * memory + b[:, :, t, :, None] @ x[:, :, t, None]
        outputs.append(c[:, :, t, None] @ memory)
    return torch.cat(outputs, 2), memory


def fast_state_space(c: Tensor, b: Tensor, x: Tensor, decay: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """As `naive_state_space`, a chunk at a time (arXiv 2405.21060, section 6): within a chunk as attention whose scores
    decay, between chunks through the memory, for which the heads of a group stand side by side."""
    tokens, groups = x.shape[2], b.shape[1]
    if tokens == 1:
        return naive_state_space(c, b, x, decay, memory)
    c, b, x, decay = (cut(y, chunk_size(tokens)) for y in (c, b, x, decay))
    x, decay = (y.unflatten(2, (groups, -1)) for y in (x, decay))  # (chunks, B, G, heads of a group, size, …)
    kept = kept_between(decay)
    within = ((c @ b.mT)[:, :, :, None] * kept @ x).transpose(3, 4)
    written = (x * kept[..., -1, :, None]).transpose(3, 4).flatten(-2)  # what is left of x at the end of its chunk
    since = (
        decay.cumsum(-1).exp().mT[..., None]
    )  # what is left of the memory, (chunks, B, G, size, heads of a group, 1)
    memory = memory.unflatten(1, (groups, -1)).transpose(2, 3)  # (B, G, N, heads of a group, P)
    outputs = []
    for n in range(len(x)):
        before = (c[n] @ memory.flatten(-2)).unflatten(-1, memory.shape[-2:])
        outputs.append(torch.addcmul(within[n], since[n], before).transpose(1, 2))
        added = (b[n].mT @ written[n]).unflatten(-1, memory.shape[-2:])
        memory = torch.addcmul(added, since[n][:, :, -1:], memory)
    y = torch.cat(outputs, 1)[:, :tokens].flatten(2, 3)
    return y.transpose(1, 2), memory.transpose(2, 3).flatten(1, 2)


def state_space(c: Tensor, b: Tensor, x: Tensor, decay: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """As `naive_state_space`, in the form that is asked for."""
    return (naive_state_space if is_naive() else fast_state_space)(c, b, x, decay, memory)
