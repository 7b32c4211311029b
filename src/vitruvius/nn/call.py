"""What one forward pass shares among its layers: where its tokens stand, rotary tables, masks, states. Nothing in it
changes while it runs; what a layer leaves for others goes through the model's hands.

Tokens of several sequences lie side by side in one row, (1, N, …), and nothing is padded: only where tokens meet is it
split into groups of sequences that stand alike. Where they all do, they lie as a batch, (B, T, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import log
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import spec
from ..spec import Edge
from .ops import Mask, Scores
from .position import rotate, rotation
from .state import Keys, Rows, Sequence
from .twin import Needs

Table = tuple[Tensor, Tensor]
B = TypeVar("B", bound="Block")


@dataclass(frozen=True)
class Block:
    """Sequences that lie side by side in a pass, with as many new tokens each.

    Args:
        index: which block (or group) of the pass it is.
        start: where its tokens begin in the pass's row: `count` sequences of `tokens` each.
        rows: their states, None in a pass without.
    """

    index: int
    start: int
    count: int
    tokens: int
    rows: Rows | None


@dataclass(frozen=True)
class Group(Block):
    """Those of a block that also have as many old tokens, in neighbouring rows of one store: to attention they are a
    batch.

    Args:
        begin: how many tokens each has before the new ones.
        positions: (n or 1, T), absolute.
        encoded: how many tokens an encoder has read of each.
        keys: window -> where the keys stand that its queries see.
        masks: which of these they see.
        kept_tables: rotary tables of keys that are kept unrotated.
    """

    begin: int
    positions: Tensor
    encoded: int
    keys: Mapping[int | None, Keys]
    masks: Mapping[tuple[spec.Mask, int | None], Mask]
    kept_tables: Mapping[tuple[spec.RoPE, int | None], Table]

    def remember(self, path: str, window: int | None, **new: Tensor) -> tuple[tuple[Tensor, ...], Keys]:
        """Adds the new tokens' entries (n, …, T, channels) to the states of the part at `path`; returns all that may be
        seen, in the same order, and where it stands."""
        keys = self.keys[window]
        if self.rows is None:
            return tuple(new.values()), keys
        return self.rows.store.append(self.rows.rows, path, self.begin, window, new), keys

    def keep(self, path: str, name: str, new: Tensor) -> None:
        """Keeps the new tokens' entries (n, …, T, channels) in the states of the part at `path`."""
        assert self.rows is not None
        store = self.rows.store
        store.append(self.rows.rows, path, self.begin, store.declared[path][name].window, {name: new})

    def before(self, path: str, name: str) -> Tensor:
        """The entry that the part at `path` has kept of the token before the new ones, (n, …, channels); zeros before
        the first."""
        assert self.rows is not None
        return self.rows.store.entry(self.rows.rows, path, name, self.begin - 1)

    def rotate_kept(self, rope: spec.RoPE, x: Tensor, keys: Keys) -> Tensor:
        """Rotary positions on what is kept, x (n, heads, S, D)."""
        return rotate(rope, x, self.kept_tables[rope, keys.window])

    def mask(self, mask: spec.Mask, keys: Keys) -> Mask:
        """What each new token sees of `keys`, as far as positions say."""
        return self.masks[mask, keys.window]

    def scores(self, softmax: spec.Softmax, dtype: torch.dtype, sinks: Tensor | None) -> Scores:
        """How the scores of its queries become weights."""
        how = Scores(softmax.scale, softmax.softcap, sinks=sinks)
        if not isinstance(temperature := softmax.temperature, spec.LengthTemperature):
            return how
        ratio = torch.log(self.positions.clamp(min=1).float()) / log(temperature.length)
        sharpen = torch.where(self.positions > temperature.length, ratio, 1.0)
        return replace(how, sharpen=sharpen[:, None, :, None].to(dtype))

    def encoder(self, path: str) -> tuple[Tensor, ...]:
        """What the part at `path` has kept of an encoder's output."""
        assert self.rows is not None
        names = self.rows.store.parts[path]
        return tuple(self.rows.read(path, name)[..., : self.encoded, :] for name in names)


