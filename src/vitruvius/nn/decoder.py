"""Twins of spec/decoder.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from ..errors import InputError
from .call import Call, Encoded, new_positions
from .position import LearnedPositions
from .state import EncoderState, FixedState, State, TokenState
from .stream import AltUpEnds, PerLayerEmbedding
from .twin import Twin, twin


@twin(spec.Scale)
class Scale(Twin[spec.Scale]):
    """factor · x."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return self.spec.factor * x


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
        y = torch.zeros_like(x)
        for branch in self.children():
            assert isinstance(branch, Branch)
            y = y + branch.added(x, call)
        return y


@twin(spec.Layer)
class Layer(Twin[spec.Layer]):
    """One branch after the other, and what is around them."""

    around: nn.Module

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W), or several such streams (n, B, T, W) -> the same."""
        return self.around(x, call, self.inside) if self.spec.around else self.inside(x, call)

    def inside(self, x: Tensor, call: Call) -> Tensor:
        """The branches: (B, T, W) -> (B, T, W)."""
        for branch in self.spec.branches:
            x = getattr(self, branch.name)(x, call)
        return x


@twin(spec.MTP)
class MTP(Twin[spec.MTP]):
    """norm(layer(join([norm(embedding of the next token), norm(hidden state)])))."""

    embedding_norm: nn.Module
    hidden_norm: nn.Module
    join: nn.Linear
    layer: Layer
    final_norm: nn.Module

    def forward(self, embedded: Tensor, hidden: Tensor, call: Call) -> Tensor:
        """The next tokens' embeddings and the hidden states before them (B, T, W) -> hidden states one token ahead."""
        x = self.join(torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), -1))
        return self.final_norm(self.layer(x, call))


@twin(spec.Embedding)
class Embedding(Twin[spec.Embedding]):
    """Looks rows up, and scales them."""

    weight: Tensor
    per_layer: PerLayerEmbedding

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


@twin(spec.Encoder)
class Encoder(Twin[spec.Encoder]):
    """Reads a whole text at once."""

    embedding: Embedding
    layers: nn.ModuleList
    final_norm: nn.Module

    def forward(self, ids: Tensor, lengths: list[int], head: Tensor) -> Encoded:
        """ids (B, S), how many of each row are not padding, the head's matrix (V, W) for a tied embedding -> what the
        decoder may look at."""
        ids = ids[:, : max(lengths)]
        even = min(lengths) == ids.shape[1]
        call = Call(new_positions(ids.shape[1], None, ids.device), None, None if even else lengths)
        x = self.embedding(ids, head)
        for layer in self.layers:
            x = layer(x, call)
        return Encoded(lengths, self.final_norm(x), ids.device)


