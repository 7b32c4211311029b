"""What one call of a model shares among its layers: positions, rotary tables, masks, and the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from math import log

import torch
from torch import Tensor

from .. import spec
from .ops import Mask, Scores
from .position import rotate, rotation
from .state import FixedState, Keys, State


class Encoded:
    """What an encoder has given.

    Args:
        lengths: how many tokens of each row are not padding.
        x: (B, S, W), S the longest of them; None where the decoder's state has kept what it needs of it.
        device: where the decoder runs.
    """

    def __init__(self, lengths: list[int], x: Tensor | None, device: torch.device) -> None:
        self.lengths, self.x = lengths, x
        positions = torch.arange(max(lengths), device=device)[None]
        even = len(set(lengths)) == 1
        real = None if even else positions < torch.tensor(lengths, device=device)[:, None]
        self.keys = Keys(lambda: positions, (0, max(lengths)), real=real)


class Call:
    """One forward pass over `tokens` new tokens of each sequence.

    Args:
        positions: (B or 1, T), the absolute position of each new token.
        state: what is remembered of earlier calls, or None.
        lengths: how many of each row's tokens are not padding, or None for all.
        encoded: what the encoder has given, in models that have one.
    """

    def __init__(
        self, positions: Tensor, state: State | None, lengths: list[int] | None, encoded: Encoded | None = None
    ) -> None:
        self.positions, self.state, self.lengths, self.encoded = positions, state, lengths, encoded
        self._relative: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}
        self._biases: dict[tuple[int, object], Tensor] = {}
        self._tables: dict[tuple[spec.RoPE, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._kept_tables: dict[tuple[spec.RoPE, object], tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[spec.Mask, object], Mask] = {}
        self.layer_inputs: Tensor | None = None  # (B, T, layers, channels), each layer's own input where there are such
        self._kept: dict[int, tuple[tuple[Tensor, ...], Keys]] = {}
        self._chosen: dict[int, Mask] = {}

    def rotate(self, rope: spec.RoPE, x: Tensor) -> Tensor:
        """Rotary positions on x (B, heads, T, D)."""
        if (rope, x.dtype) not in self._tables:
            self._tables[rope, x.dtype] = rotation(rope, self.positions, x.dtype)
        return rotate(rope, x, self._tables[rope, x.dtype])

    def remember(self, path: str, **new: Tensor) -> tuple[tuple[Tensor, ...], Keys]:
        """Adds the new tokens' entries (…, T, channels) to the state of the part at `path`; returns all that may be
        seen, in the same order, and where it stands."""
        if self.state is None:
            kept = tuple(new.values()), Keys(lambda: self.positions, (0, self.positions.shape[1]), real=self.real)
        else:
            kept = self.state.tokens[path].append(new, self.state.lengths, self.lengths)
        if "v" in new:
            self.lend(path, *kept)
        return kept

    def rotate_kept(self, rope: spec.RoPE, x: Tensor, where: Keys) -> Tensor:
        """Rotary positions on what is kept, x (B, heads, S, D)."""
        place = (rope, where.geometry)
        if place not in self._kept_tables:
            self._kept_tables[place] = rotation(rope, where.positions, x.dtype)
        return rotate(rope, x, self._kept_tables[place])

    def choose(self, path: str, mask: Mask) -> Mask:
        """What the indexer at `path` has chosen, for its own layer and for later ones."""
        self._chosen[layer_of(path)] = mask
        return mask

    def lend(self, path: str, kept: tuple[Tensor, ...], keys: Keys) -> None:
        """What later layers get that use the keys and values of the part at `path`."""
        self._kept[layer_of(path)] = kept, keys

    def kept_by(self, layer: int) -> tuple[tuple[Tensor, ...], Keys]:
        """What the attention of an earlier layer has remembered in this call."""
        return self._kept[layer]

    def encoder(self, path: str, make: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, ...], Keys]:
        """The keys and values of the encoder's tokens for the part at `path`: as the state has kept them, or else
        made of its output."""
        assert self.encoded is not None, "checked by the model"
        if self.encoded.x is not None:
            return make(self.encoded.x), self.encoded.keys
        assert self.state is not None
        assert self.state.encoder is not None
        return self.state.encoder.kept(path), self.encoded.keys

    def relative(self, layer: int, keys: Keys, bias: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """What the relative positions of `layer` add to the scores of `keys`, (B or 1, H, T, S). The layer itself gives
        its `bias`, a function of the positions of queries and keys; later layers that use it too do not."""
        if bias is not None:
            self._relative[layer] = bias
        geometry = (layer, keys.geometry)
        if geometry not in self._biases:
            self._biases[geometry] = self._relative[layer](self.positions, keys.positions)
        return self._biases[geometry]

    def fixed(self, path: str) -> FixedState | None:
        """The recurrent state of the part at `path`, None where the call has no state."""
        return None if self.state is None else self.state.fixed[path]

    @cached_property
    def real(self) -> Tensor | None:
        """(B, T): which of the new tokens are not padding; None if all are. Recurrences must pass over the others."""
        if self.lengths is None:
            return None
        counts = torch.tensor(self.lengths, device=self.positions.device)
        return torch.arange(self.positions.shape[1], device=counts.device) < counts[:, None]

    def scores(self, softmax: spec.Softmax, q: Tensor, sinks: Tensor | None) -> tuple[Tensor, Scores]:
        """The queries (B, H, T, D) at their temperature, and how their scores become weights."""
        how = Scores(softmax.scale, softmax.softcap, sinks=sinks)
        match softmax.temperature:
            case None:
                return q, how
            case spec.LogTemperature(scale=scale, floor=floor, shift=shift):
                steps = torch.floor((self.positions + shift).float() / floor)
                return q * (1 + scale * torch.log1p(steps))[:, None, :, None].to(q.dtype), how
            case spec.LengthTemperature(length=length):
                ratio = torch.log(self.positions.clamp(min=1).float()) / log(length)
                sharpen = torch.where(self.positions > length, ratio, 1.0)
                return q, replace(how, sharpen=sharpen[:, None, :, None].to(q.dtype))

    def mask(self, mask: spec.Mask, keys: Keys) -> Mask:
        """What each new token sees of `keys`."""
        if isinstance(mask, spec.LayerIndexer):
            return self._chosen[mask.layer]
        geometry = (mask, keys.geometry)
        if geometry not in self._masks:
            self._masks[geometry] = self._mask(mask, keys)
        return self._masks[geometry]

    def _mask(self, mask: spec.Mask, keys: Keys) -> Mask:
        if isinstance(mask, spec.Everything):
            return Mask() if keys.real is None else Mask(keys.real[:, None, None])
        if keys.span and _plain(mask, *keys.span):  # every row sees the same, and simple rules serve
            first, last = keys.span
            if self.positions.shape[1] == 1:
                return Mask()
            if last - first == self.positions.shape[1]:
                return Mask(causal=True)
        return Mask(visible(mask, self.positions, keys.positions)[:, None])


def _plain(mask: spec.Mask, first: int, last: int) -> bool:
    """Whether nothing but the order of positions hides a key, among the positions first … last − 1."""
    match mask:
        case spec.Window(size=size):
            return last - first <= size
        case spec.Chunk(size=size):
            return first // size == (last - 1) // size
    return True


def visible(mask: spec.Mask, queries: Tensor, keys: Tensor) -> Tensor:
    """Whether a query at one absolute position sees a key at another: (B or 1, T) and (B or 1, S) -> bool (B or 1, T,
    S)."""
    q, k = queries[:, :, None], keys[:, None, :]
    seen = k <= q
    match mask:
        case spec.Window(size=size):
            return seen & (q - k < size)
        case spec.Chunk(size=size):
            return seen & (q // size == k // size)
    return seen


def layer_of(path: str) -> int:
    """The number in "layers.7.mixer.body" and in "encoder.layers.7.mixer.body"; −1 elsewhere."""
    group, _, rest = path.removeprefix("encoder.").partition(".")
    return int(rest.partition(".")[0]) if group == "layers" else -1


def new_positions(tokens: int, state: State | None, device: torch.device) -> Tensor:
    """The absolute positions (B or 1, T) of `tokens` new tokens of each row."""
    steps = torch.arange(tokens, device=device)[None]
    if state is None:
        return steps
    if len(set(state.lengths)) == 1:
        return steps + state.lengths[0]
    return steps + torch.tensor(state.lengths, device=device)[:, None]