@dataclass(frozen=True)
class Call:
    """One forward pass over new tokens.

    Args:
        positions: (B or 1, T), the absolute position of each new token.
        groups: of sequences, for attention; `blocks` for recurrences, which do not mind how long a sequence is.
        tables: of rotary positions.
        documents: (B, T), the number of each token's document in its row, where rows are packed.
        encoded: what an encoder has given, (n, S, W) for each group.
        ids: (B, T), of the tokens, where a part reads them.
        given: what this layer reads of earlier ones, and `layer_input` (B, T, channels) its own input, where layers
            have one.
        wanted: what others want of this layer.
        gives: what it leaves for them.
    """

    positions: Tensor
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    tables: Mapping[spec.RoPE, Table]
    documents: Tensor | None = None
    encoded: tuple[Tensor, ...] | None = None
    ids: Tensor | None = None
    given: Mapping[Edge, Any] = field(default_factory=dict)
    layer_input: Tensor | None = None
    wanted: frozenset[str] = frozenset()
    gives: dict[str, Any] = field(default_factory=dict)

    def give(self, kind: str, value: Any) -> None:
        """Leaves something for later layers, if one of them wants it."""
        if kind in self.wanted:
            self.gives[kind] = value

    def rotate(self, rope: spec.RoPE, x: Tensor) -> Tensor:
        """Rotary positions on x (B, heads, T, D)."""
        cos, sin = self.tables[rope]
        return rotate(rope, x, (cos.to(x.dtype), sin.to(x.dtype)))

    def temper(self, softmax: spec.Softmax, q: Tensor) -> Tensor:
        """The queries (B, H, T, D) at the temperature of their positions."""
        if not isinstance(temperature := softmax.temperature, spec.LogTemperature):
            return q
        steps = torch.floor((self.positions + temperature.shift).float() / temperature.floor)
        return q * (1 + temperature.scale * torch.log1p(steps))[:, None, :, None].to(q.dtype)

    def split(self, blocks: Several[B], *tensors: Tensor) -> list[tuple[B, Several[Tensor]]]:
        """Each group or block of the pass with its parts (n, …, T, channels) of tensors (B or 1, …, T, channels)."""
        if len(self.groups) == 1:
            return [(blocks[0], tensors)]
        return [(block, [_part(x, block) for x in tensors]) for block in blocks]

    def laid(self, new: Tensor) -> Tensor:
        """Something of each new token, (N, …), as the tokens lie: (B, T, …), or (1, N, …)."""
        return new.unflatten(0, (self.groups[0].count, -1) if len(self.groups) == 1 else (1, -1))

    def join(self, parts: Several[Tensor]) -> Tensor:
        """What parts (n, …, T, channels) are together, (B or 1, …, T, channels)."""
        if len(self.groups) == 1:
            return parts[0]
        return torch.cat([x if len(x) == 1 else x.movedim(0, -3).flatten(-3, -2)[None] for x in parts], -2)


def _part(x: Tensor, block: Block) -> Tensor:
    part = x[..., block.start : block.start + block.count * block.tokens, :]
    return part if block.count == 1 else part.unflatten(-2, (block.count, -1)).movedim(-3, 0)[:, 0]


@dataclass(frozen=True)
class StepEntry:
    """One sequence of a pass.

    Args:
        tokens: how many are new.
        sequence: what it remembers, None in a pass without states.
        encoded: how many tokens an encoder has read of it.
        positions: (A, T), where they stand on each axis of a position, if that is not the next place on all.
        drafted: tokens between those that the sequence has and the new ones.
    """

    tokens: int
    sequence: Sequence | None = None
    encoded: int = 0
    positions: Tensor | None = None
    drafted: int = 0

    @property
    def begin(self) -> int:
        """How many tokens come before the new ones."""
        return self.sequence.length + self.drafted if self.sequence else 0


def call_of(
    needs: Needs,
    entries: Several[StepEntry],
    device: torch.device,
    dtype: torch.dtype,
    encoded: tuple[Tensor, ...] | None = None,
    first: int = 0,
) -> Call:
    """A pass over sequences that lie in this order, of parts in `dtype` that have seen the tokens from position `first`
    on."""
    blocks: list[Block] = []
    groups: list[Group] = []
    start = 0
    for tokens, alike in groupby(entries, lambda entry: entry.tokens):
        block = list(alike)
        blocks.append(Block(len(blocks), start, len(block), tokens, _rows(block)))
        for some in _neighbours(block):
            rows, begin = _rows(some), some[0].begin
            positions = torch.arange(begin, begin + tokens, device=device)[None]
            here = Block(len(groups), start, len(some), tokens, rows)
            groups.append(_group(needs, here, positions, begin, None, dtype, some[0].encoded, first))
            start += len(some) * tokens
    if len(groups) == 1:
        positions = groups[0].positions
    else:
        positions = torch.cat([group.positions.expand(group.count, -1).reshape(1, -1) for group in groups], 1)
    turns = positions if all(map(_in_order, entries)) else _on_axes(entries, len(groups), device)
    tables = {rope: rotation(rope, turns, dtype) for rope in needs.ropes}
    return Call(positions, tuple(groups), tuple(blocks), tables, None, encoded)


def _in_order(entry: StepEntry) -> bool:
    """Whether its tokens turn by their order in the sequence."""
    return entry.positions is None and (entry.sequence is None or not entry.sequence.shift)


