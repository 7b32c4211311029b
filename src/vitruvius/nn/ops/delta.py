"""The gated delta rule: a linear memory that forgets, and corrects what it returns for a key."""

from __future__ import annotations

import torch
from torch import Tensor

from .choice import is_naive
from .chunks import chunk_size, cut, kept_between


def naive_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """Token after token: S ← diag(eᵍ) S, then S ← S + k (β (v − kᵀ S))ᵀ, and the output is qᵀ S.

    Yang et al. 2024, arXiv 2412.06464 (a decay for each head); Kimi Team 2025, arXiv 2510.26692 (for each channel).

    Args:
        q: (B, G, T, K) and k: (B, G, T, K), where G divides H and consecutive heads share one of G.
        v: (B, H, T, V).
        decay: g, at most 0, (B, H, T) or one for each channel of a key (B, H, T, K).
        beta: (B, H, T). With g = 0 and β = 0 a token leaves the memory as it is.
        memory: S (B, H, K, V).

    Returns the outputs (B, H, T, V) and the memory after the last token.
    """
    share = v.shape[1] // k.shape[1]
    q, k = q.repeat_interleave(share, 1), k.repeat_interleave(share, 1)
    kept = decay.view(*v.shape[:3], -1, 1).exp()
    outputs = []
    for t in range(v.shape[2]):
        memory = kept[:, :, t] * memory
        error = v[:, :, t, None] - k[:, :, t, None] @ memory
        memory = memory + k[:, :, t, :, None] @ (beta[:, :, t, None, None] * error)
        outputs.append(q[:, :, t, None] @ memory)
    return torch.cat(outputs, 2), memory


def fast_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """As `naive_delta_rule`, a chunk at a time.

    With u the corrections β (v − kᵀ S) that a chunk writes, and ⟨k, k⟩ the products of its keys, each decayed from the
    earlier to the later one, u = β (v − k S₀ − ⟨k, k⟩ u) is a triangular system: its inverse is found for all chunks at
    once, and only the memory goes from chunk to chunk (Yang et al. 2024, arXiv 2406.06484, section 3).
    """
    batch, heads, tokens, _ = v.shape
    if tokens == 1:
        return naive_delta_rule(q, k, v, decay, beta, memory)
    size, share = chunk_size(tokens), heads // k.shape[1]
    q, k = (x.repeat_interleave(share, 1) for x in (q, k))
    q, k, v, decay, beta = (cut(x, size).flatten(1, 2) for x in (q, k, v, decay, beta))  # (chunks, B · H, size, …)
    qk, kk, since, until = (_by_head if decay.ndim == 3 else _by_channel)(q, k, decay)
    system = torch.linalg.solve_triangular(
        kk * beta[..., None], torch.eye(size, dtype=kk.dtype, device=kk.device), upper=False, unitriangular=True
    )
    system = system * beta[..., None, :]
    new, erase, read, write = system @ v, system @ (k * since), q * since, (k * until).mT
    kept, memory = since[..., -1, :, None], memory.flatten(0, 1)
    outputs = []
    for n in range(len(v)):
        u = torch.baddbmm(new[n], erase[n], memory, alpha=-1)
        outputs.append(torch.baddbmm(read[n] @ memory, qk[n], u))
        memory = torch.baddbmm(kept[n] * memory, write[n], u)
    y = torch.cat(outputs, 1)[:, :tokens]
    return y.unflatten(0, (batch, heads)), memory.unflatten(0, (batch, heads))


Products = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of queries with keys and keys with keys (…, C, C), what is before on the diagonal and above left out; what has been
kept since the chunk began, and what will be until it ends, (…, C, K or 1)."""


def _by_head(q: Tensor, k: Tensor, decay: Tensor) -> Products:
    """q, k (…, C, K) and one decay for each token (…, C)."""
    kept = kept_between(decay)
    since = decay.cumsum(-1).exp()[..., None]
    return q @ k.mT * kept, k @ k.mT * kept, since, kept[..., -1, :, None]


def _by_channel(q: Tensor, k: Tensor, decay: Tensor) -> Products:
    """q, k and decays (…, C, K).

    Blocks of 1, 2, 4 … tokens are joined in pairs: a later token's query, times what is left since its block began,
    meets an earlier token's key, times what will be left when its block ends. So no number is ever above 1, however
    strong the decays, and every token is scaled only once for each doubling.
    """
    since = decay.exp()  # from the beginning of the token's block, its own decay included
    until = torch.ones_like(since)  # to the end of the token's block, its own excluded
    qk = torch.diag_embed((q * k).sum(-1))
    kk = torch.zeros_like(qk)
    size = 1
    while size < decay.shape[-2]:
        pairs = (-1, 2, size)
        (since_a, since_b), (until_a, until_b) = (x.unflatten(-2, pairs).unbind(-3) for x in (since, until))
        k_a, k_b = k.unflatten(-2, pairs).unbind(-3)
        earlier = (k_a * until_a).mT
        for later, result in ((q.unflatten(-2, pairs)[..., 1, :, :], qk), (k_b, kk)):
            blocks = result.unflatten(-1, pairs).unflatten(-4, pairs)[..., 1, :, :, 0, :]
            torch.diagonal(blocks, dim1=-4, dim2=-2).copy_((later * since_b @ earlier).movedim(-3, -1))
        all_a, all_b = since_a[..., -1:, :], since_b[..., -1:, :]  # what is left by a whole block
        since = torch.stack((since_a, since_b * all_a), -3).flatten(-4, -2)
        until = torch.stack((until_a * all_b, until_b), -3).flatten(-4, -2)
        size *= 2
    return qk, kk, since, until


def delta_rule(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """As `naive_delta_rule`, in the form that is asked for."""
    return (naive_delta_rule if is_naive() else fast_delta_rule)(q, k, v, decay, beta, memory)