@twin(spec.Decoder)
class Decoder(Twin[spec.Decoder]):
    """A language model: a decoder, and the encoder that it looks across to, if it has one.

    Args:
        spec: its architecture.

    `eos` are the token ids that end a text, `decoder_start` is the one that an encoder–decoder begins its answer with,
    and `origin` is the checkpoint: known for models that were loaded.
    """

    encoder: Encoder
    embedding: Embedding
    positions: LearnedPositions
    ends: AltUpEnds
    layers: nn.ModuleList
    final_norm: nn.Module
    head: Head
    mtp: nn.ModuleList

    def __init__(self, spec: spec.Decoder, width: int, copies: tuple[int, ...] = ()) -> None:
        super().__init__(spec, width, copies)
        self.eos: frozenset[int] = frozenset()
        self.decoder_start: int | None = None
        self.origin: Any = None
        for path, module in self.named_modules():
            if isinstance(module, Twin):
                module.path = path

    def forward(
        self,
        input_ids: Tensor | None = None,
        state: State | None = None,
        lengths: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_lengths: Tensor | None = None,
    ) -> Tensor:
        """Logits for the token after each.

        Args:
            input_ids: (B, T), the new tokens.
            state: what earlier calls have seen; it is advanced by these tokens.
            lengths: (B,), how many of each row's tokens are meant, where rows are padded on the right.
            decoder_input_ids, decoder_lengths: the same for the decoder of a model that has an encoder. There
                `input_ids` and `lengths` are what the encoder reads; a state remembers it, so the calls after the first
                give the decoder's tokens only.

        Returns (B, T, V). Raises InputError for ids out of range, or more tokens than the state has room for.
        """
        if self.spec.encoder is None:
            if input_ids is None or decoder_input_ids is not None:
                raise InputError(f"{self.spec.name} has no encoder: give its tokens as input_ids")
            return self.head(self.hidden(input_ids, state, lengths))
        if decoder_input_ids is None:
            raise InputError(f"{self.spec.name} reads input_ids and writes after decoder_input_ids: give both")
        encoded = None if input_ids is None else self.encode(input_ids, lengths, state)
        return self.head(self.hidden(decoder_input_ids, state, decoder_lengths, encoded))

    def encode(self, input_ids: Tensor, lengths: Tensor | None = None, state: State | None = None) -> Encoded:
        """What the encoder makes of input_ids (B, S). A state keeps the keys and values that the decoder's layers make
        of it, in the place of those that it had."""
        assert self.spec.encoder is not None
        counts = self._counts(input_ids, None, lengths, self.spec.encoder.embedding.vocab)
        kept = None if state is None else state.encoder
        if state is not None and kept is not None:
            if len(state.lengths) != len(counts) or state.length:
                raise InputError(f"the encoder reads {len(counts)} texts: give a new state for as many sequences")
            kept.room(max(counts))
        encoded: Encoded = self.encoder(input_ids, counts, self.head.weight)
        if kept is not None and encoded.x is not None:
            for path in kept.parts:
                k, v = self.get_submodule(f"{path}.kv")(encoded.x)
                kept.fill(path, k=k, v=v)
            kept.lengths = counts
        return encoded

    def hidden(
        self,
        input_ids: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        encoded: Encoded | None = None,
    ) -> Tensor:
        """As `forward`, up to the head: (B, T, W). The ids are the decoder's, `encoded` what its encoder has made of
        another text; a state has kept that."""
        for x in self.stream(input_ids, state, lengths, encoded):
            final = x
        return final

    def ahead(self, input_ids: Tensor) -> list[Tensor]:
        """What the layers for multi-token prediction say: logits (B, T − 1 − k, V) of module k, whose entry t is for
        the token t + 2 + k. It sees the tokens up to t + 1 + k and the hidden states of the module before it."""
        hidden, logits = self.hidden(input_ids), []
        for k, module in enumerate(self.mtp if self.spec.mtp else ()):
            ids, hidden = input_ids[:, k + 1 :], hidden[:, :-1]
            positions = torch.arange(k + 1, input_ids.shape[1], device=ids.device)[None]
            hidden = module(self.embedding(ids, self.head.weight), hidden, Call(positions, None, None))
            logits.append(self.head(hidden))
        return logits

    @torch.no_grad()
    def hidden_states(self, input_ids: Tensor, encoded: Encoded | None = None) -> list[Tensor]:
        """The residual stream (B, T, W) after the embedding and after each layer, the last one normed; several streams
        (n, B, T, W) are left as they are."""
        *before, raw, last = self.stream(input_ids, encoded=encoded)
        return [*before, raw if self.spec.ends else last]

    def stream(
        self,
        input_ids: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        encoded: Encoded | None = None,
    ) -> Iterator[Tensor]:
        """The residual stream (B, T, W) after the embedding, after each layer, and after the final norm; where layers
        have several streams, all of them (n, B, T, W) but at the end."""
        counts = self._counts(input_ids, state, lengths, self.spec.embedding.vocab)
        encoded = self._heard(encoded, state, input_ids)
        positions = new_positions(input_ids.shape[1], state, input_ids.device)
        call = Call(positions, state, counts if lengths is not None else None, encoded)
        x = self.embedding(input_ids, self.head.weight)
        if self.spec.embedding.per_layer:
            call.layer_inputs = self.embedding.per_layer(input_ids, x)
        if self.spec.positions:
            self._within(counts, state)
            x = x + self.positions(positions)
        x = self.ends.widen(x) if self.spec.ends else x
        yield x
        for layer in self.layers:
            x = layer(x, call)
            yield x
        yield self.final_norm(self.ends.narrow(x) if self.spec.ends else x)
        if state is not None:
            state.advance(counts)

    def new_state(
        self, batch: int = 1, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None
    ) -> State:
        """An empty state for `batch` sequences of up to `capacity` tokens (the model's context, if None).

        `slack` is how many tokens windowed layers keep beyond their window, so that `rewind` can go back that far;
        `encoder_capacity` how many tokens an encoder may read (as many as `capacity`, if None).
        """
        capacity = self.spec.context if capacity is None else capacity
        encoder_capacity = capacity if encoder_capacity is None else encoder_capacity
        if batch < 1 or min(capacity, encoder_capacity) < 1 or slack < 0:
            raise InputError(f"a state needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        dtype, device = self.head.weight.dtype, self.head.weight.device
        tokens: dict[str, TokenState] = {}
        fixed: dict[str, FixedState] = {}
        static: dict[str, dict[str, spec.Static]] = {}
        for module in self.modules():
            if not isinstance(module, Twin) or module.path.startswith("mtp."):
                continue
            declared = module.spec.state()
            growing = {name: entry for name, entry in declared.items() if isinstance(entry, spec.PerToken)}
            constant = {name: entry for name, entry in declared.items() if isinstance(entry, spec.Fixed)}
            if growing:
                tokens[module.path] = TokenState(growing, batch, capacity, slack, dtype, device)
            if constant:
                fixed[module.path] = FixedState(constant, batch, dtype, device)
            if entries := {name: entry for name, entry in declared.items() if isinstance(entry, spec.Static)}:
                static[module.path] = entries
        encoder = EncoderState(static, batch, encoder_capacity, dtype, device) if self.spec.encoder else None
        return State(tokens, fixed, batch, capacity, encoder)

    def _heard(self, encoded: Encoded | None, state: State | None, ids: Tensor) -> Encoded | None:
        """What the encoder has given, in this call or in an earlier one, after all has been checked."""
        if self.spec.encoder is None:
            return None
        if state is not None and state.encoder is not None:
            encoded = Encoded(state.encoder.lengths, None, ids.device) if any(state.encoder.lengths) else None
        if encoded is None:
            raise InputError(f"the encoder of {self.spec.name} has read nothing yet: give input_ids too")
        if len(encoded.lengths) != len(ids):
            raise InputError(f"the encoder has read {len(encoded.lengths)} texts, and the decoder has {len(ids)} rows")
        return encoded

    def _counts(self, ids: Tensor, state: State | None, lengths: Tensor | None, vocab: int) -> list[int]:
        """How many of each row's tokens are meant, after all has been checked."""
        if ids.ndim != 2 or ids.shape[1] == 0 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"input_ids must be integers (B, T) with T ≥ 1, got {ids.dtype} {tuple(ids.shape)}")
        batch, tokens = ids.shape
        if ids.device.type == "cpu" and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
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
