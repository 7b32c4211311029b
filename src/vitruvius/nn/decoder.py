"""Twins of spec/decoder.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from ..errors import InputError
from .call import Call, new_positions
from .position import LearnedPositions
from .state import FixedState, State, TokenState
from .twin import Twin, twin


@twin(spec.Branch)
class Branch(Twin[spec.Branch]):
    """x ← skip · x + scale · post(body(pre(x)))."""

    pre: nn.Module
    body: nn.Module
    post: nn.Module

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        return _times(x, self.spec.skip) + self.added(x, call)

    def added(self, x: Tensor, call: Call) -> Tensor:
        """What the branch adds to its stream: scale · post(body(pre(x)))."""
        s = self.spec
        y = self.pre(x) if s.pre else x
        y = self.body(y, call) if s.body.mixes else self.body(y)
        y = self.post(y) if s.post else y
        return _times(y, s.scale)


def _times(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else factor * x


@twin(spec.Parallel)
class Parallel(Twin[spec.Parallel]):
    """Σ scale · post(body(pre(x)))."""

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        first, *others = (self.get_submodule(branch.name) for branch in self.spec.branches)
        y = first.added(x, call)
        for other in others:
            y = y + other.added(x, call)
        return y


@twin(spec.Layer)
class Layer(Twin[spec.Layer]):
    """One branch after the other."""

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        for branch in self.spec.branches:
            x = self.get_submodule(branch.name)(x, call)
        return x


@twin(spec.Embedding)
class Embedding(Twin[spec.Embedding]):
    """Looks rows up, and scales them."""

    weight: Tensor

    def forward(self, ids: Tensor, head: Tensor) -> Tensor:
        """ids (B, T), the head's matrix (V, W) for a tied one -> (B, T, W)."""
        x = F.embedding(ids, head if self.spec.tied else self.weight)
        # the scale in the model's own precision, as Gemma has it
        return x if self.spec.scale == 1.0 else x * torch.tensor(self.spec.scale, dtype=x.dtype)


@twin(spec.Head)
class Head(Twin[spec.Head]):
    """softcap(scale · x Wᵀ)."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> logits (…, V)."""
        logits = _times(F.linear(x, self.weight), self.spec.scale)
        cap = self.spec.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


@twin(spec.Decoder)
class Decoder(Twin[spec.Decoder]):
    """A decoder-only language model.

    Args:
        spec: its architecture.

    `eos` are the token ids that end a text and `origin` the checkpoint, both known for loaded models.
    """

    embedding: Embedding
    positions: LearnedPositions
    layers: nn.ModuleList
    final_norm: nn.Module
    head: Head

    def __init__(self, spec: spec.Decoder, width: int, copies: tuple[int, ...] = ()) -> None:
        super().__init__(spec, width, copies)
        self.eos: frozenset[int] = frozenset()
        self.origin: Any = None
        for path, module in self.named_modules():
            if isinstance(module, Twin):
                module.path = path

    def unbuilt(self, spec: spec.Decoder) -> frozenset[str]:
        """Layers for multi-token prediction are not run yet."""
        return frozenset(f"mtp.{i}" for i in range(len(spec.mtp)))

    def forward(self, input_ids: Tensor, state: State | None = None, lengths: Tensor | None = None) -> Tensor:
        """Logits for the token after each.

        Args:
            input_ids: (B, T), the new tokens.
            state: what earlier calls have seen; it is advanced by these tokens.
            lengths: (B,), how many of each row's tokens are meant, where rows are padded on the right.

        Returns (B, T, V). Raises InputError for ids out of range, or more tokens than the state has room for.
        """
        return self.head(self.hidden(input_ids, state, lengths))

    def hidden(self, input_ids: Tensor, state: State | None = None, lengths: Tensor | None = None) -> Tensor:
        """As `forward`, up to the head: (B, T, W)."""
        for x in self.stream(input_ids, state, lengths):
            final = x
        return final

    @torch.no_grad()
    def hidden_states(self, input_ids: Tensor) -> list[Tensor]:
        """The residual stream (B, T, W) after the embedding and after each layer, the last one normed."""
        *before, _, last = self.stream(input_ids)
        return [*before, last]

    def stream(self, input_ids: Tensor, state: State | None = None, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """The residual stream (B, T, W) after the embedding, after each layer, and after the final norm."""
        counts = self._counts(input_ids, state, lengths)
        positions = new_positions(input_ids.shape[1], state, input_ids.device)
        call = Call(positions, state, counts if lengths is not None else None)
        x = self.embedding(input_ids, self.head.weight)
        if self.spec.positions:
            self._within(counts, state)
            x = x + self.positions(positions)
        yield x
        for layer in self.layers:
            x = layer(x, call)
            yield x
        yield self.final_norm(x)
        if state is not None:
            state.advance(counts)

    def new_state(self, batch: int = 1, capacity: int | None = None, slack: int = 0) -> State:
        """An empty state for `batch` sequences of up to `capacity` tokens (the model's context, if None).

        `slack` is how many tokens windowed layers keep beyond their window, so that `rewind` can go back that far.
        """
        capacity = self.spec.context if capacity is None else capacity
        if batch < 1 or capacity < 1 or slack < 0:
            raise InputError(f"a state needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        dtype, device = self.head.weight.dtype, self.head.weight.device
        tokens: dict[str, TokenState] = {}
        fixed: dict[str, FixedState] = {}
        for module in self.modules():
            declared = module.spec.state() if isinstance(module, Twin) else {}
            growing = {name: entry for name, entry in declared.items() if isinstance(entry, spec.PerToken)}
            constant = {name: entry for name, entry in declared.items() if isinstance(entry, spec.Fixed)}
            if growing:
                tokens[module.path] = TokenState(growing, batch, capacity, slack, dtype, device)
            if constant:
                fixed[module.path] = FixedState(constant, batch, dtype, device)
        return State(tokens, fixed, batch, capacity)

    def _counts(self, ids: Tensor, state: State | None, lengths: Tensor | None) -> list[int]:
        """How many of each row's tokens are meant, after all has been checked."""
        if ids.ndim != 2 or ids.shape[1] == 0 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"input_ids must be integers (B, T) with T ≥ 1, got {ids.dtype} {tuple(ids.shape)}")
        batch, tokens = ids.shape
        if ids.device.type == "cpu" and not 0 <= int(ids.min()) <= int(ids.max()) < self.spec.embedding.vocab:
            vocab = self.spec.embedding.vocab
            raise InputError(f"token ids run from 0 to {vocab - 1}, got {int(ids.min())} to {int(ids.max())}")
        counts = [tokens] * batch if lengths is None else [int(n) for n in lengths.tolist()]
        if len(counts) != batch or not all(1 <= n <= tokens for n in counts):
            raise InputError(f"lengths must be {batch} numbers from 1 to {tokens}, got {counts}")
        if state is not None:
            if len(state.lengths) != batch:
                raise InputError(f"the state is for {len(state.lengths)} sequences, got {batch}")
            state.room(counts)
        return counts

    def _within(self, counts: Sequence[int], state: State | None) -> None:
        """Learned positions end somewhere."""
        starts = state.lengths if state else [0] * len(counts)
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        if longest > self.spec.context:
            raise InputError(f"{longest} tokens, but the model has learned {self.spec.context} positions only")
