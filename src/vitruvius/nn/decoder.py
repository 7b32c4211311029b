"""Twins of spec/decoder.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from ..errors import InputError
from .call import Call, StepEntry, call_of, whole_call
from .draft import check_drafts, draft
from .feedforward import Routing
from .head import Classifier, Head
from .inputs import Encoded, check_ids, meant, padded
from .layer import Edges
from .position import LearnedPositions
from .state import Batch, Sequence, Store
from .step import advance, check_positions, step
from .stream import Ends, PerLayerEmbedding
from .twin import Needs, Twin, twin


@twin(spec.Embedding)
class Embedding(Twin[spec.Embedding]):
    """Looks rows up, and scales them."""

    weight: Tensor
    per_layer: PerLayerEmbedding

    def forward(self, ids: Tensor, head: Tensor | None) -> Tensor:
        """ids (B, T), the head's matrix (V, W) for a tied one -> (B, T, W)."""
        x = F.embedding(ids, head if self.spec.tied and head is not None else self.weight)
        # the scale in the model's own precision, as Gemma has it
        return x if self.spec.scale == 1.0 else x * torch.tensor(self.spec.scale, dtype=x.dtype)


# the methods that compute: FSDP must gather the weights for each (torch.distributed.fsdp.register_fsdp_forward_method)
ENTRANCES = (
    "forward",
    "encode",
    "hidden",
    "outputs",
    "ahead",
    "hidden_ahead",
    "step",
    "draft",
    "hidden_states",
)


@dataclass(frozen=True)
class Outputs:
    """What a pass yields when training asks for more than logits.

    Args:
        logits: (B, T, V), as `forward` gives them.
        hidden: (B, T, W), what the head reads.
        routing: layer -> what its router says of the B · T tokens, for auxiliary losses, loads and the z-loss.
        index_scores: layer -> (B, T, S), its indexer's scores, −∞ where a key is hidden; for its distillation.
    """

    logits: Tensor
    hidden: Tensor
    routing: Mapping[int, Routing]
    index_scores: Mapping[int, Tensor]


