"""Encoders of T5's kind: the stack itself, what a decoder reads of it, and the relative positions that both use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import Axis, Part, Size, Spec, Weight, linear, slots, width_axis

if TYPE_CHECKING:
    from .decoder import Embedding, Layer, Norm


@dataclass(frozen=True, kw_only=True)
class RelativeBias(Spec):
    """A number for each head and distance, added to the scores. Shaw et al. 2018, arXiv 1803.02155, in T5's form
    (Raffel et al. 2019, arXiv 1910.10683, section 2.1).

    Distances share `buckets` rows of a table: the near half of them one each, the far ones logarithmically up to
    `max_distance`, and all beyond it the last. A `bidirectional` one has half of its rows for keys after the query; the
    other gives them all the distance 0.
    """

    buckets: Size
    max_distance: Size
    bidirectional: bool

    part: ClassVar[str] = "positions"

    @property
    def exact(self) -> int:
        """The distances from 0 on, in one direction, that have a row of their own."""
        return self.buckets // (4 if self.bidirectional else 2)

    def check(self) -> None:
        if not 1 <= self.exact < self.max_distance:
            raise ValueError(
                f"{self.buckets} buckets of relative positions cannot reach to a distance of {self.max_distance}"
            )

    def weights(self, width: int) -> dict[str, Weight]:
        """`width` is the number of heads here."""
        return {"weight": Weight(((Axis("buckets", self.buckets),), (Axis("heads", width),)), role="table")}


@dataclass(frozen=True, kw_only=True)
class LayerBias(Spec):
    """The relative bias of an earlier `layer` of the same stack: T5 has one table for all layers."""

    layer: int


@dataclass(frozen=True, kw_only=True)
class EncoderKeyValue(Spec):
    """Keys and values of the encoder's output, for cross-attention. They are made once for a sequence, whatever the
    decoder goes on to write. Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3."""

    heads: Size
    head_dim: Size
    v_dim: Size

    once: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"k": "k_proj", "v": "v_proj"}

    def weights(self, width: int) -> dict[str, Weight]:
        k, v = (Axis("kv_heads", self.heads, self.head_dim),), (Axis("kv_heads", self.heads, self.v_dim),)
        return linear("k", k, width_axis(width)) | linear("v", v, width_axis(width))


@dataclass(frozen=True, kw_only=True)
class Encoder(Spec):
    """A stack that reads a whole text at once, each token seeing all others, for a decoder's cross-attention."""

    embedding: Embedding
    layers: tuple[Layer, ...]
    final_norm: Norm

    part: ClassVar[str] = "norms"
    once: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"embedding": "embed_tokens", "final_norm": "final_layer_norm"}

    def check(self) -> None:
        if not self.layers:
            raise ValueError("an encoder needs at least one layer")

    def parts(self, width: int) -> dict[str, Part]:
        parts = slots(width, embedding=self.embedding)
        parts |= slots(width, **{f"layers.{i}": layer for i, layer in enumerate(self.layers)})
        return parts | slots(width, final_norm=self.final_norm)
