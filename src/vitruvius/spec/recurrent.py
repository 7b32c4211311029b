"""Mixers whose memory does not grow with the sequence: a short convolution, and a matrix for each head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import (
    Axis,
    Dimension,
    Drawn,
    Exchange,
    Fixed,
    Part,
    Size,
    Spec,
    StateEntry,
    Weight,
    linear,
    slots,
    vector,
    width_axis,
)
from .feedforward import Activation
from .norm import GatedNorm

# An untrained memory keeps 0.99 of itself from one token to the next: exp(−A · softplus(dt_bias)) with A = 1, and the
# geometric middle of the time steps that Mamba-2 begins with, 0.001 to 0.1 (arXiv 2312.00752, section 3.6).
DT_BIAS = -4.6
STEPS = Drawn(0.001, 0.1, "inverse_softplus")


@dataclass(frozen=True, kw_only=True)
class Convolution(Spec):
    """act(b + Σᵢ wᵢ · x₍t−i₎), each channel by itself over its last `kernel` inputs. What comes next sees a few
    tokens at once (Fu et al. 2022, arXiv 2212.14052, section 3.1). Its owner holds the weights, and all but one of
    the inputs as state."""

    kernel: Size
    act: Activation | None = None
    bias: bool = False

    def held(self, channels: Dimension, drawn: Drawn | None = None) -> dict[str, Weight]:
        """The weights over `channels`, as `torch.nn.Conv1d` shapes them. They multiply every token."""
        kernel = (Axis("inputs", 1, cut="replicated"),), (Axis("kernel", self.kernel, cut="replicated"),)
        weights = {"conv": Weight((channels, *kernel), drawn=drawn)}
        return weights | {"conv_bias": vector(channels, initial=0.0)} if self.bias else weights

    def inputs(self, channels: Dimension) -> Fixed:
        """The inputs that the next token still needs, the oldest first."""
        return Fixed(((Axis("inputs", self.kernel - 1, cut="replicated"),), channels), kind="inputs")


def _memory(heads: int, rows: int, columns: int, dtype: str | None) -> Fixed:
    """A matrix for each head."""
    matrix = (Axis("rows", rows, cut="replicated"),), (Axis("columns", columns, cut="replicated"),)
    return Fixed(((Axis("heads", heads, cut="heads"),), *matrix), dtype=dtype)


def _decay(heads: Axis, steps: Axis, decay: Drawn) -> dict[str, Weight]:
    """What turns a projection a into a log decay, −exp(A_log) · softplus(a + dt_bias). Dao and Gu 2024, arXiv
    2405.21060. Time steps begin as there, decays as the code of each paper has them (fla-org/flash-linear-attention,
    layers/gated_deltanet.py and kda.py; state-spaces/mamba, modules/mamba2.py). transformers' Qwen3-Next begins with
    a bias of 1, which leaves nothing of a memory after a few tokens."""
    return {"A_log": vector((heads,), 0.0, decay), "dt_bias": vector((steps,), DT_BIAS, STEPS)}


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(Spec):
    """A linear memory S that forgets and corrects: S ← αS, then S ← S + k (β (v − kᵀS))ᵀ, and the output is qᵀS, normed
    and gated. Yang et al. 2024, arXiv 2412.06464; the delta rule is Widrow and Hoff's.

    Each head of queries and keys, of length 1, serves `v_heads / k_heads` consecutive memories.

    Args:
        conv: of queries, keys and values, before they are split into heads.
        norm: of each head's output, gated.
        beta_scale: β = beta_scale · σ(b). With 2 the memory's eigenvalues may be negative (Grazzi et al. 2024, arXiv
            2411.12537).
        memory_dtype: where the architecture fixes it.
    """

    k_heads: Size
    v_heads: Size
    k_dim: Size
    v_dim: Size
    conv: Convolution
    norm: GatedNorm
    beta_scale: float = 1.0
    memory_dtype: str | None = None

    part: ClassVar[str] = "recurrence"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "gate": "g_proj",
        "beta": "b_proj",
        "decay": "a_proj",
        "conv": "conv1d.weight",
        "conv_bias": "conv1d.bias",
        "o": "out_proj",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "conv": "ssm_conv1d.weight",
        "conv_bias": "ssm_conv1d.bias",
        "gate": "attn_gate",
        "beta": "ssm_beta",
        "decay": "ssm_alpha",
        "A_log": "ssm_a",
        "dt_bias": "ssm_dt.bias",
        "norm": "ssm_norm",
        "o": "ssm_out",
    }

    def check(self) -> None:
        if self.v_heads % self.k_heads:
            raise ValueError(f"{self.k_heads} key heads cannot serve {self.v_heads} value heads evenly")

    @property
    def channels(self) -> Dimension:
        """Queries, keys and values side by side."""
        k = Axis("k_heads", self.k_heads, self.k_dim, cut="kv_heads")
        return (k, k, Axis("heads", self.v_heads, self.v_dim, cut="heads"))

    def parts(self, width: int) -> dict[str, Part]:
        return slots(self.v_dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, (q, k, v) = width_axis(width), self.channels
        heads = Axis("heads", self.v_heads, cut="heads")
        weights = linear("q", (q,), stream) | linear("k", (k,), stream) | linear("v", (v,), stream)
        weights |= self.conv.held(self.channels)
        decay = _decay(heads, heads, Drawn(0.01, 16.0, "log"))
        weights |= linear("beta", (heads,), stream) | linear("decay", (heads,), stream) | decay
        return weights | linear("gate", (v,), stream) | linear("o", stream, (v,))

    def state(self) -> dict[str, StateEntry]:
        memory = _memory(self.v_heads, self.k_dim, self.v_dim, self.memory_dtype)
        return {"conv": self.conv.inputs(self.channels), "memory": memory}

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """Of the step from token to token: kᵀS, k ⊗ u and qᵀS are a multiply-add each for every entry of S. Prefill in
        chunks does other work for the same result."""
        return 6 * self.v_heads * self.k_dim * self.v_dim * tokens

    def work_axis(self) -> Axis:
        return Axis("heads", self.v_heads, cut="heads")

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class KimiDelta(Spec):
    """Kimi Delta Attention: Gated DeltaNet with a decay for every channel of a key, S ← diag(α) S, and a sigmoid gate,
    both made through `gate_rank` channels. Kimi Team 2025, arXiv 2510.26692, section 3.

    Args:
        conv: of queries, keys and values.
        norm: of each head's output, gated.
        memory_dtype: where the architecture fixes it.
    """

    heads: Size
    head_dim: Size
    gate_rank: Size
    conv: Convolution
    norm: GatedNorm
    memory_dtype: str | None = None

    part: ClassVar[str] = "recurrence"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "conv": "conv1d.weight",
        "conv_bias": "conv1d.bias",
        "decay_a": "f_a_proj",
        "decay_b": "f_b_proj",
        "beta": "b_proj",
        "gate_a": "g_a_proj",
        "gate_b": "g_b_proj",
        "norm": "o_norm",
        "o": "o_proj",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "decay_a": "ssm_f_a",
        "decay_b": "ssm_f_b",
        "beta": "ssm_beta",
        "gate_a": "ssm_g_a",
        "gate_b": "ssm_g_b",
        "A_log": "ssm_a",
        "dt_bias": "ssm_dt.bias",
        "norm": "ssm_norm",
        "o": "attn_output",
    }

    @property
    def channels(self) -> Dimension:
        """Queries, keys and values side by side."""
        head = Axis("heads", self.heads, self.head_dim, cut="heads")
        return (head, head, head)

    def parts(self, width: int) -> dict[str, Part]:
        return slots(self.head_dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, (q, k, v) = width_axis(width), self.channels
        rank, heads = (Axis("gate_rank", 1, self.gate_rank, cut="replicated"),), Axis("heads", self.heads, cut="heads")
        weights = linear("q", (q,), stream) | linear("k", (k,), stream) | linear("v", (v,), stream)
        weights |= self.conv.held(self.channels)
        weights |= linear("decay_a", rank, stream) | linear("decay_b", (k,), rank)
        weights |= _decay(heads, k, Drawn(1.0, 16.0, "log"))
        weights |= linear("beta", (heads,), stream)
        return weights | linear("gate_a", rank, stream) | linear("gate_b", (v,), rank) | linear("o", stream, (v,))

    def state(self) -> dict[str, StateEntry]:
        memory = _memory(self.heads, self.head_dim, self.head_dim, self.memory_dtype)
        return {"conv": self.conv.inputs(self.channels), "memory": memory}

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """Of the step from token to token, as in GatedDeltaNet."""
        return 6 * self.heads * self.head_dim**2 * tokens

    def work_axis(self) -> Axis:
        return Axis("heads", self.heads, cut="heads")

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class Mamba2(Spec):
    """A state space with one decay for each head: S ← exp(−A·dt) S + dt · b ⊗ x, and the output is cᵀS + D·x, gated and
    normed. Dao and Gu 2024, arXiv 2405.21060, sections 6 and 7.

    One projection gives the gate, x, b, c and dt, in this order. x, b and c pass through the convolution; b and c are
    shared by a group of heads, as keys and queries are elsewhere.

    Args:
        norm: gated; without it the output is only gated, by SiLU.
        dt_limit: dt = softplus(its projection + dt_bias), cut off at these two; None is no limit. transformers forgets
            them when it decodes.
        multipliers: of the gate, x, b, c and dt as they are projected (Falcon-H1, arXiv 2507.22448, section 3.4).
        memory_dtype: where the architecture fixes it.
    """

    heads: Size
    head_dim: Size
    groups: Size
    state_dim: Size
    conv: Convolution
    norm: GatedNorm | None
    in_bias: bool = False
    out_bias: bool = False
    dt_limit: tuple[float, float | None] = (0.0, None)
    multipliers: tuple[float, ...] | None = None
    memory_dtype: str | None = None

    part: ClassVar[str] = "recurrence"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"conv": "conv1d.weight", "conv_bias": "conv1d.bias"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "in_proj": "ssm_in",
        "conv": "ssm_conv1d.weight",
        "conv_bias": "ssm_conv1d.bias",
        "A_log": "ssm_a",
        "dt_bias": "ssm_dt.bias",
        "norm": "ssm_norm",
        "D": "ssm_d",
        "out_proj": "ssm_out",
    }

    def check(self) -> None:
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} heads cannot share {self.groups} groups evenly")
        if self.multipliers is not None and len(self.multipliers) != 5:
            raise ValueError(f"multipliers are five, of the gate, x, b, c and dt, got {self.multipliers!r}")

    @property
    def channels(self) -> Dimension:
        """x, b and c side by side."""
        group = Axis("groups", self.groups, self.state_dim, cut="groups")
        return (Axis("heads", self.heads, self.head_dim, cut="heads"), group, group)

    def parts(self, width: int) -> dict[str, Part]:
        return slots(self.heads * self.head_dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, x, heads = width_axis(width), self.channels[0], Axis("heads", self.heads, cut="heads")
        weights = linear("in_proj", (x, *self.channels, heads), stream, self.in_bias)
        bound = self.conv.kernel**-0.5  # as torch.nn.Conv1d begins
        weights |= self.conv.held(self.channels, Drawn(-bound, bound))
        weights |= _decay(heads, heads, Drawn(through="log_steps")) | {"D": vector((heads,), initial=1.0)}
        return weights | linear("out_proj", stream, (x,), self.out_bias)

    def state(self) -> dict[str, StateEntry]:
        memory = _memory(self.heads, self.state_dim, self.head_dim, self.memory_dtype)
        return {"conv": self.conv.inputs(self.channels), "memory": memory}

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """Of the step from token to token: b ⊗ x and cᵀS are a multiply-add each for every entry of S."""
        return 4 * self.heads * self.state_dim * self.head_dim * tokens

    def work_axis(self) -> Axis:
        return Axis("heads", self.heads, cut="heads")

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)


@dataclass(frozen=True, kw_only=True)
class ShortConv(Spec):
    """out_proj(c · conv(b · x)), where one projection gives b, c and x of `dim` channels each (LFM2, arXiv
    2511.23404)."""

    dim: Size
    conv: Convolution
    bias: bool = False

    part: ClassVar[str] = "recurrence"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {"conv": "conv.weight", "conv_bias": "conv.bias"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "in_proj": "shortconv.in_proj",
        "conv": "shortconv.conv.weight",
        "conv_bias": "shortconv.conv.bias",
        "out_proj": "shortconv.out_proj",
    }

    @property
    def channels(self) -> Dimension:
        return (Axis("channels", self.dim, cut="hidden"),)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, inner = width_axis(width), self.channels
        weights = linear("in_proj", inner * 3, stream, self.bias) | self.conv.held(inner)
        return weights | linear("out_proj", stream, inner, self.bias)

    def state(self) -> dict[str, StateEntry]:
        return {"conv": self.conv.inputs(self.channels)}

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)
