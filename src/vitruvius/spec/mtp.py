"""Multi-token prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Axis, Part, Spec, Weight, linear, slots, width_axis
from .layer import Layer
from .norm import RMSNorm


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
