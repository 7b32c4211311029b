"""A layer: named branches around the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Part, Spec, slots
from .norm import LayerNorm, RMSNorm
from .stream import Ends, Residual

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
