"""What one call of a model shares among its layers: positions, rotary tables, masks, and the state."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import spec
from .ops import Mask
from .position import rotate, rotation
from .state import Keys, State


class Call:
    """One forward pass over `tokens` new tokens of each sequence.

    Args:
        positions: (B or 1, T), the absolute position of each new token.
        state: what is remembered of earlier calls, or None.
        lengths: how many of each row's tokens are not padding, or None for all.
    """

    def __init__(self, positions: Tensor, state: State | None, lengths: list[int] | None) -> None:
        self.positions, self.state, self.lengths = positions, state, lengths
        self._tables: dict[spec.RoPE, tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[spec.Sees, object], Mask] = {}

    def rotate(self, rope: spec.RoPE, x: Tensor) -> Tensor:
        """Rotary positions on x (B, heads, T, D)."""
        if rope not in self._tables:
            self._tables[rope] = rotation(rope, self.positions)
        return rotate(rope, x, self._tables[rope])

    def remember(self, path: str, **new: Tensor) -> tuple[tuple[Tensor, ...], Keys]:
        """Adds the new tokens' entries (…, T, channels) to the state of the part at `path`; returns all that may be
        seen, in the same order, and where it stands."""
        if self.state is None:
            return tuple(new.values()), Keys(self.positions, (0, self.positions.shape[1]))
        return self.state.parts[path].append(new, self.state.lengths, self.lengths)

    def mask(self, sees: spec.Sees, keys: Keys) -> Mask:
        """What each new token sees of `keys`."""
        geometry = (sees, keys.geometry)
        if geometry not in self._masks:
            self._masks[geometry] = self._mask(sees, keys)
        return self._masks[geometry]

    def _mask(self, sees: spec.Sees, keys: Keys) -> Mask:
        if keys.span:  # every row sees the same, and simple rules serve
            first, last = keys.span
            fits = sees.window is None or last - first <= sees.window
            if fits and self.positions.shape[1] == 1:
                return Mask()
            if fits and last - first == self.positions.shape[1]:
                return Mask(causal=True)
        return Mask(visible(sees, self.positions, keys.positions)[:, None])


def visible(sees: spec.Sees, queries: Tensor, keys: Tensor) -> Tensor:
    """Whether a query at one absolute position sees a key at another: (B or 1, T) and (B or 1, S) -> bool (B or 1, T,
    S)."""
    distance = queries[:, :, None] - keys[:, None, :]
    seen = distance >= 0
    return seen if sees.window is None else seen & (distance < sees.window)


def new_positions(tokens: int, state: State | None, device: torch.device) -> Tensor:
    """The absolute positions (B or 1, T) of `tokens` new tokens of each row."""
    steps = torch.arange(tokens, device=device)[None]
    if state is None:
        return steps
    if len(set(state.lengths)) == 1:
        return steps + state.lengths[0]
    return steps + torch.tensor(state.lengths, device=device)[:, None]
