"""The encoder and the decoder, which hold the layers, and what is before and after these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from .base import Axis, Exchange, Part, Size, Spec, StateEntry, Weight, slots, width_axis
from .head import Classifier, Head
from .layer import Layer, Norm
from .mtp import MTP
from .position import LearnedPositions
from .registry import displayed
from .stream import Ends, PerLayerEmbedding


@dataclass(frozen=True, kw_only=True)
class Embedding(Spec):
    """A row for each token, times `scale`. A `tied` one has no table of its own: it looks rows up in the head's
    matrix. `per_layer` gives every layer an input of its own."""

    vocab: Size
    scale: float = 1.0
    tied: bool = False
    per_layer: PerLayerEmbedding | None = None

    part: ClassVar[str] = "embedding"
    unpacked: ClassVar[bool] = True  # rare tokens have little but their row

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, per_layer=self.per_layer)

    def weights(self, width: int) -> dict[str, Weight]:
        table = Weight(((Axis("vocab", self.vocab, cut="vocabulary"),), width_axis(width)), role="table")
        return {} if self.tied else {"weight": table}

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class Encoder(Spec):
    """A stack that reads a whole text at once, each token seeing all others, for a decoder's cross-attention."""

    embedding: Embedding
    layers: tuple[Layer, ...]
    final_norm: Norm

    part: ClassVar[str] = "norms"
    encoder_side: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"embedding": "embed_tokens", "final_norm": "final_layer_norm"}

    def check(self) -> None:
        if not self.layers:
            raise ValueError("an encoder needs at least one layer")

    def parts(self, width: int) -> dict[str, Part]:
        parts = slots(width, embedding=self.embedding)
        parts |= slots(width, **{f"layers.{i}": layer for i, layer in enumerate(self.layers)})
        return parts | slots(width, final_norm=self.final_norm)


@dataclass(frozen=True, kw_only=True, repr=False)
class Decoder(Spec):
    """A language model: a decoder, and the encoder that it looks across to, if it has one.

    Args:
        name: what to call it; not part of the architecture, so equal trees with other names are equal.
        family: the architecture file that reads its config.json and knows its tensor names.
        context: the longest sequence it is made for, in tokens.
        head: what says which token comes next, or which label fits; None in a model that only gives hidden states.
        encoder: what reads the text that is to be answered, for the layers that look across to it.
    """

    name: str = field(compare=False)
    family: str
    width: Size
    context: Size
    embedding: Embedding
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Head | Classifier | None
    positions: LearnedPositions | None = None
    mtp: tuple[MTP, ...] = ()
    encoder: Encoder | None = None

    part: ClassVar[str] = "norms"
    headings: ClassVar[Mapping[str, str]] = {"positions": "positions"}
    spelling: ClassVar[Mapping[str, str]] = {
        "embedding": "model.embed_tokens",
        "layers": "model.layers",
        "final_norm": "model.norm",
        "head": "lm_head",
        "ends": "model",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "embedding": "token_embd",
        "positions": "position_embd",
        "layers": "blk",
        "final_norm": "output_norm",
        "head": "output",
        "ends": "",
    }

    def check(self) -> None:
        vocab = self.head.vocab if isinstance(self.head, Head) else None
        if self.embedding.tied and self.embedding.vocab != vocab:
            raise ValueError(
                f"a tied embedding of {self.embedding.vocab} tokens needs a head of as many, not of {vocab}"
            )
        if self.mtp and vocab is None:
            raise ValueError("multi-token prediction needs a head that predicts tokens")
        if not self.layers:
            raise ValueError("a decoder needs at least one layer")
        if len({layer.ends() for layer in self.layers}) > 1:
            raise ValueError("all layers must have as many residual streams, which begin and end alike")

    def __repr__(self) -> str:
        size = f"{len(self.layers)} layers of width {self.width:,}"
        return f"<{type(self).__name__} {self.name}: {self.family}, {size}; print it, or see spec.to_json>"

    def __str__(self) -> str:
        return displayed(self, "text") or repr(self)

    def _repr_html_(self) -> str | None:
        return displayed(self, "html")

    @cached_property
    def ends(self) -> Ends | None:
        """Where the layers' several streams begin and end, None where there is one."""
        return self.layers[0].ends()

    @property
    def writes(self) -> bool:
        """Whether it says which token comes next."""
        return isinstance(self.head, Head)

    @property
    def output_width(self) -> int:
        """How many numbers it gives for each token: logits, scores of labels, or without a head the hidden state."""
        return self.head.outputs if self.head else self.width

    @property
    def streams(self) -> int:
        """How many residual streams there are between the ends."""
        return self.ends.streams if self.ends else 1

    def draft_state(self) -> dict[str, dict[str, StateEntry]]:
        """Canonical path -> name -> what a sequence that drafts keeps besides: of the modules for multi-token
        prediction."""
        kept = (module.draft_state(self.width, f"mtp.{k}") for k, module in enumerate(self.mtp))
        return {path: entries for module in kept for path, entries in module.items()}

    def parts(self, width: int) -> dict[str, Part]:
        parts = slots(width, encoder=self.encoder, embedding=self.embedding, positions=self.positions, ends=self.ends)
        parts |= slots(width, **{f"layers.{i}": layer for i, layer in enumerate(self.layers)})
        parts |= slots(width, final_norm=self.final_norm, head=self.head)
        return parts | slots(width, **{f"mtp.{i}": module for i, module in enumerate(self.mtp)})
