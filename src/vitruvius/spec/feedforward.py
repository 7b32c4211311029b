"""Feed-forward layers: plain, gated, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Axis, Part, Size, Spec, Weight, linear, slots, width_axis

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]


@dataclass(frozen=True, kw_only=True)
class MLP(Spec):
    """down(act(up(x))). Vaswani et al. 2017, arXiv 1706.03762, section 3.3."""

    dim: Size
    act: Activation
    bias: bool = False

    part: ClassVar[str] = "feed-forward"
    spelling: ClassVar[Mapping[str, str]] = {"up": "up_proj", "down": "down_proj"}

    def weights(self, width: int) -> dict[str, Weight]:
        stream, hidden = width_axis(width), (Axis("hidden", self.dim),)
        return linear("up", hidden, stream, self.bias) | linear("down", stream, hidden, self.bias)


@dataclass(frozen=True, kw_only=True)
class GatedMLP(Spec):
    """down(act(gate(x)) · up(x)). Shazeer 2020, arXiv 2002.05202 (SwiGLU with SiLU, GeGLU with GELU)."""

    dim: Size
    act: Activation
    bias: bool = False

    part: ClassVar[str] = "feed-forward"
    spelling: ClassVar[Mapping[str, str]] = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}

    def weights(self, width: int) -> dict[str, Weight]:
        stream, hidden = width_axis(width), (Axis("hidden", self.dim),)
        weights = linear("gate", hidden, stream, self.bias) | linear("up", hidden, stream, self.bias)
        return weights | linear("down", stream, hidden, self.bias)


@dataclass(frozen=True, kw_only=True)
class ExpertGroups(Spec):
    """Experts are chosen from the best `active` of `count` groups only. A group's score is that of its best expert
    (DeepSeek-V2, arXiv 2405.04434, section 2.2.2) or the sum of its best two (DeepSeek-V3, arXiv 2412.19437, section
    2.1.2)."""

    count: Size
    active: Size
    score: Literal["max", "top2_sum"]


@dataclass(frozen=True, kw_only=True)
class Router(Spec):
    """Scores the experts for a token, selects `active` of them and weighs them.

    Args:
        score: how logits become scores, over all experts.
        correction: a stored bias per expert that is added for selecting, never for weighing (arXiv 2408.15664).
        groups: limits the selection.
        normalize: the epsilon with which the chosen weights are divided by their sum; None leaves them as they are.
        scale: multiplies the weights at the end.
    """

    experts: Size
    active: Size
    score: Literal["softmax", "sigmoid"] = "softmax"
    correction: bool = False
    groups: ExpertGroups | None = None
    normalize: float | None = None
    scale: float = 1.0

    part: ClassVar[str] = "router"
    spelling: ClassVar[Mapping[str, str]] = {"correction": "e_score_correction_bias"}

    def check(self) -> None:
        if self.active > self.experts:
            raise ValueError(f"{self.active} experts per token, but there are only {self.experts}")
        if self.groups and (self.experts % self.groups.count or self.groups.active > self.groups.count):
            groups, chosen = self.groups.count, self.groups.active
            raise ValueError(f"{self.experts} experts cannot form {groups} equal groups of which {chosen} are chosen")
        if self.groups and self.active > self.experts // self.groups.count * self.groups.active:
            raise ValueError(f"{self.active} experts per token, but the chosen groups hold fewer")

    def weights(self, width: int) -> dict[str, Weight]:
        experts = (Axis("experts", self.experts),)
        weights = {"weight": Weight((experts, width_axis(width)))}
        if self.correction:
            weights["correction"] = Weight((experts,), role="buffer", initial=0.0)
        return weights


@dataclass(frozen=True, kw_only=True)
class MoE(Spec):
    """Σ wₑ(x) · expertₑ(x) over the chosen experts, plus the shared one. Shazeer et al. 2017, arXiv 1701.06538;
    DeepSeekMoE, arXiv 2401.06066."""

    router: Router
    expert: MLP | GatedMLP
    shared: MLP | GatedMLP | None = None

    part: ClassVar[str] = "experts"
    spelling: ClassVar[Mapping[str, str]] = {"router": "gate", "experts": "experts.{}", "shared": "shared_experts"}

    def parts(self, width: int) -> dict[str, Part]:
        router = self.router
        parts = slots(width, router=router)
        parts["experts"] = Part(self.expert, width, copies=router.experts, uses=router.active / router.experts)
        return parts | slots(width, shared=self.shared)
