"""Feed-forward layers: plain, gated, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Axis, Exchange, Part, Size, Spec, Weight, linear, slots, vector, width_axis
from .norm import RMSNorm, UnitNorm

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]


@dataclass(frozen=True, kw_only=True)
class MLP(Spec):
    """down(act(up(x))). Vaswani et al. 2017, arXiv 1706.03762, section 3.3."""

    dim: Size
    act: Activation
    bias: bool = False

    part: ClassVar[str] = "feed-forward"
    spelling: ClassVar[Mapping[str, str]] = {"up": "up_proj", "down": "down_proj"}
    quantized: ClassVar[Mapping[str, str | None]] = {"up": "up", "down": "down"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"up": "ffn_up", "down": "ffn_down"}

    def weights(self, width: int) -> dict[str, Weight]:
        stream, hidden = width_axis(width), (Axis("hidden", self.dim, cut="hidden"),)
        return linear("up", hidden, stream, self.bias) | linear("down", stream, hidden, self.bias)

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class ClampedSwiGLU(Spec):
    """(up + offset) · gate · σ(alpha · gate), with gate clamped from above and up on both sides by `limit` (gpt-oss,
    gpt_oss/torch/model.py)."""

    limit: float
    alpha: float = 1.702
    offset: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GaussianTopK(Spec):
    """act(relu(x − mean − deviation · z)), where a share `sparsity` of a normal distribution lies below z: only about
    1 − sparsity of the channels stay active, without a sort. Spark Transformer's statistical top-k (You et al. 2025,
    arXiv 2506.06644, section 3), as Gemma 3n has it."""

    sparsity: float
    act: Activation

    def check(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ValueError(f"GaussianTopK.sparsity must lie between 0 and 1, got {self.sparsity}")


@dataclass(frozen=True, kw_only=True)
class GatedMLP(Spec):
    """down(act(gate_scale · gate(x)) · up(x)). Shazeer 2020, arXiv 2002.05202 (SwiGLU with SiLU, GeGLU with GELU)."""

    dim: Size
    act: Activation | ClampedSwiGLU | GaussianTopK
    bias: bool = False
    gate_scale: float = 1.0

    part: ClassVar[str] = "feed-forward"
    spelling: ClassVar[Mapping[str, str]] = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    quantized: ClassVar[Mapping[str, str | None]] = {"gate": "gate", "up": "up", "down": "down"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}

    def weights(self, width: int) -> dict[str, Weight]:
        stream, hidden = width_axis(width), (Axis("hidden", self.dim, cut="hidden"),)
        weights = linear("gate", hidden, stream, self.bias) | linear("up", hidden, stream, self.bias)
        return weights | linear("down", stream, hidden, self.bias)

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class ScalarGated(Spec):
    """σ(gate(x)) · body(x), one gate for a token (Qwen's shared expert, arXiv 2412.15115)."""

    body: MLP | GatedMLP

    spelling: ClassVar[Mapping[str, str]] = {"body": ""}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "body.gate": "ffn_gate_shexp",
        "body.up": "ffn_up_shexp",
        "body.down": "ffn_down_shexp",
    }

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, body=self.body)

    def weights(self, width: int) -> dict[str, Weight]:
        return linear("gate", (Axis("gates", 1, cut="replicated"),), width_axis(width))


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
        selection_bias: a stored bias per expert that is added for selecting, never for weighing (arXiv 2408.15664).
        groups: limits the selection.
        norm_topk_eps: the epsilon with which the chosen weights are divided by their sum; None leaves them as they
            are. A softmax over all that is normalised over the chosen is the softmax of the chosen (gpt-oss).
        scale: multiplies the weights at the end.
        norm: of what is scored.
        expert_scale: whether each expert's weight is multiplied by a learned number of its own.
        bias: of the logits.
        softcap: logits become softcap · tanh(logits / softcap).
        capacity: the most tokens of a sequence that an expert takes in one call, in their order; those beyond it get
            nothing from it (arXiv 2101.03961, section 2.2). A token on its own is never turned away, so a text that is
            read in several calls may fare otherwise than in one.
    """

    experts: Size
    active: Size
    score: Literal["softmax", "sigmoid"] = "softmax"
    selection_bias: bool = False
    groups: ExpertGroups | None = None
    norm_topk_eps: float | None = None
    scale: float = 1.0
    bias: bool = False
    softcap: float | None = None
    capacity: int | None = None
    norm: UnitNorm | None = None
    expert_scale: bool = False

    part: ClassVar[str] = "router"
    unpacked: ClassVar[bool] = True  # its near ties would turn by a rounding
    quantized: ClassVar[Mapping[str, str | None]] = {"weight": None}
    spelling: ClassVar[Mapping[str, str]] = {"selection_bias": "e_score_correction_bias"}

    def check(self) -> None:
        if self.active > self.experts:
            raise ValueError(f"{self.active} experts per token, but there are only {self.experts}")
        if self.groups and (self.experts % self.groups.count or self.groups.active > self.groups.count):
            groups, chosen = self.groups.count, self.groups.active
            raise ValueError(f"{self.experts} experts cannot form {groups} equal groups of which {chosen} are chosen")
        if self.groups and self.active > self.experts // self.groups.count * self.groups.active:
            raise ValueError(f"{self.active} experts per token, but the chosen groups hold fewer")
        if self.capacity is not None and self.capacity < 0:
            raise ValueError(f"an expert cannot take {self.capacity} tokens")

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        experts = (Axis("experts", self.experts, cut="replicated"),)  # every device scores all of them
        weights = {"weight": Weight((experts, width_axis(width)))}
        if self.selection_bias:
            weights["selection_bias"] = Weight((experts,), role="buffer", initial=0.0, dtype="float32")
        if self.bias:
            weights["bias"] = vector(experts, initial=0.0)
        if self.expert_scale:
            weights["expert_scale"] = vector(experts, initial=1.0)
        return weights


@dataclass(frozen=True, kw_only=True)
class MoE(Spec):
    """scale · (Σ wₑ(x) · expertₑ(x) over the chosen experts, plus the shared one). Shazeer et al. 2017, arXiv
    1701.06538; DeepSeekMoE, arXiv 2401.06066.

    Args:
        shared: an expert for every token, beside the chosen ones.
        weigh: what the router's weights multiply: an expert's output, or its input (Llama 4).
        norm: of what the experts get; the router gets the input as it is (Gemma 4).
        latent: the width that the routed experts work in, between a projection down and one up (Nemotron 3 Super).
        latent_bias: of these projections.
    """

    router: Router
    expert: MLP | GatedMLP
    shared: MLP | GatedMLP | ScalarGated | None = None
    weigh: Literal["output", "input"] = "output"
    latent: Size | None = None
    latent_bias: bool = False
    scale: float = 1.0
    norm: RMSNorm | None = None

    part: ClassVar[str] = "experts"
    headings: ClassVar[Mapping[str, str]] = {"experts": "experts", "shared": "shared experts"}
    spelling: ClassVar[Mapping[str, str]] = {"router": "gate", "experts": "experts.{}", "shared": "shared_experts"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "router.weight": "ffn_gate_inp.weight",
        "router.bias": "ffn_gate_inp.bias",
        "router.selection_bias": "exp_probs_b.bias",
        "experts.gate": "ffn_gate_exps",
        "experts.up": "ffn_up_exps",
        "experts.down": "ffn_down_exps",
        "latent_down": "ffn_latent_down",
        "latent_up": "ffn_latent_up",
        "shared.gate": "ffn_gate_shexp",
        "shared.up": "ffn_up_shexp",
        "shared.down": "ffn_down_shexp",
    }

    def parts(self, width: int) -> dict[str, Part]:
        router, inner = self.router, self.latent or width
        parts = slots(width, router=router, norm=self.norm)
        experts = Axis("experts", router.experts, cut="experts")
        parts["experts"] = Part(self.expert, inner, copies=experts, uses=router.active / router.experts)
        return parts | slots(width, shared=self.shared)

    def weights(self, width: int) -> dict[str, Weight]:
        if self.latent is None:
            return {}
        stream, latent = width_axis(width), (Axis("latent", 1, self.latent, cut="replicated"),)
        down = linear("latent_down", latent, stream, self.latent_bias)
        return down | linear("latent_up", stream, latent, self.latent_bias)

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        """Experts that are cut are summed with the shared one, and reduced once; those that are spread are not."""
        spread = Exchange("spread", self.latent or width, active=self.router.active, when="spread")
        shared = (Exchange("reduce", width, when="spread", slot="shared"),) if self.shared else ()
        return (Exchange("reduce", width, when="cut"), spread, *shared)

    def activations(self, width: int) -> int:
        """What the chosen experts get, and give."""
        return 2 * self.router.active * (self.latent or width)
