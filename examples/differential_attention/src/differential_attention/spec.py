"""Differential attention: what it holds, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, prod
from typing import ClassVar

from vitruvius.spec import (
    Attention,
    Axis,
    Causal,
    Decoder,
    Exchange,
    KeyValue,
    Part,
    PerToken,
    RMSNorm,
    RoPE,
    Size,
    Spec,
    StateEntry,
    Weight,
    Window,
    edit,
    linear,
    noun,
    slots,
    width_axis,
)


@noun
@dataclass(frozen=True, kw_only=True)
class DifferentialAttention(Spec):
    """(softmax(q₁ k₁ᵀ) − λ softmax(q₂ k₂ᵀ)) v, `heads` times side by side: what both attend to cancels. Ye et al. 2024,
    arXiv 2410.05258, section 2.1.

    A head has two queries and two keys of `head_dim` channels, and a value of twice as many. λ = exp(λq₁ · λk₁) −
    exp(λq₂ · λk₂) + `lambda_init` is one number for a layer. Each head's output is normed, and multiplied by 1 −
    `lambda_init`.
    """

    heads: Size
    kv_heads: Size
    head_dim: Size
    lambda_init: float
    norm: RMSNorm
    mask: Causal | Window
    positions: RoPE | None = None

    part: ClassVar[str] = "attention"
    mixes: ClassVar[bool] = True

    def check(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot be shared evenly by {self.kv_heads} key/value heads")
        if self.positions and self.positions.dim > self.head_dim:
            raise ValueError(f"RoPE over {self.positions.dim} channels does not fit a query of {self.head_dim}")

    def parts(self, width: int) -> dict[str, Part]:
        return slots(2 * self.head_dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, pair = width_axis(width), 2 * self.head_dim
        heads = (Axis("heads", self.heads, pair, cut="heads"),)
        kv_heads = (Axis("kv_heads", self.kv_heads, pair, cut="kv_heads"),)
        channels = (Axis("channels", self.head_dim, cut="replicated"),)
        vectors = {f"lambda_{name}": Weight((channels,), role="vector") for name in ("q1", "k1", "q2", "k2")}
        matrices = linear("q", heads, stream) | linear("k", kv_heads, stream) | linear("v", kv_heads, stream)
        return matrices | linear("o", stream, heads) | vectors

    def state(self) -> dict[str, StateEntry]:
        heads = (Axis("kv_heads", self.kv_heads, cut="kv_heads"),)
        channels = (Axis("channels", 2 * self.head_dim, cut="replicated"),)
        return {name: PerToken((heads, channels), self.mask.window) for name in ("k", "v")}

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """Two scores of `head_dim` channels, and two sums of values twice as wide."""
        pairs = self.mask.pairs(context) - self.mask.pairs(context - tokens)
        return 2 * self.heads * (2 * self.head_dim + 2 * 2 * self.head_dim) * pairs

    def work_axis(self) -> Axis:
        return Axis("heads", self.heads, cut="heads")

    def reads(self, context: int) -> list[tuple[StateEntry, int]]:
        """The keys and values that a query sees, and the token's own."""
        seen = self.mask.pairs(context) - self.mask.pairs(context - 1)
        return [(entry, prod(entry.shape) * (seen + 1)) for entry in self.state().values()]

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


def lambda_init(layer: int) -> float:
    """0.8 − 0.6 · exp(−0.3 · layer), layers counted from 0."""
    return 0.8 - 0.6 * exp(-0.3 * layer)


def differential(tree: Decoder) -> Decoder:
    """The tree with differential attention in the place of its softmax attention: half as many heads, each twice as
    wide, so that there are as many weights (section 3.1). Raises ValueError where heads cannot be halved."""
    for i in range(len(tree.layers)):
        tree = edit(tree, f"layers.{i}.mixer.body", lambda old, layer=i: _instead(old, layer))
    return tree


def _instead(old: Attention, layer: int) -> DifferentialAttention:
    if not isinstance(old.kv, KeyValue) or old.kv.heads % 2 or not isinstance(old.mask, Causal | Window):
        raise ValueError("only plain attention with an even number of key/value heads can become differential")
    return DifferentialAttention(
        heads=old.heads // 2,
        kv_heads=old.kv.heads // 2,
        head_dim=old.head_dim,
        lambda_init=lambda_init(layer),
        norm=RMSNorm(eps=1e-5),
        mask=old.mask,
        positions=old.positions,
    )
