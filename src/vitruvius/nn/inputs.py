"""What a pass is given: ids or embeddings, in padded rows or one sequence after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Embedded:
    """New tokens of a sequence as embeddings, for `step`.

    Args:
        embeddings: (T, W), as the first layer reads them.
        positions: (A, T), where they stand on each axis of a position, if that is not the next place on all.
    """

    embeddings: Tensor
    positions: Tensor | None = None


@dataclass(frozen=True)
class Encoded:
    """What an encoder has made of texts.

    Args:
        lengths: how many tokens each has.
        parts: (n, S, W), of neighbouring texts of one length.
    """

    lengths: list[int]
    parts: tuple[Tensor, ...]


def check_ids(ids: Tensor, vocab: int) -> None:
    """Raises InputError for ids out of range. On other devices than the CPU it would have to wait for them."""
    if ids.device.type == "cpu" and not ids.is_floating_point() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise InputError(f"token ids run from 0 to {vocab - 1}, got {int(ids.min())} to {int(ids.max())}")


def meant(x: Tensor, counts: list[int]) -> Tensor:
    """x (B, T, …) without the padding at the ends of its rows, (N, …)."""
    return x.flatten(0, 1) if min(counts) == x.shape[1] else x[_real(counts, x.shape[1], x.device)]


def padded(x: Tensor, counts: list[int], tokens: int) -> Tensor:
    """The other way round, (N, W) -> (B, tokens, W), with zeros as padding."""
    if min(counts) == tokens:
        return x.unflatten(0, (-1, tokens))
    out = x.new_zeros(len(counts), tokens, x.shape[-1])
    out[_real(counts, tokens, x.device)] = x
    return out


def _real(counts: list[int], tokens: int, device: torch.device) -> Tensor:
    return torch.arange(tokens, device=device) < torch.tensor(counts, device=device)[:, None]
