"""What T5 brings to attention: biases for relative positions, and keys and values of an encoder's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from struct import pack, unpack
from typing import ClassVar

from .base import Axis, Size, Spec, Weight, linear, width_axis


def single(x: float) -> float:
    """The nearest float32."""
    (nearest,) = unpack("f", pack("f", x))
    return float(nearest)


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
    unpacked: ClassVar[bool] = True
    quantized: ClassVar[Mapping[str, str | None]] = {"weight": None}

    @property
    def exact(self) -> int:
        """The distances from 0 on, in one direction, that have a row of their own."""
        return self.buckets // (4 if self.bidirectional else 2)

    def rows(self) -> tuple[int, ...]:
        """The row of each distance in one direction, from 0 to `max_distance`; all beyond have the last.

        In float32 and in this order, as T5 has it: another rounding would move distances to the next row.
        """
        count = self.buckets // 2 if self.bidirectional else self.buckets
        whole = single(log(self.max_distance / self.exact))

        def row(far: int) -> int:
            share = single(single(log(single(far / self.exact))) / whole)
            return min(self.exact + int(single(share * (count - self.exact))), count - 1)

        return tuple(far if far < self.exact else row(far) for far in range(self.max_distance + 1))

    def check(self) -> None:
        if not 1 <= self.exact < self.max_distance:
            raise ValueError(
                f"{self.buckets} buckets of relative positions cannot reach to a distance of {self.max_distance}"
            )

    def weights(self, width: int) -> dict[str, Weight]:
        """`width` is the number of heads here."""
        return {
            "weight": Weight(
                ((Axis("buckets", self.buckets, cut="replicated"),), (Axis("heads", width, cut="heads"),)), role="table"
            )
        }


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

    encoder_side: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"k": "k_proj", "v": "v_proj"}

    def weights(self, width: int) -> dict[str, Weight]:
        k, v = (
            (Axis("kv_heads", self.heads, self.head_dim, cut="kv_heads"),),
            (Axis("kv_heads", self.heads, self.v_dim, cut="kv_heads"),),
        )
        return linear("k", k, width_axis(width)) | linear("v", v, width_axis(width))
