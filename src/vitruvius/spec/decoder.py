"""Layers around the residual stream, and the encoder and decoder that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from .base import Axis, Exchange, Part, Size, Spec, Weight, linear, slots, width_axis
from .norm import LayerNorm, RMSNorm
from .position import LearnedPositions
from .registry import displayed
from .stream import Ends, PerLayerEmbedding, Residual

Norm = LayerNorm | RMSNorm
Body = Spec  # anything that takes and gives the stream: a mixer, a feed-forward layer, several side by side


@dataclass(frozen=True, kw_only=True)
class Scale(Spec):
    """factor · x, where others have a norm (μP multipliers: Yang et al. 2022, arXiv 2203.03466)."""

    factor: float


@dataclass(frozen=True, kw_only=True)
class Branch(Spec):
    """x ← skip · x + scale · post(body(pre(x))).

    Pre-norm, post-norm inside the residual (OLMo 2) and sandwich norms (Gemma 2) are positions, not kinds.
    """

    name: str
    body: Body
    pre: Norm | Scale | None = None
    post: Norm | None = None
    scale: float = 1.0
    skip: float = 1.0

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, pre=self.pre, body=self.body, post=self.post)

    def activations(self, width: int) -> int:
        """The stream, and its normed copies."""
        return width * (1 + (self.pre is not None) + (self.post is not None))


@dataclass(frozen=True, kw_only=True)
class Parallel(Spec):
    """Σ scale · post(body(pre(x))): named branches that all see the same input; the branch around them holds the skip.

    Attention beside a recurrence (Falcon-H1, arXiv 2507.22448), a low-rank residual beside attention (LAuReL, arXiv
    2411.07501).
    """

    branches: tuple[Branch, ...]

    mixes: ClassVar[bool] = True

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, **{branch.name: branch for branch in self.branches})


@dataclass(frozen=True, kw_only=True)
class Layer(Spec):
    """Named branches, one after the other: usually `mixer` (tokens meet) and `mlp` (channels meet); and the
    residual `around` them all, if it is not one plain stream that they add to."""

    branches: tuple[Branch, ...]
    around: Residual | None = None

    part: ClassVar[str] = "norms"
    rerun: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "mixer.pre": "input_layernorm",
        "mixer.body": "self_attn",
        "mixer.post": "post_attention_layernorm",
        "mlp.pre": "post_attention_layernorm",
        "mlp.body": "mlp",
        "mlp.post": "post_feedforward_layernorm",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "mixer.pre": "attn_norm",
        "mixer.body": "",
        "mixer.post": "post_attention_norm",
        "mlp.pre": "ffn_norm",
        "mlp.body": "",
        "mlp.post": "post_ffw_norm",
        "around": "",
    }

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, **{branch.name: branch for branch in self.branches}, around=self.around)

    def ends(self) -> Ends | None:
        """Where the several streams that it meets begin and end, None where there is one."""
        return self.around.ends() if self.around else None


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
class Head(Spec):
    """softcap(scale · x Wᵀ): a logit for each token."""

    vocab: Size
    softcap: float | None = None
    scale: float = 1.0

    part: ClassVar[str] = "head"
    unpacked: ClassVar[bool] = True
    quantized: ClassVar[Mapping[str, str | None]] = {"weight": "head"}

    def weights(self, width: int) -> dict[str, Weight]:
        return {"weight": Weight(((Axis("vocab", self.vocab, cut="vocabulary"),), width_axis(width)))}

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("gather", self.vocab),)


@dataclass(frozen=True, kw_only=True)
class MTP(Spec):
    """Multi-token prediction: one more layer that sees the last hidden state and the next token's embedding, and
    predicts the token after it through the model's own embedding and head. DeepSeek-V3, arXiv 2412.19437, section
    2.2."""

    layer: Layer
    norm: RMSNorm

    part: ClassVar[str] = "mtp"
    unpacked: ClassVar[bool] = True

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, embedding_norm=self.norm, hidden_norm=self.norm, layer=self.layer, final_norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        return linear(
            "join",
            width_axis(width),
            (Axis("embedding", width, cut="replicated"), Axis("hidden", width, cut="replicated")),
        )


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
        encoder: what reads the text that is to be answered, for the layers that look across to it.
    """

    name: str = field(compare=False)
    family: str
    width: Size
    context: Size
    embedding: Embedding
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Head
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
        if self.embedding.vocab != self.head.vocab and self.embedding.tied:
            raise ValueError(f"a tied head needs the embedding's {self.embedding.vocab} tokens, not {self.head.vocab}")
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
    def streams(self) -> int:
        """How many residual streams there are between the ends."""
        return self.ends.streams if self.ends else 1

    def parts(self, width: int) -> dict[str, Part]:
        parts = slots(width, encoder=self.encoder, embedding=self.embedding, positions=self.positions, ends=self.ends)
        parts |= slots(width, **{f"layers.{i}": layer for i, layer in enumerate(self.layers)})
        parts |= slots(width, final_norm=self.final_norm, head=self.head)
        return parts | slots(width, **{f"mtp.{i}": module for i, module in enumerate(self.mtp)})