def _on_axes(entries: Several[StepEntry], groups: int, device: torch.device) -> Tensor:
    """Where the tokens of a pass stand on each axis, (A, B, T) or (A, 1, N); without the A, where all are the same."""
    axes = max(1 if entry.positions is None else len(entry.positions) for entry in entries)
    rows = []
    for entry in entries:
        if entry.positions is None:
            begin = entry.begin + (entry.sequence.shift if entry.sequence else 0)
            rows.append(torch.arange(begin, begin + entry.tokens, device=device).expand(axes, -1))
        else:
            rows.append(entry.positions.expand(axes, -1))
    turns = torch.cat(rows, 1).unflatten(1, (len(entries) if groups == 1 else 1, -1))
    return turns if axes > 1 else turns[0]


def whole_call(
    needs: Needs,
    new: Tensor,
    dtype: torch.dtype,
    start: int = 0,
    documents: Tensor | None = None,
    turns: Tensor | None = None,
) -> Call:
    """A pass over rows (B, T, …) that nothing came before.

    Args:
        start: the position of their first tokens.
        documents: (B, T), the document of each token. Those of different documents do not see each other, and
            positions begin anew with each.
        turns: (A, B, T), where they stand on each axis of a position, if that is not their order.
    """
    batch, tokens = new.shape[:2]
    block = Block(0, 0, batch, tokens, None)
    if documents is None:
        runs, positions = None, torch.arange(start, start + tokens, device=new.device)[None]
    else:
        runs = F.pad((documents[:, 1:] != documents[:, :-1]).long().cumsum(1), (1, 0))
        steps = torch.arange(tokens, device=new.device)
        begins = F.pad(runs[:, 1:] != runs[:, :-1], (1, 0), value=True)
        positions = steps - torch.where(begins, steps, 0).cummax(1).values
    group = _group(needs, block, positions, start, runs, dtype)
    tables = {rope: rotation(rope, positions if turns is None else turns, dtype) for rope in needs.ropes}
    return Call(positions, (group,), (block,), tables, runs)


def _rows(entries: Several[StepEntry]) -> Rows | None:
    sequences = [entry.sequence for entry in entries if entry.sequence is not None]
    return Rows(sequences) if sequences else None


def _neighbours(entries: Several[StepEntry]) -> Iterator[list[StepEntry]]:
    """Cuts them where they do not stand alike."""
    some: list[StepEntry] = []
    for entry in entries:
        if some and not _alike(some[-1], entry):
            yield some
            some = []
        some.append(entry)
    yield some


def _alike(entry: StepEntry, following: StepEntry) -> bool:
    a, b = entry.sequence, following.sequence
    if entry.encoded != following.encoded or a is None or b is None:
        return entry.encoded == following.encoded
    return entry.begin == following.begin and a.store is b.store and a.row + 1 == b.row


def _group(
    needs: Needs,
    block: Block,
    positions: Tensor,
    start: int,
    runs: Tensor | None,
    dtype: torch.dtype,
    encoded: int = 0,
    first: int = 0,
) -> Group:
    """A block of sequences that stand alike, after `start` tokens each, with all that they share."""
    keys = {}
    for window in {window for _, window in needs.masks}:
        if block.rows is None or window not in block.rows.store.slots:
            keys[window] = Keys(positions, start, start + block.tokens, window)
        else:
            keys[window] = block.rows.store.keys(window, start, block.tokens)
    masks = {(mask, window): _mask(mask, positions, keys[window], runs, first) for mask, window in needs.masks}
    kept = {(rope, window): rotation(rope, keys[window].positions, dtype) for rope, window in needs.kept}
    here = (block.index, block.start, block.count, block.tokens, block.rows)
    return Group(*here, start, positions, encoded, keys, masks, kept)


def _mask(mask: spec.Mask, positions: Tensor, keys: Keys, runs: Tensor | None, first: int) -> Mask:
    if isinstance(mask, spec.Everything):
        return Mask()
    if keys.first < first:  # tokens before `first` mean nothing; each sees itself, so that its numbers stay finite
        own = keys.positions[:, None, :] == positions[:, :, None]
        return Mask((visible(mask, positions, keys.positions) & ((keys.positions >= first)[:, None] | own))[:, None])
    if runs is not None:
        return Mask((visible(mask, positions, keys.positions) & (runs[:, :, None] == runs[:, None]))[:, None])
    if _plain(mask, keys.first, keys.last):  # nothing but the order of positions hides a key: simple rules serve
        if positions.shape[1] == 1:
            return Mask()
        if keys.last - keys.first == positions.shape[1]:
            return Mask(causal=True)
    return Mask(visible(mask, positions, keys.positions)[:, None])


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
