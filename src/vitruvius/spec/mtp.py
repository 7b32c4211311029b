"""Multi-token prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Axis, Part, PerToken, Spec, StateEntry, Weight, linear, slots, walk, width_axis
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

    def draft_state(self, width: int, path: str) -> dict[str, dict[str, StateEntry]]:
        """Canonical path -> name -> what a sequence that drafts keeps of the module at `path`: the hidden state before
        the next token (as a window of two keeps the one before), and what its layer remembers."""
        nodes = {node.path: node.spec.state() for node in walk(self.layer, width, f"{path}.layer")}
        hidden: dict[str, StateEntry] = {"hidden": PerToken((width_axis(width),), window=2, kind="hidden")}
        return {path: hidden} | {place: entries for place, entries in nodes.items() if entries}

    def weights(self, width: int) -> dict[str, Weight]:
        return linear(
            "join",
            width_axis(width),
            (Axis("embedding", width, cut="replicated"), Axis("hidden", width, cut="replicated")),
        )
