"""Sparse attention: a small scorer chooses which keys each query sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Axis, Part, PerToken, Size, Spec, StateEntry, Weight, linear, slots, width_axis
from .norm import LayerNorm
from .position import RoPE


@dataclass(frozen=True, kw_only=True)
class Indexer(Spec):
    """The lightning indexer: each query sees the `topk` keys before it with the highest Σₕ wₕ · relu(qₕ · k), where k
    is one key per token. DeepSeek-V3.2-Exp, deepseek-ai/DeepSeek-V3.2-Exp, DeepSeek_V3_2.pdf, section 2.1.

    Its queries are made from the latent queries of the attention it serves, `query_width` wide.
    """

    heads: Size
    dim: Size
    topk: Size
    query_width: Size
    norm: LayerNorm
    positions: RoPE | None

    part: ClassVar[str] = "indexer"
    window: ClassVar[int | None] = None
    spelling: ClassVar[Mapping[str, str]] = {"q": "wq_b", "k": "wk", "norm": "k_norm", "head_weights": "weights_proj"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "q": "attn_q_b",
        "k": "attn_k",
        "norm": "k_norm",
        "head_weights": "proj",
    }

    def parts(self, width: int) -> dict[str, Part]:
        return slots(self.dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, heads = width_axis(width), Axis("index_heads", self.heads, self.dim, cut="replicated")
        weights = linear("q", (heads,), (Axis("q_latent", 1, self.query_width, cut="replicated"),))
        weights |= linear("k", (Axis("index_key", 1, self.dim, cut="replicated"),), stream)
        return weights | linear("head_weights", (Axis("index_heads", self.heads, cut="replicated"),), stream)

    def state(self) -> dict[str, StateEntry]:
        return {"key": PerToken(((Axis("index_key", 1, self.dim, cut="replicated"),),), kind="indexer")}

    def pairs(self, context: int) -> int:
        """Pairs of a query and a key that it sees, among the first `context` positions."""
        return _pairs(self.topk, context)

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """Every earlier key is scored by every head, and the heads are summed."""
        pairs = context * (context + 1) // 2 - (context - tokens) * (context - tokens + 1) // 2
        return 2 * self.heads * (self.dim + 1) * pairs


@dataclass(frozen=True, kw_only=True)
class LayerIndexer(Spec):
    """The keys that the indexer of an earlier `layer` has chosen, `topk` for each query (GLM-5)."""

    layer: int
    topk: Size

    window: ClassVar[int | None] = None

    def pairs(self, context: int) -> int:
        """Pairs of a query and a key that it sees, among the first `context` positions."""
        return _pairs(self.topk, context)


def _pairs(topk: int, context: int) -> int:
    start = min(context, topk)
    return start * (start + 1) // 2 + (context - start) * topk