@twin(spec.Encoder)
class Encoder(Twin[spec.Encoder]):
    """Reads a whole text at once."""

    embedding: Embedding
    layers: nn.ModuleList
    final_norm: nn.Module

    def __init__(self, spec: spec.Encoder, width: int, copies: tuple[int, ...] = ()) -> None:
        super().__init__(spec, width, copies)
        self.edges = Edges.of(spec.layers, width)

    def forward(self, ids: Tensor, call: Call, head: Tensor | None) -> Tensor:
        """ids (B, S), the head's matrix (V, W) for a tied embedding -> (B, S, W)."""
        return self.final_norm(self.edges.run(self.layers, self.embedding(ids, head), replace(call, ids=ids)))


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
    ends: Ends[Any]
    layers: nn.ModuleList
    final_norm: nn.Module
    head: Head | Classifier
    mtp: nn.ModuleList

    def __init__(self, spec: spec.Decoder, width: int, copies: tuple[int, ...] = ()) -> None:
        super().__init__(spec, width, copies)
        self.eos: frozenset[int] = frozenset()
        self.decoder_start: int | None = None
        self.origin: Any = None
        self.all_needs, self.edges = needs_of(self), Edges.of(spec.layers, width)
        self.mtp_needs = [needs_of(module) for module in (self.mtp if spec.mtp else ())]
        for path, module in self.named_modules():
            if isinstance(module, Twin):
                module.path = path
        self.states = states_of(self)
        self.draft_states = self.states | spec.draft_state()

    def forward(
        self,
        input_ids: Tensor | None = None,
        state: Batch | None = None,
        lengths: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_lengths: Tensor | None = None,
        documents: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits for the token after each; of a classifier scores of its labels, of a model without a head the hidden
        states.

        Args:
            input_ids: (B, T), the new tokens.
            state: what earlier calls have seen; it is advanced by these tokens.
            lengths: (B,), how many of each row's tokens are meant, where rows are padded on the right.
            decoder_input_ids, decoder_lengths: the same for the decoder of a model that has an encoder. There
                `input_ids` and `lengths` are what the encoder reads; a state remembers it, so the calls after the first
                give the decoder's tokens only.
            documents: (B, T), integers that say which document each token of a packed row belongs to, without a state:
                tokens of different documents do not see each other, and positions begin anew with each.
            inputs_embeds: (B, T, W), embeddings in the place of `input_ids`.
            positions: (A, B, T), where they stand on each axis of a position, if that is not the next place on all:
                rotary positions turn by it. What a token sees goes by its order all the same.

        Returns (B, T, V), (B, T, labels) or (B, T, W). Raises InputError for ids out of range, or more tokens than the
        state has room for.
        """
        if self.spec.encoder is None:
            if decoder_input_ids is not None:
                raise InputError(f"{self.spec.name} has no encoder: give its tokens as input_ids")
            return self.read_out(self.hidden(input_ids, state, lengths, None, documents, inputs_embeds, positions))
        if decoder_input_ids is None:
            raise InputError(f"{self.spec.name} reads input_ids and writes after decoder_input_ids: give both")
        encoded = None if input_ids is None else self.encode(input_ids, lengths, state)
        return self.read_out(self.hidden(decoder_input_ids, state, decoder_lengths, encoded, documents))

    def encode(self, input_ids: Tensor, lengths: Tensor | None = None, state: Batch | None = None) -> Encoded:
        """What the encoder makes of input_ids (B, S). A state keeps the keys and values that the decoder's layers make
        of it, in the place of those that it had."""
        assert self.spec.encoder is not None
        counts = self._counts(input_ids, lengths, self.spec.encoder.embedding.vocab)
        if state is not None:
            if len(state.sequences) != len(counts) or state.length:
                raise InputError(f"the encoder reads {len(counts)} texts: give a new state for as many sequences")
            for sequence in state.sequences:
                sequence.encoder_room(max(counts))
        call = call_of(self.all_needs, [StepEntry(count) for count in counts], input_ids.device, self.dtype)
        head = self.head.weight if self.spec.head else None
        x = self.encoder(call.laid(meant(input_ids, counts)), call, head)
        parts = [part for _, (part,) in call.split(call.groups, x)]
        if state is not None:
            self._keep(parts, state.sequences)
        return Encoded(counts, tuple(parts))

    def _keep(self, parts: list[Tensor], sequences: list[Sequence]) -> None:
        """Keeps the keys and values that the decoder's layers make of encoded texts."""
        for path, declared in self.states.items():
            if any(isinstance(entry, spec.Static) for entry in declared.values()):
                pairs = [pair for part in parts for pair in zip(*self.get_submodule(f"{path}.kv")(part), strict=True)]
                for sequence, (k, v) in zip(sequences, pairs, strict=True):
                    sequence.keep_encoded(path, {"k": k, "v": v})
        texts = [text for part in parts for text in part]
        for sequence, text in zip(sequences, texts, strict=True):
            sequence.encoded = len(text)

    def embed(self, ids: Tensor) -> Tensor:
        """The tokens' rows: (B, T) -> (B, T, W)."""
        return self.embedding(ids, self.head.weight if self.spec.head else None)

    def read_out(self, hidden: Tensor) -> Tensor:
        """What the head makes of hidden states (…, W), or these where there is none."""
        return self.head(hidden) if self.spec.head else hidden

    def hidden(
        self,
        input_ids: Tensor | None,
        state: Batch | None = None,
        lengths: Tensor | None = None,
        encoded: Encoded | None = None,
        documents: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        seen: list[Tensor] | None = None,
        yielded: dict[int, dict[str, Any]] | None = None,
    ) -> Tensor:
        """As `forward`, up to the head: (B, T, W). The ids are the decoder's, `encoded` what its encoder has made of
        another text; a state has kept that. `seen` gets the stream before the first layer and after each,
        `yielded` what each layer yields besides."""
        new = input_ids if inputs_embeds is None else inputs_embeds
        if new is None or (input_ids is not None and inputs_embeds is not None):
            raise InputError("give the new tokens as input_ids, or their embeddings as inputs_embeds")
        counts = self._counts(new, lengths, self.spec.embedding.vocab)
        if documents is not None and (state is not None or self.spec.encoder or documents.shape != new.shape[:2]):
            raise InputError("documents are given for every token of packed rows (B, T), to a decoder without a state")
        if positions is not None:
            check_positions(self, positions, new.shape[:2])
        if state is not None:
            if len(state.sequences) != len(new):
                raise InputError(f"the state is for {len(state.sequences)} sequences, got {len(new)}")
            rows = None if positions is None else [positions[:, i, :count] for i, count in enumerate(counts)]
            return padded(advance(self, state.sequences, counts, meant(new, counts), rows), counts, new.shape[1])
        self.check_length(max(counts))
        if self.spec.encoder is None:
            call = whole_call(self.all_needs, new, self.dtype, documents=documents, turns=positions)
            return self.run(new, call, seen, yielded)
        if encoded is None:
            raise InputError(f"the encoder of {self.spec.name} has read nothing yet: give input_ids too")
        if len(encoded.lengths) != len(new):
            raise InputError(f"the encoder has read {len(encoded.lengths)} texts, and the decoder has {len(new)} rows")
        entries = [StepEntry(new.shape[1], None, length) for length in encoded.lengths]
        call = call_of(self.all_needs, entries, new.device, self.dtype, encoded.parts)
        return self.run(call.laid(new.flatten(0, 1)), call, seen).view(*new.shape[:2], -1)

    @torch.no_grad()
    def step(self, entries: Iterable[tuple[Sequence, Any, str]]) -> list[Tensor | None]:
        """Adds new tokens to any number of sequences, in one pass in which nothing is padded.

        Args:
            entries: (sequence, its new token ids or `Embedded`, what is wanted of it): "last" for the logits after the
                last of them, "all" for those after each, "none".

        Returns for each (1, V), (T, V) or None. Raises InputError, before anything is done, for ids out of range, a
        sequence without room, given twice, or of another model.
        """
        return step(self, entries)

    @torch.no_grad()
    def draft(self, entries: Iterable[tuple[Sequence, int]], count: int) -> list[list[int]]:
        """The tokens that the layers for multi-token prediction expect, the most probable ones.

        Args:
            entries: (sequence made with draft=True, the token that comes next in it and was not stepped yet).
            count: how many to draft at most; fewer where a sequence has no room for so many, or no slack to return.

        Returns for each those after its token. The sequences stay as they are. Raises InputError for an empty sequence,
        ids out of range, and sequences that do not draft.
        """
        return draft(self, entries, count)

    def outputs(self, input_ids: Tensor, documents: Tensor | None = None) -> Outputs:
        """As `forward` without a state, with all that training may ask for."""
        yielded: dict[int, dict[str, Any]] = {}
        hidden = self.hidden(input_ids, documents=documents, yielded=yielded)
        routing = {i: kinds["routing"] for i, kinds in yielded.items() if "routing" in kinds}
        scores = {i: kinds["index_scores"][0] for i, kinds in yielded.items() if "index_scores" in kinds}
        return Outputs(self.read_out(hidden), hidden, routing, scores)

    def ahead(self, input_ids: Tensor) -> list[Tensor]:
        """What the layers for multi-token prediction say: logits (B, T − 1 − k, V) of module k, whose entry t is for
        the token t + 2 + k. It sees the tokens up to t + 1 + k and the hidden states of the module before it."""
        return [self.read_out(each) for each in self.hidden_ahead(input_ids, self.hidden(input_ids))]

    def hidden_ahead(
        self,
        input_ids: Tensor,
        hidden: Tensor,
        documents: Tensor | None = None,
        yielded: dict[int, dict[str, Any]] | None = None,
    ) -> list[Tensor]:
        """As `ahead`, up to the head, from the model's own hidden states (B, T, W).

        In packed rows an entry that would join two documents is one of its own: nobody else sees it, and what it says
        means nothing. `yielded` gets what each module yields besides.
        """
        found, alone = [], None
        for k, module in enumerate(self.mtp if self.spec.mtp else ()):
            ids, hidden = input_ids[:, k + 1 :], hidden[:, :-1]
            if documents is not None:
                alone = apart(documents, k + 1)
            call = whole_call(self.mtp_needs[k], ids, self.dtype, start=k + 1, documents=alone)
            if ids.shape[1]:
                gives = None if yielded is None else yielded.setdefault(k, {})
                hidden = module(self.embed(ids), hidden, replace(call, ids=ids), gives)
            found.append(hidden)
        return found

    @torch.no_grad()
    def hidden_states(self, input_ids: Tensor, encoded: Encoded | None = None) -> list[Tensor]:
        """The residual stream (B, T, W) after the embedding and after each layer, the last one normed; several streams
        (n, B, T, W) are left as they are."""
        seen: list[Tensor] = []
        last = self.hidden(input_ids, encoded=encoded, seen=seen)
        return seen if self.spec.ends else [*seen[:-1], last]

    def run(
        self,
        new: Tensor,
        call: Call,
        seen: list[Tensor] | None = None,
        yielded: dict[int, dict[str, Any]] | None = None,
    ) -> Tensor:
        """New tokens (B, T), or their embeddings (B, T, W), as they lie in the pass -> the stream after the final norm,
        (B, T, W)."""
        x = new if new.is_floating_point() else self.embed(new)
        if self.all_needs.ids:
            if new.is_floating_point():
                raise InputError(f"the layers of {self.spec.name} read token ids: give input_ids")
            call = replace(call, ids=new)
        inputs = self.embedding.per_layer(new, x) if self.spec.embedding.per_layer else None
        if self.spec.positions:
            x = x + self.positions(call.positions)
        x = self.ends.widen(x) if self.spec.ends else x
        x = self.edges.run(self.layers, x, call, inputs, seen, yielded)
        return self.final_norm(self.ends.narrow(x) if self.spec.ends else x)

    def sequence(
        self, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None, draft: bool = False
    ) -> Sequence:
        """An empty sequence of up to `capacity` tokens (the model's context, if None).

        `slack` is how many tokens windowed layers keep beyond their window, so that `rewind` can go back that far;
        `encoder_capacity` how many tokens an encoder may read (as many as `capacity`, if None). With `draft` the layers
        for multi-token prediction have a state too: `slack` is then at least `spec.DRAFTS`. Raises InputError where
        there are none.
        """
        return self.new_state(1, capacity, slack, encoder_capacity, draft).sequences[0]

    def new_state(
        self,
        batch: int = 1,
        capacity: int | None = None,
        slack: int = 0,
        encoder_capacity: int | None = None,
        draft: bool = False,
    ) -> Batch:
        """`batch` empty sequences that go on together, and each as `sequence` makes it."""
        capacity = self.spec.context if capacity is None else capacity
        encoder_capacity = capacity if encoder_capacity is None else encoder_capacity
        if batch < 1 or min(capacity, encoder_capacity) < 1 or slack < 0:
            raise InputError(f"a state needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        store = self.store(batch, capacity, slack, encoder_capacity, draft)
        return Batch(Sequence(store, row) for row in range(batch))

    def store(
        self, rows: int, capacity: int, slack: int, encoder_capacity: int, draft: bool, device: str | None = None
    ) -> Store:
        """The memory of so many sequences, on the model's device if None: see `sequence`."""
        if draft:
            check_drafts(self.spec)
        declared = self.draft_states if draft else self.states
        slack = max(slack, spec.DRAFTS) if draft else slack
        where = self.device if device is None else torch.device(device)
        return Store(declared, rows, capacity, slack, encoder_capacity, self.dtype, where, draft)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, where the architecture does not fix another."""
        return self._table.dtype

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._table.device

    @property
    def _table(self) -> Tensor:
        """A row for each token."""
        return self.head.weight if self.spec.embedding.tied else self.embedding.weight

    def _counts(self, new: Tensor, lengths: Tensor | None, vocab: int) -> list[int]:
        """How many of each row's tokens are meant, after all has been checked."""
        if new.ndim == 3 and new.is_floating_point() and new.shape[1] and new.shape[2] == self.width:
            pass
        elif new.ndim != 2 or new.shape[1] == 0 or new.dtype not in (torch.int64, torch.int32):
            raise InputError(f"input_ids must be integers (B, T) with T ≥ 1, got {new.dtype} {tuple(new.shape)}")
        batch, tokens = new.shape[:2]
        counts = [tokens] * batch
        if torch.compiler.is_compiling():  # what follows depends on data
            return counts
        check_ids(new, vocab)
        if lengths is not None:
            counts = [int(n) for n in lengths.tolist()]
            if len(counts) != batch or not all(1 <= n <= tokens for n in counts):
                raise InputError(f"lengths must be {batch} numbers from 1 to {tokens}, got {counts}")
        return counts

    def check_length(self, tokens: int) -> None:
        """Raises InputError where learned positions end before."""
        if self.spec.positions and tokens > self.spec.context:
            raise InputError(f"{tokens} tokens, but the model has learned {self.spec.context} positions only")


def apart(documents: Tensor, ahead: int) -> Tensor:
    """The documents (B, T − ahead) of entries that join a token with one so far ahead: those that would join two
    documents have numbers of their own."""
    runs = F.pad((documents[:, 1:] != documents[:, :-1]).long().cumsum(1), (1, 0))
    first, second = runs[:, : runs.shape[1] - ahead], runs[:, ahead:]
    own = -1 - torch.arange(first.shape[1], device=documents.device)
    return torch.where(first == second, second, own)


def needs_of(model: nn.Module) -> Needs:
    """What all parts ask of every pass; those for multi-token prediction have passes of their own."""
    named = model.named_modules()
    parts = [part for name, part in named if isinstance(part, Twin) and not name.startswith("mtp.")]
    return replace(Needs.together(part.needs() for part in parts), ids=any(part.spec.reads_ids for part in parts))


def states_of(model: nn.Module) -> dict[str, dict[str, spec.StateEntry]]:
    """Canonical path -> what that part keeps."""
    parts = {part.path: part.spec.state() for part in model.modules() if isinstance(part, Twin)}
    return {path: declared for path, declared in parts.items() if declared and not path.startswith("mtp.")}
